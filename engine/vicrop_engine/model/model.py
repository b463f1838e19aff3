"""One open engine: graphs, tokenizer, preprocessing and the caches that make a second question cheap.

Answers to prefixes and image embeds; knows nothing of questions or crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from vicrop_engine.arrays import Floats
from vicrop_engine.byte_cache import ByteCache
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.external.toolbox import Toolbox
from vicrop_engine.images.cache import KeptPictures
from vicrop_engine.images.preprocessing import pixel_digest
from vicrop_engine.model.decoder import Decoder
from vicrop_engine.model.gradients import PixelGradients
from vicrop_engine.model.prefix_cache import Prefix, PrefixKey
from vicrop_engine.model.prompts import Ids, PromptBuilder
from vicrop_engine.model.vision import VisionTower
from vicrop_engine.runtime.device import Device
from vicrop_engine.timing import Stopwatch


@dataclass(frozen=True)
class Model:
    """The parts of an open engine."""

    digest: str
    manifest: Manifest
    provider: str
    preprocessing: Preprocessing
    prompts: PromptBuilder
    vision: VisionTower  # or what `Parts` says
    decoder: Decoder
    gradients: PixelGradients
    pictures: KeptPictures
    prefixes: ByteCache[Prefix]
    tally: Tally
    tools: Toolbox
    device: Device | None = None

    def prefix(self, pixels: Floats, ids: Ids, capacity: int, watch: Stopwatch) -> tuple[PrefixKey, Prefix]:
        """The image prefix for these pixels and token ids with room for `capacity` tokens.

        From the cache, or made now: then it is run with its first suffixes. `keep` it after using it.
        """
        [(key, prefix)] = self.prefixes_of([pixels], ids, capacity, watch)
        self.keep(key, prefix)
        return key, prefix

    def prefixes_of(
        self, pictures: Sequence[Floats], ids: Ids, capacity: int, watch: Stopwatch
    ) -> Iterator[tuple[PrefixKey, Prefix]]:
        """The same for several pictures in order, each made when it is asked for.

        New ones go through the vision tower together. Without `ids` they are empty and nothing is run: for
        what depends on the pixels alone. A prefix that was held is to be kept again.
        """
        keys = [PrefixKey(self.digest, pixel_digest(pixels), ids) for pixels in pictures]
        held = {key: prefix for key in keys if (prefix := self.prefixes.get(key)) is not None}
        new = [pixels for key, pixels in zip(keys, pictures, strict=True) if key not in held]
        if new and ids:
            watch.enter("vision")
        embeds = iter([[one] for one in self.vision.embed_all(new)] if ids else [[]] * len(new))
        for key in keys:
            if key in held:
                self.tally.add(prefix_hits=1)
                self.decoder.reserve(held[key], capacity)
                yield key, held[key]
            else:
                self.tally.add(prefix_prefills=1 if ids else 0)
                yield key, self.decoder.begin(ids, next(embeds), capacity)

    def alone_on(self, prefix: Prefix) -> AbstractContextManager[None]:
        """With the prefix's buffers to oneself, which they are here anyway."""
        return nullcontext()

    def boundary(self) -> None:
        """Between two pieces of work: whoever else uses the model may go first. Nobody does here."""

    def keep(self, key: PrefixKey, prefix: Prefix) -> None:
        """Hold the prefix for the next question, with the bytes it has now."""
        self.prefixes.put(key, prefix)
