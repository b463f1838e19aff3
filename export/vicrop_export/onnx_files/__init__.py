"""Graphs exported, changed and written to files."""
