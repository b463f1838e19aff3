"""Checkpoints: found, fetched, described, and read a tensor at a time."""
