"""One open engine: graphs, tokenizer, preprocessing and the caches that make a second question cheap.

Answers to prefixes and image embeds; knows nothing of questions or crops.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.backend import open_graphs
from vicrop_engine.config import Preprocessing, parse
from vicrop_engine.counters import Tally
from vicrop_engine.device import Device
from vicrop_engine.device_decoder import DeviceDecoder
from vicrop_engine.device_graph import open_device_graphs
from vicrop_engine.device_vision import DeviceVisionTower
from vicrop_engine.errors import EngineDamagedError, SettingError
from vicrop_engine.generate import Decoder
from vicrop_engine.graph import Graph
from vicrop_engine.manifest import (
    EMBEDDINGS,
    MANIFEST,
    PREPROCESSOR,
    TENSORRT,
    TOKENIZER,
    Manifest,
    hash_file,
    mend_command,
)
from vicrop_engine.memory import SMALL_SHARE, default_cache_bytes
from vicrop_engine.pictures import KeptPictures
from vicrop_engine.pixel_gradients import PixelGradients
from vicrop_engine.prefix_cache import ByteCache, Prefix, PrefixKey, pixel_digest
from vicrop_engine.prompts import Ids, PromptBuilder
from vicrop_engine.timing import Stopwatch
from vicrop_engine.tools.toolbox import Toolbox
from vicrop_engine.vision import VisionTower

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Where to run an engine: `provider` of the runtime (None: that of its target), and which GPU, from 0.

    An engine for another target than "cpu" runs on a processor when `provider` is "cpu".
    """

    provider: str | None = None
    device: int = 0


@dataclass(frozen=True)
class Parts:
    """What of an open engine depends on where it runs; `device` where tensors stay on one."""

    provider: str
    vision: Any  # a VisionTower or a DeviceVisionTower, whose tensors are elsewhere
    decoder: Any  # a Decoder or a DeviceDecoder
    device: Device | None = None
    pixel_gradients: Callable[[], Graph] | None = None


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


def open_model(
    directory: Path,
    manifest: Manifest,
    threads: int | None = None,
    cache_bytes: int | None = None,
    share_weights: bool = False,
    tools: Toolbox | None = None,
    place: Place | None = None,
) -> Model:
    """Open the engine in `directory`, whose files have been checked.

    `cache_bytes` bounds prefixes, image embeds and pictures together; None has room for one picture at least.
    Raises EngineDamagedError, SettingError, ProviderError, and with `share_weights` RunError.
    """
    cache_bytes = default_cache_bytes(manifest) if cache_bytes is None else cache_bytes
    digest = hash_file(directory / MANIFEST).sha256
    tally = Tally()
    opened = _parts_on_device if manifest.target == "cuda" else _parts_on_host
    settings = _Settings(
        threads, cache_bytes // SMALL_SHARE, digest if share_weights else None, place or Place()
    )
    settings.check(manifest)
    parts = opened(directory, manifest, tally, settings)
    document = json.loads((directory / PREPROCESSOR).read_text(encoding="utf-8"))
    prompts = PromptBuilder(
        directory / TOKENIZER, manifest.prompts, manifest.tokens, manifest.vision.image_tokens
    )
    return Model(
        digest=digest,
        manifest=manifest,
        provider=parts.provider,
        preprocessing=parse(Preprocessing, document, str(directory / PREPROCESSOR)),
        prompts=prompts,
        vision=parts.vision,
        decoder=parts.decoder,
        gradients=PixelGradients(parts.pixel_gradients, parts.decoder.embed, manifest.tokens.image, tally),
        pictures=KeptPictures(cache_bytes // SMALL_SHARE),
        prefixes=ByteCache(cache_bytes - 2 * (cache_bytes // SMALL_SHARE)),
        tally=tally,
        tools=tools or Toolbox(threads=threads),
        device=parts.device,
    )


@dataclass(frozen=True)
class _Settings:
    threads: int | None
    vision_bytes: int
    share_as: str | None
    place: Place

    def check(self, manifest: Manifest) -> None:
        """Raises SettingError where such an engine cannot run so."""
        target, provider, device = manifest.target, self.place.provider, self.place.device
        if target == "cpu" and (provider not in (None, target) or device):
            raise SettingError(
                f"got provider {provider!r} and device {device!r} for an engine for cpu; to run on a GPU "
                f"build one with 'vicrop-engine build {manifest.model.name} --target cuda'"
            )
        if provider not in (None, "cpu", target):
            raise SettingError(f"got provider {provider!r}, wanted {target!r} or 'cpu'")
        on_host = provider == "cpu"
        if isinstance(device, bool) or not isinstance(device, int) or device < 0 or (on_host and device):
            raise SettingError(f"got device {device!r}, wanted the number of a GPU from 0 up")
        if self.share_as is not None and target != "cpu":
            raise SettingError("share_weights is for engines for cpu, which map their weights; leave it out")


def _parts_on_host(directory: Path, manifest: Manifest, tally: Tally, settings: _Settings) -> Parts:
    """Of an engine whose tensors are arrays here, at least between passes."""
    place = settings.place
    graphs = open_graphs(
        directory, manifest, settings.threads, settings.share_as, place.provider, place.device
    )
    table = _embeddings(directory, manifest)
    decoder = Decoder(graphs, table, manifest.decoder, manifest.tokens, tally)
    one = manifest.target == TENSORRT
    vision = VisionTower(graphs.vision, settings.vision_bytes, tally, one=one)
    return Parts(graphs.provider, vision, decoder, None, graphs.pixel_gradients)


def _parts_on_device(directory: Path, manifest: Manifest, tally: Tally, settings: _Settings) -> Parts:
    """Of an engine whose tensors stay on a device."""
    place = settings.place
    graphs = open_device_graphs(
        directory, manifest, tally, provider=place.provider, index=place.device, threads=settings.threads
    )
    table = _embeddings(directory, manifest)
    decoder = DeviceDecoder(graphs, table, manifest.decoder, manifest.tokens, tally)
    vision = DeviceVisionTower(graphs, settings.vision_bytes, tally)
    return Parts(graphs.provider, vision, decoder, graphs.device)


def _embeddings(directory: Path, manifest: Manifest) -> Floats:
    path = directory / EMBEDDINGS
    wanted = (manifest.decoder.vocab_size, manifest.decoder.hidden_size)
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EngineDamagedError(f"{path} cannot be read ({error}); {mend_command(manifest)}") from error
    if table.shape != wanted or table.dtype not in (np.float32, np.float16):
        raise EngineDamagedError(
            f"{path} holds {table.dtype} {table.shape}, wanted float32 or float16 {wanted}; "
            f"{mend_command(manifest)}"
        )
    return np.asarray(table)
