"""Builds the localizer models that are not part of an engine, one file each."""
