"""One open engine: graphs, tokenizer, preprocessing and the caches that make a second question cheap.

Answers to prefixes and image embeds; knows nothing of questions or crops.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vicrop_engine.backend import open_graphs
from vicrop_engine.config import Preprocessing, parse
from vicrop_engine.counters import Tally
from vicrop_engine.errors import EngineDamagedError
from vicrop_engine.generate import Decoder
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
from vicrop_engine.memory import VISION_SHARE, default_cache_bytes
from vicrop_engine.pixel_gradients import PixelGradients
from vicrop_engine.prefix_cache import ByteCache, Prefix, PrefixKey, pixel_digest
from vicrop_engine.prompts import Ids, PromptBuilder
from vicrop_engine.timing import Stopwatch
from vicrop_engine.tools.toolbox import Toolbox
from vicrop_engine.vision import VisionTower

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """The parts of an open engine."""

    digest: str
    manifest: Manifest
    provider: str
    preprocessing: Preprocessing
    prompts: PromptBuilder
    vision: VisionTower
    decoder: Decoder
    gradients: PixelGradients
    prefixes: ByteCache[Prefix]
    tally: Tally
    tools: Toolbox

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
    provider: str | None = None,
) -> Model:
    """Open the engine in `directory`, whose files have been checked.

    `provider` is where to run it, where it can run elsewhere than on its target.
    `cache_bytes` bounds prefixes and image embeds together; None has room for one picture at least. Raises
    EngineDamagedError, ProviderError, and with `share_weights` RunError.
    """
    cache_bytes = default_cache_bytes(manifest) if cache_bytes is None else cache_bytes
    digest = hash_file(directory / MANIFEST).sha256
    graphs = open_graphs(directory, manifest, threads, digest if share_weights else None, provider)
    tally = Tally()
    document = json.loads((directory / PREPROCESSOR).read_text(encoding="utf-8"))
    prompts = PromptBuilder(
        directory / TOKENIZER, manifest.prompts, manifest.tokens, manifest.vision.image_tokens
    )
    decoder = Decoder(graphs, _embeddings(directory, manifest), manifest.decoder, manifest.tokens, tally)

    return Model(
        digest=digest,
        manifest=manifest,
        provider=graphs.provider,
        preprocessing=parse(Preprocessing, document, str(directory / PREPROCESSOR)),
        prompts=prompts,
        vision=VisionTower(
            graphs.vision, cache_bytes // VISION_SHARE, tally, one=manifest.target == TENSORRT
        ),
        decoder=decoder,
        gradients=PixelGradients(graphs.pixel_gradients, decoder.embed, manifest.tokens.image, tally),
        prefixes=ByteCache(cache_bytes - cache_bytes // VISION_SHARE),
        tally=tally,
        tools=tools or Toolbox(threads=threads),
    )


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
