"""How similar parts of a picture are to a text, by CLIP: the cosine of their embeddings.

Preprocessing and tokenisation are the checkpoint's own. Knows nothing of how the parts were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from vicrop_engine.arrays import Floats
from vicrop_engine.engine_dir.manifest import TOKENIZER
from vicrop_engine.errors import ImageError
from vicrop_engine.external.manifest import checked_settings, mend_tool
from vicrop_engine.external.settings import ClipSettings
from vicrop_engine.images.geometry import Box
from vicrop_engine.images.picture import Picture
from vicrop_engine.images.preprocessing import preprocess
from vicrop_engine.runtime.graphs import open_graph
from vicrop_engine.runtime.host_graph import Graph

BATCH = 8  # crops encoded at once
LEAST = -1.0  # the least a cosine can be: a crop too long for the image processor


class Similarity:
    """An open CLIP."""

    def __init__(self, image: Graph, text: Graph, tokenizer: Tokenizer, settings: ClipSettings) -> None:
        self._image, self._text = image, text
        self._preprocessing = settings.preprocessing
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(settings.context_length)

    def embed_text(self, text: str) -> Floats:
        """The embedding [dim] of a text, of length one; what is beyond the context is cut off."""
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        embeds: Floats = self._text.run({"input_ids": ids})["text_embeds"].numpy()[0]
        return embeds

    def scores(self, picture: Picture, boxes: Sequence[Box], text: Floats) -> Floats:
        """The cosine [boxes] between an embedded text and each part of the picture."""
        scores = np.full(len(boxes), LEAST, np.float32)
        for start in range(0, len(boxes), BATCH):
            found = {
                index: pixels
                for index, box in enumerate(boxes[start : start + BATCH], start)
                if (pixels := self._pixels(picture, box)) is not None
            }
            if found:
                feeds = {"pixel_values": np.concatenate(list(found.values()))}
                embeds = self._image.run(feeds)["image_embeds"].numpy()
                scores[list(found)] = embeds @ text
        return scores

    def most_similar(self, picture: Picture, boxes: Sequence[Box], text: str) -> Box:
        """Of `boxes`, at least one, the first that is most similar to the text."""
        scores = self.scores(picture, boxes, self.embed_text(text))
        return boxes[int(np.argmax(scores))]

    def _pixels(self, picture: Picture, box: Box) -> Floats | None:
        try:
            return preprocess(picture.image.crop(box), self._preprocessing).pixels
        except ImageError:
            return None


def open_similarity(directory: Path, threads: int | None = None) -> Similarity:
    """Open a directory made by `vicrop-engine build clip`.

    Raises EngineDirectoryError, EngineDamagedError and ProviderError.
    """
    settings = checked_settings(directory, "clip", ClipSettings)
    image, text = (
        open_graph(directory / f"{name}.onnx", mend_tool("clip"), threads)
        for name in ("clip_image", "clip_text")
    )
    return Similarity(image, text, Tokenizer.from_file(str(directory / TOKENIZER)), settings)
