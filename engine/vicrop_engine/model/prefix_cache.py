"""Image prefixes kept for the next question on the same picture: least recently used, bounded in bytes.

The key holds digests of the engine and of what the vision tower takes of the picture, and the token ids
themselves. Knows nothing of how a prefix is made.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.byte_cache import ByteCache
from vicrop_engine.model.kv_cache import KVBuffers
from vicrop_engine.model.positions import next_position
from vicrop_engine.model.states import AttentionRows, States


class PrefixKey(NamedTuple):
    """What a prefix depends on: a digest of the engine, the vision part's inputs, and the token ids.

    `inputs` is a digest of the picture's, with the instruction where the vision part reads one.
    """

    engine: str
    inputs: bytes
    ids: tuple[int, ...]


@dataclass
class Prefix:
    """An image prefix of `length` tokens to be continued.

    `embeds` [1 + added, length, hidden] still have to go through the lower layers; `hidden` have been there
    and wait for the upper ones: both go along with the next pass. `positions` [axes, length] are its tokens',
    None where they are counted. `mixer` [tokens, cells] makes cells of the picture's tokens, None where these
    are cells. `general` holds the general prompt's attention rows [heads, cells] by layer, `general_gradient`
    how its answer hangs on the pixels [height, width]; both depend on the picture alone. Who has the `lock`
    may write into the buffers.
    """

    buffers: KVBuffers
    length: int
    embeds: States | None = None
    hidden: States | None = None
    positions: Ints | None = None
    mixer: Floats | None = None
    general: dict[int, AttentionRows] = field(default_factory=dict)
    general_gradient: Floats | None = None
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def next_position(self) -> int:
        """That of the token after it."""
        return self.length if self.positions is None else next_position(self.positions)

    @property
    def nbytes(self) -> int:
        """Bytes held by buffers, waiting states, mixer, rows and gradient."""
        parts = (self.embeds, self.hidden, self.mixer, self.general_gradient)
        waiting: list[int] = [part.nbytes for part in parts if part is not None]
        waiting += [rows.nbytes for rows in self.general.values()]
        return self.buffers.nbytes + sum(waiting)


class PrefixCache(ByteCache[Prefix]):
    """Prefixes by key: each there once while anybody uses it, and kept within `capacity` bytes afterwards."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._in_use: weakref.WeakValueDictionary[Hashable, Prefix] = weakref.WeakValueDictionary()

    def get(self, key: Hashable) -> Prefix | None:
        """The prefix, kept or in use; None when there is none."""
        with self.lock:
            kept = super().get(key)
            return self._in_use.get(key) if kept is None else kept

    def get_or_begin(self, key: Hashable, begin: Callable[[], Prefix]) -> tuple[Prefix, bool]:
        """The prefix, begun now if there is none, and whether it was there."""
        with self.lock:
            known = self.get(key)
            if known is not None:
                return known, True
            made = self._in_use[key] = begin()
            return made, False

    def put(self, key: Hashable, value: Prefix) -> None:
        """Keep the prefix with the bytes it has now, as far as there is room."""
        with self.lock:
            self._in_use[key] = value
            super().put(key, value)

    def clear(self) -> None:
        """Let go of everything."""
        with self.lock:
            self._in_use.clear()
            super().clear()
