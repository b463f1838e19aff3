"""One open engine: graphs, tokenizer, preprocessing and the caches that make a second question cheap.

Answers to prefixes and image embeds; knows nothing of questions or crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.external.toolbox import Toolbox
from vicrop_engine.families.interfaces import Family
from vicrop_engine.images.cache import PictureCache
from vicrop_engine.images.seen import Seen
from vicrop_engine.model.answers.greedy import Generation
from vicrop_engine.model.gradients import PixelGradients
from vicrop_engine.model.interfaces import Decoder, HelpfulLooks, InstructedEmbeds, PrefixStore, VisionTower
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
    instructed: InstructedEmbeds | None = None
    helpful_looks: HelpfulLooks | None = None

    def image_embeds(self, pictures: Sequence[Seen]) -> list[ImageEmbeds]:
        """What stands for each picture in a prompt, through the whole vision part. Raises RunError."""
        inputs = [seen.inputs for seen in pictures]
        if self.instructed is None:
            made = [ImageEmbeds(states) for states in self.vision.embed_all(inputs)]
        else:
            made = list(self.instructed.embed_all(inputs, self.vision))
        pairs = zip(made, pictures, strict=True)
        return [replace(embeds, offsets=seen.layout.positions) for embeds, seen in pairs]

    def begin(self, ids: Ids, images: Sequence[ImageEmbeds], capacity: int) -> Prefix:
        """A prefix kept nowhere, to be run with its first suffixes."""
        prefix = self.decoder.begin(ids, images, capacity)
        prefix.mixer = images[0].mixer if images else None
        return prefix

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
        keys = [PrefixKey(self.digest, seen.inputs.key, ids) for seen in pictures]
        known = {key: kept for key in keys if (kept := self.prefixes.get(key)) is not None}
        new = [seen for key, seen in zip(keys, pictures, strict=True) if key not in known]
        if new and ids:
            watch.enter("vision")
        embeds = iter(self.image_embeds(new) if new and ids else ())
        for key in keys:
            fresh = [next(embeds)] if ids and key not in known else []
            yield key, self._prefix(key, fresh, ids, capacity)

    def _prefix(self, key: PrefixKey, images: Sequence[ImageEmbeds], ids: Ids, capacity: int) -> Prefix:
        prefix, was_there = self.prefixes.get_or_begin(key, lambda: self.begin(ids, images, capacity))
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
        self.forget_embeds()
        self.prefixes.clear()
        self.pictures.clear()

    def forget_embeds(self) -> None:
        """Let go of image embeds alone."""
        self.vision.forget()
        if self.instructed is not None:
            self.instructed.forget()

    def check_integrity(self) -> None:
        """Raises AssertionError when a cache does not hold what it says it holds."""
        self.prefixes.check_integrity()
        self.vision.check_integrity()
        if self.instructed is not None:
            self.instructed.check_integrity()

    def kept_of(self, seen: Seen, key: PrefixKey, prefix: Prefix) -> tuple[PrefixKey, Prefix]:
        """Where what depends on the picture alone is kept: its prefix, if its tokens do.

        If an instruction is read with it, a prefix without tokens. `keep` it after using it.
        """
        if self.instructed is None:
            return key, prefix
        key = PrefixKey(self.digest, seen.inputs.digest, ())
        return key, self.prefixes.get_or_begin(key, lambda: self.begin((), [], 0))[0]

    def boundary(self) -> None:
        """Between two pieces of work: whoever else uses the model may go first. Nobody does here."""

    def keep(self, key: PrefixKey, prefix: Prefix) -> None:
        """Keep the prefix for the next question, with the bytes it has now."""
        self.prefixes.put(key, prefix)
