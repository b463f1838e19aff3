"""A package, so that Ray ends with the last of its tests and not with the last of all."""
