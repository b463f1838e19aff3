"""Runs of one shape again and again, for graphs that bind no memory of their caller's.

The counterpart of `graph.BoundStep`: what a run gives is copied to where the next one looks for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vicrop_engine.kv_cache import BoundGraph, Feed, Tensor


class RepeatedRun:
    """Runs of a bound graph from and into these feeds, by name; its results are copied into the arrays."""

    def __init__(self, bound: BoundGraph, feeds: Mapping[str, Feed]) -> None:
        self._bound, self._feeds = bound, feeds

    def run(self, changed: Mapping[str, Tensor]) -> None:
        """One run, with these tensors as inputs. Raises RunError."""
        for name, result in self._bound.run({**self._feeds, **changed}).items():
            held = self._feeds.get(name)
            if isinstance(held, np.ndarray):
                held[...] = result.numpy()
