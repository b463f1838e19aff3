"""Image prefixes kept for the next question on the same picture: least recently used, bounded in bytes.

The key holds the digest of the preprocessed pixels, the engine and the token ids themselves. Knows nothing of
how a prefix is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vicrop_engine.model.kv_cache import KVBuffers

Rows = npt.NDArray[np.float32]

Held = Any  # rows, or of an engine for a device a tensor there; both know their bytes


class PrefixKey(NamedTuple):
    """What a prefix depends on: digests of engine and pixels, and the token ids."""

    engine: str
    pixels: bytes
    ids: tuple[int, ...]


@dataclass
class Prefix:
    """An image prefix of `length` tokens to be continued.

    `embeds` [1, length, hidden] still have to go through the lower layers; `hidden` have been there and wait
    for the upper ones: both go along with the next pass. `general` holds the general prompt's attention rows
    [heads, patches] by layer, `general_gradient` how its answer hangs on the pixels [height, width]; both
    depend on the picture alone.
    """

    buffers: KVBuffers
    length: int
    embeds: Held | None = None
    hidden: Held | None = None
    general: dict[int, Held] = field(default_factory=dict)
    general_gradient: Rows | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held by buffers, waiting states, rows and gradient."""
        parts = (self.embeds, self.hidden, self.general_gradient)
        waiting: list[int] = [part.nbytes for part in parts if part is not None]
        waiting += [rows.nbytes for rows in self.general.values()]
        return self.buffers.nbytes + sum(waiting)
