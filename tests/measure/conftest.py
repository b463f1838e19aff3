"""Every test here has a cache of its own."""

from tests.own_home import own_home

__all__ = ["own_home"]
