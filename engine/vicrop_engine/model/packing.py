"""Where the new tokens of one pass stand and what each may look at: positions and attention bias.

Suffixes of one prefix may go through a pass side by side: each continues the prefix, blind to the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.model.positions import next_position
from vicrop_engine.model.prefix_cache import Prefix


@dataclass(frozen=True)
class PackedPrompt:
    """The tokens of a prefix from `done` on, then suffixes of the lengths given, in this order.

    `done` tokens of the prefix are in the KV buffers already. `positions` [axes, new] are those of the new
    tokens; without any they are counted, a suffix from where the prefix ends.
    """

    done: int
    prefix: int
    suffixes: tuple[int, ...]
    positions: Ints | None = field(default=None, compare=False)

    @classmethod
    def after(
        cls, prefix: Prefix, waiting: int, lengths: tuple[int, ...], positions: Ints | None
    ) -> PackedPrompt:
        """What waits of a prefix, then suffixes of these lengths, the first of those at `positions`.

        Raises ValueError where one of the two has positions of its own and the other has none.
        """
        if (prefix.positions is None) != (positions is None):
            raise ValueError("a prefix and what comes after it both have positions, or are both counted")
        done, number = prefix.length - waiting, sum(lengths)
        if prefix.positions is None or positions is None:
            return cls(done, prefix.length, lengths)
        parts = prefix.positions[:, done:], positions[:, :number]
        return cls(done, prefix.length, lengths, np.concatenate(parts, axis=1))

    @classmethod
    def of_prefix(cls, prefix: Prefix, waiting: int, number: int) -> PackedPrompt:
        """The next `number` tokens of a prefix of which `waiting` are left."""
        done = prefix.length - waiting
        own = None if prefix.positions is None else prefix.positions[:, done : done + number]
        return cls(done, done + number, (), own)

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
        """[axes, new]: every suffix goes on where the prefix ends."""
        if self.positions is not None:
            return self.positions
        parts = [np.arange(self.done, self.prefix)]
        parts += [np.arange(self.prefix, self.prefix + length) for length in self.suffixes]
        return np.concatenate(parts).astype(np.int64)[None]

    @property
    def next_position(self) -> int:
        """That of a token after the first suffix."""
        if self.positions is None:
            return self.prefix + self.suffixes[0]
        start = self.prefix - self.done
        return next_position(self.positions[:, start : start + self.suffixes[0]])

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
    """One continuation: the spans of rows (start, stop) with its tokens in order, the prefix's first.

    Its next token's position is `ahead` of how many tokens it has.
    """

    spans: tuple[tuple[int, int], ...]
    ahead: int = 0

    @property
    def length(self) -> int:
        """Its tokens."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def position(self) -> int:
        """That of its next token."""
        return self.length + self.ahead

    def grown(self, start: int, count: int, position: int | None = None) -> Branch:
        """With `count` more tokens in the rows from `start` on, the next one at `position` if that jumps."""
        first, last = self.spans[-1]
        ahead = self.ahead if position is None else position - self.length - count
        if last == start:
            return Branch((*self.spans[:-1], (first, start + count)), ahead)
        return Branch((*self.spans, (start, start + count)), ahead)


@dataclass(frozen=True)
class PackedStep:
    """New tokens of several branches, `counts` of each, in the rows from `done` on.

    `positions` [axes, new] are theirs; without any they are counted, from where each branch ends.
    """

    branches: tuple[Branch, ...]
    counts: tuple[int, ...]
    done: int
    positions: Ints | None = field(default=None, compare=False)

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
        """[axes, new]: every branch goes on where it ends."""
        if self.positions is not None:
            return self.positions
        pairs = zip(self.branches, self.counts, strict=True)
        parts = [np.arange(branch.position, branch.position + count) for branch, count in pairs]
        return np.concatenate(parts).astype(np.int64)[None]

    @property
    def grown(self) -> tuple[Branch, ...]:
        """The branches after this pass."""
        starts, positions = np.cumsum((0, *self.counts)).tolist(), self.position_ids
        return tuple(
            branch.grown(self.done + start, count, next_position(positions[:, start : start + count]))
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
