"""One open engine: graphs, tokenizer, preprocessing and the caches that make a second question cheap.

Answers to prefixes and image embeds; knows nothing of questions or crops.
"""

from __future__ import annotations

import json
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

    def prefix(self, pixels: Floats, ids: Ids, capacity: int, watch: Stopwatch) -> tuple[PrefixKey, Prefix]:
        """The image prefix for these pixels and token ids with room for `capacity` tokens.

        From the cache, or made now: then it is run with its first suffixes. `keep` it after using it.
        """
        key = PrefixKey(self.digest, pixel_digest(pixels), ids)
        prefix = self.prefixes.get(key)
        if prefix is not None:
            self.tally.add(prefix_hits=1)
            self.decoder.reserve(prefix, capacity)
        else:
            watch.enter("vision")
            embeds = self.vision.embed(pixels)
            self.tally.add(prefix_prefills=1)
            prefix = self.decoder.begin(ids, [embeds], capacity)
        self.keep(key, prefix)
        return key, prefix

    def keep(self, key: PrefixKey, prefix: Prefix) -> None:
        """Hold the prefix for the next question, with the bytes it has now."""
        self.prefixes.put(key, prefix)


def open_model(
    directory: Path,
    manifest: Manifest,
    threads: int | None = None,
    cache_bytes: int | None = None,
    share_weights: bool = False,
) -> Model:
    """Open the engine in `directory`, whose files have been checked.

    `cache_bytes` bounds prefixes and image embeds together; None has room for one picture at least. Raises
    EngineDamagedError, ProviderError, and with `share_weights` RunError.
    """
    cache_bytes = default_cache_bytes(manifest) if cache_bytes is None else cache_bytes
    digest = hash_file(directory / MANIFEST).sha256
    graphs = open_graphs(directory, manifest, threads, digest if share_weights else None)
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
        vision=VisionTower(graphs.vision, cache_bytes // VISION_SHARE, tally),
        decoder=decoder,
        gradients=PixelGradients(graphs.pixel_gradients, decoder.embed, manifest.tokens.image, tally),
        prefixes=ByteCache(cache_bytes - cache_bytes // VISION_SHARE),
        tally=tally,
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
