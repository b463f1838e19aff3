"""Where the new tokens of one pass stand and what each may look at: positions and attention bias.

Suffixes of one prefix may go through a pass side by side: each continues the prefix, blind to the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vicrop_engine.arrays import Floats, Ints


@dataclass(frozen=True)
class PackedPrompt:
    """The tokens of a prefix from `done` on, then suffixes of the lengths given, in this order.

    `done` tokens of the prefix are in the KV buffers already.
    """

    done: int
    prefix: int
    suffixes: tuple[int, ...]

    @property
    def num_new(self) -> int:
        """Tokens of this pass."""
        return self.prefix - self.done + sum(self.suffixes)

    @property
    def total(self) -> int:
        """Rows in use in the buffers after this pass."""
        return self.done + self.num_new

    @property
    def ends(self) -> Ints:
        """Index of each suffix's last token among the new tokens."""
        return np.cumsum((self.prefix - self.done, *self.suffixes), dtype=np.int64)[1:] - 1

    @property
    def position_ids(self) -> Ints:
        """[1, new]: every suffix goes on where the prefix ends."""
        parts = [np.arange(self.done, self.prefix)]
        parts += [np.arange(self.prefix, self.prefix + length) for length in self.suffixes]
        return np.concatenate(parts).astype(np.int64)[None]

    def bias(self) -> Floats:
        """[1, 1, new, total]: 0 where a new token may look and -inf elsewhere."""
        bias = np.zeros((self.num_new, self.total), np.float32)
        if self.num_new > 1:
            bias[:, self.done :] = np.triu(np.full((self.num_new, self.num_new), -np.inf, np.float32), 1)
        for start, stop in self._spans():
            bias[start:stop, self.prefix : self.done + start] = -np.inf
        return bias[None, None]

    def own_row(self, suffix: int) -> int:
        """The row of the buffers that holds the last token of a suffix."""
        return self.done + int(self.ends[suffix])

    def last_bias(self, suffix: int, capacity: int) -> Floats:
        """The line of `bias` of a suffix's last token over a whole buffer, [1, 1, 1, capacity]."""
        stop = self.own_row(suffix) + 1
        bias = np.full((1, 1, 1, capacity), -np.inf, np.float32)
        bias[..., : self.prefix] = bias[..., stop - self.suffixes[suffix] : stop] = 0
        return bias

    def _spans(self) -> Iterator[tuple[int, int]]:
        return pairwise(np.cumsum((self.prefix - self.done, *self.suffixes)).tolist())


@dataclass(frozen=True)
class Branch:
    """One continuation: the spans of rows (start, stop) with its tokens in order, the prefix's first."""

    spans: tuple[tuple[int, int], ...]

    @property
    def length(self) -> int:
        """Its tokens, and so the position of the next one."""
        return sum(stop - start for start, stop in self.spans)

    def grown(self, start: int, count: int) -> Branch:
        """With `count` more tokens, in the rows from `start` on."""
        first, last = self.spans[-1]
        if last == start:
            return Branch((*self.spans[:-1], (first, start + count)))
        return Branch((*self.spans, (start, start + count)))


@dataclass(frozen=True)
class PackedStep:
    """New tokens of several branches, `counts` of each, in the rows from `done` on."""

    branches: tuple[Branch, ...]
    counts: tuple[int, ...]
    done: int

    @property
    def num_new(self) -> int:
        """Tokens of this pass."""
        return sum(self.counts)

    @property
    def total(self) -> int:
        """Rows in use in the buffers after this pass."""
        return self.done + self.num_new

    @property
    def ends(self) -> Ints:
        """Index of each branch's last token among the new ones."""
        return np.cumsum(self.counts, dtype=np.int64) - 1

    @property
    def position_ids(self) -> Ints:
        """[1, new]: every branch goes on where it ends."""
        pairs = zip(self.branches, self.counts, strict=True)
        parts = [np.arange(branch.length, branch.length + count) for branch, count in pairs]
        return np.concatenate(parts).astype(np.int64)[None]

    @property
    def grown(self) -> tuple[Branch, ...]:
        """The branches after this pass."""
        starts = self.done + np.cumsum((0, *self.counts))
        return tuple(
            branch.grown(int(start), count)
            for branch, start, count in zip(self.branches, starts, self.counts, strict=False)
        )

    def bias(self) -> Floats:
        """[1, 1, new, total]: 0 where a new token may look and -inf elsewhere."""
        bias = np.full((self.num_new, self.total), -np.inf, np.float32)
        row = 0
        for branch, count in zip(self.branches, self.counts, strict=True):
            own = slice(row, row + count)
            for start, stop in branch.spans:
                bias[own, start:stop] = 0
            square = bias[own, self.done + row : self.done + row + count]
            square[np.tril_indices(count)] = 0
            row += count
        return bias[None, None]
