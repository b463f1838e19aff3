"""One pass through the decoder graphs: what they are fed beside states, and what is left of it.

Knows where tokens stand; nothing of graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.decode_steps import NO_TAPS
from vicrop_engine.kv_cache import KVCache, Tensor
from vicrop_engine.strands import StrandBlock
from vicrop_engine.token_block import TokenBlock

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pass:
    """What a pass over a prefix and its suffixes left.

    `cache` ends with the first suffix; `logits` [vocab] are those after it, None when no suffix went up.
    `attention` holds every suffix's last row of lower and upper graph, each [layers, suffixes, heads, total];
    None where nothing was read. `tapped` [1, suffixes, hidden] are their last tokens' states where the lowest
    heatmap layer begins, and `block` is where all tokens stand.
    """

    cache: KVCache
    logits: Floats | None
    attention: tuple[Floats | None, Floats | None] = (None, None)
    tapped: Floats | None = None
    block: TokenBlock | None = None

    def rows(self, suffix: int) -> dict[int, Floats]:
        """Attention [heads, total] of a suffix's last token, by absolute layer."""
        parts = [part[:, suffix] for part in self.attention if part is not None]
        return dict(enumerate(row for part in parts for row in part))


class PassFeeds:
    """What both graphs are fed beside states."""

    def __init__(
        self,
        block: TokenBlock | StrandBlock,
        tap: bool,
        tensor: Callable[[npt.NDArray[Any]], Tensor],
    ) -> None:
        ends = block.ends
        last = np.array([block.num_new - 1])  # of a prefix alone: no product likes to be empty
        answers = ends if isinstance(block, StrandBlock) else ends[:1] if len(ends) else last
        arrays: dict[str, npt.NDArray[Any]] = {
            "position_ids": block.position_ids,
            "tap_positions": ends if tap else NO_TAPS,
            "attention_bias": block.bias(),
            "answer_position": answers,
        }
        self.tensors = {name: tensor(array) for name, array in arrays.items()}
        self.num_new, self.tap = block.num_new, tap
        self.sizes = {
            "seq": block.num_new,
            "total": block.total,
            "rows": len(ends) if tap else 0,
            "answers": len(answers),
            "prefix_tokens": block.prefix - block.done if isinstance(block, TokenBlock) else 0,
        }
