"""From token ids to what the decoder is fed of them: embeddings and positions.

Knows the token table and how pictures' embeddings take their tokens' places; nothing of graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.engine_dir.records import DecoderGeometry
from vicrop_engine.model.positions import positions_of
from vicrop_engine.model.states import Floating, ImageEmbeds, on_host


class TokenTable:
    """The token table of one engine, `rows` [vocab, hidden]; pictures take the places of the id `image`."""

    def __init__(self, rows: Floating, image: int, geometry: DecoderGeometry) -> None:
        self.rows, self._image = rows, image
        self.axes, self.slices = geometry.position_axes, 1 + geometry.added_embeds

    def embed(self, ids: Sequence[int], images: Sequence[ImageEmbeds] = ()) -> Floats:
        """[1 + added, len, hidden]: rows of the table, with image embeds in place of image tokens.

        Text has nothing in the added slices.
        """
        index = np.asarray(ids, np.int64)
        embeds: Floats = self.rows[index].astype(np.float32)[None]
        if self.slices > 1:
            embeds = np.concatenate((embeds, np.zeros((self.slices - 1, *embeds.shape[1:]), np.float32)))
        if images:
            seen = np.concatenate([on_host(image.states) for image in images], axis=1)
            embeds[:, index == self._image] = seen
        return embeds

    def positions(self, ids: Sequence[int], images: Sequence[ImageEmbeds], start: int) -> Ints | None:
        """[axes, len] from `start` on; None where they are counted on the one axis there is."""
        if self.axes == 1:
            return None
        is_image = np.asarray(ids, np.int64) == self._image
        return positions_of(is_image, [image.offsets for image in images], start, self.axes)

    def positions_of_each(
        self, suffixes: Sequence[Sequence[int]], images: Sequence[ImageEmbeds], start: int
    ) -> Ints | None:
        """Those of suffixes that all begin at `start`, one after the other; the images are of one of them."""
        if self.axes == 1:
            return None
        parts = [
            self.positions(suffix, images if self._image in suffix else (), start) for suffix in suffixes
        ]
        return np.concatenate([part for part in parts if part is not None], axis=1)
