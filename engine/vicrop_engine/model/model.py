"""One open engine: graphs, tokenizer, preprocessing and the caches that make a second question cheap.

Answers to prefixes and image embeds; knows nothing of questions or crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.external.toolbox import Toolbox
from vicrop_engine.families.interfaces import Family
from vicrop_engine.images.cache import PictureCache
from vicrop_engine.images.seen import Seen
from vicrop_engine.model.gradients import PixelGradients
from vicrop_engine.model.greedy import Generation
from vicrop_engine.model.interfaces import Decoder, PrefixStore, VisionTower
from vicrop_engine.model.prefix_cache import Prefix, PrefixKey
from vicrop_engine.model.prompts import Ids, PromptBuilder
from vicrop_engine.model.states import ImageEmbeds
from vicrop_engine.runtime.device import Device
from vicrop_engine.timing import Stopwatch


@dataclass(frozen=True)
class Model:
    """The parts of an open engine."""

    digest: str
    manifest: Manifest
    provider: str
    preprocessing: Preprocessing
    family: Family
    prompts: PromptBuilder
    vision: VisionTower
    decoder: Decoder
    gradients: PixelGradients
    pictures: PictureCache
    prefixes: PrefixStore
    tally: Tally
    tools: Toolbox
    device: Device | None = None

    def prefix(self, seen: Seen, ids: Ids, capacity: int, watch: Stopwatch) -> tuple[PrefixKey, Prefix]:
        """The image prefix for this picture and token ids with room for `capacity` tokens.

        From the cache, or made now: then it is run with its first suffixes. `keep` it after using it.
        """
        [(key, prefix)] = self.prefixes_of([seen], ids, capacity, watch)
        self.keep(key, prefix)
        return key, prefix

    def prefixes_of(
        self, pictures: Sequence[Seen], ids: Ids, capacity: int, watch: Stopwatch
    ) -> Iterator[tuple[PrefixKey, Prefix]]:
        """The same for several pictures in order, each made when it is asked for.

        New ones go through the vision tower together. Without `ids` they are empty and nothing is run: for
        what depends on the picture alone. A prefix that was kept is to be kept again.
        """
        keys = [PrefixKey(self.digest, seen.inputs.digest, ids) for seen in pictures]
        known = {key: kept for key in keys if (kept := self.prefixes.get(key)) is not None}
        new = [seen.inputs for key, seen in zip(keys, pictures, strict=True) if key not in known]
        if new and ids:
            watch.enter("vision")
        embeds = iter(self.vision.embed_all(new) if new and ids else ())
        for key, seen in zip(keys, pictures, strict=True):
            is_new = bool(ids) and key not in known
            fresh = [ImageEmbeds(next(embeds), seen.layout.positions)] if is_new else []
            yield key, self._prefix(key, fresh, ids, capacity)

    def _prefix(self, key: PrefixKey, images: Sequence[ImageEmbeds], ids: Ids, capacity: int) -> Prefix:
        prefix, was_there = self.prefixes.get_or_begin(key, lambda: self.decoder.begin(ids, images, capacity))
        self.tally.add(prefix_hits=was_there, prefix_prefills=not was_there and bool(ids))
        if was_there:
            with self.alone_on(prefix):
                self.decoder.reserve(prefix, capacity)
        return prefix

    def locked(self, prefix: Prefix) -> AbstractContextManager[object]:
        """With the prefix to oneself for a whole request, which writes its answers after it."""
        return prefix.lock

    def alone_on(self, prefix: Prefix) -> AbstractContextManager[None]:
        """With the prefix's buffers to oneself, which they are here anyway."""
        return nullcontext()

    def generate(self, prefix: Prefix, suffix: Ids, max_new_tokens: int) -> Generation:
        """Greedy tokens after `suffix` that nobody hears; the prefix's buffers are to be one's own."""
        return self.decoder.decode(self.decoder.prefill(prefix, [suffix]), max_new_tokens)

    def forget(self) -> None:
        """Let go of what is kept of pictures, as if none had been asked about."""
        self.vision.forget()
        self.prefixes.clear()
        self.pictures.clear()

    def boundary(self) -> None:
        """Between two pieces of work: whoever else uses the model may go first. Nobody does here."""

    def keep(self, key: PrefixKey, prefix: Prefix) -> None:
        """Keep the prefix for the next question, with the bytes it has now."""
        self.prefixes.put(key, prefix)
