"""How strongly each prompt's answer depends on each pixel: gradients from the graph that goes back to them.

The graph is optional and opened when first used. Knows token ids and pixels; nothing of questions or crops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Floats
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import PIXEL_GRADIENTS
from vicrop_engine.model.packing import PackedPrompt
from vicrop_engine.model.states import Floating
from vicrop_engine.runtime.host_graph import Graph


class PixelGradients:
    """The gradients of one engine.

    `table` has a row [hidden] for each token id; `open_graph` opens the graph, if the engine has it.
    """

    def __init__(
        self,
        open_graph: Callable[[], Graph] | None,
        table: Floating,
        image: int,
        tally: Tally,
    ) -> None:
        self._open = open_graph
        self._table = table
        self._image = image
        self._tally = tally

    def strengths(self, pixels: Floats, prefix: Sequence[int], suffixes: Sequence[Sequence[int]]) -> Floats:
        """L2 norms over channels of the gradients, [suffixes, height, width] of whole patches.

        `prefix` holds the image tokens of `pixels` [1, 3, height, width]; each suffix continues it. The loss
        is the logarithm of the likeliest next token's probability. All go through one pass, and back in one.
        """
        if self._open is None:
            raise ValueError("the engine was built without pixel gradients; check its manifest first")
        block = PackedPrompt(0, len(prefix), tuple(map(len, suffixes)))
        first = prefix.index(self._image)
        after = first + prefix.count(self._image)
        feeds: dict[str, npt.NDArray[Any]] = {
            "pixel_values": pixels,
            "embeds_before": self._embed(prefix[:first]),
            "embeds_after": self._embed([*prefix[after:], *(id for suffix in suffixes for id in suffix)]),
            "position_ids": block.position_ids,
            "attention_bias": block.bias(),
            "ends": block.ends,
        }
        self._tally.add(
            pixel_gradient_passes=1, pixel_gradient_tokens=block.num_new, pixel_gradients=len(suffixes)
        )
        graph = self._open()
        with self._tally.running(PIXEL_GRADIENTS, total=block.num_new, losses=len(suffixes)):
            gradients = graph.run(feeds)["gradients"].numpy()
        norms: Floats = np.linalg.norm(gradients, axis=1)
        return norms

    def _embed(self, ids: Sequence[int]) -> Floats:
        rows: Floats = self._table[np.asarray(ids, np.int64)].astype(np.float32)
        return rows[None]
