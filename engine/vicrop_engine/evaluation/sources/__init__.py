"""Where questions come from: the hub, a directory of its layout, a list of one's own, the built-in signs."""
