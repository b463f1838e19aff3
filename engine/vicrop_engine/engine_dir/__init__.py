"""Engine directories: what they hold, whether it is whole, and which there are."""
