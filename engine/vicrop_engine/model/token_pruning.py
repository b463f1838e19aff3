"""Fewer image tokens for the crop: those that differ most from the rest of it, and a prompt with as many.

Knows image embeds and token ids; nothing of graphs or of where the crop lies.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from vicrop_engine.model.prompts import Ids
from vicrop_engine.model.states import ImageEmbeds, on_host


def most_distinct(image: ImageEmbeds, number: int) -> ImageEmbeds:
    """The `number` tokens whose embeddings are farthest from their median, in their own order and place.

    What most of a crop shows (a wall, the sky) is near the median, and a few tokens of it say as much as all.
    """
    states = on_host(image.states)
    embeds = states[0]
    distances = np.linalg.norm(embeds - np.median(embeds, axis=0), axis=1)
    kept = np.sort(np.argsort(-distances, kind="stable")[:number])
    offsets = None if image.offsets is None else image.offsets[:, kept]
    return ImageEmbeds(np.ascontiguousarray(states[:, kept]), offsets)


def with_fewer(ids: Ids, image: int, number: int) -> Ids:
    """Token ids in which every run of `image` tokens is cut to `number`."""
    runs = [(token, list(run)) for token, run in groupby(ids)]
    return tuple(id for token, run in runs for id in (run[:number] if token == image else run))
