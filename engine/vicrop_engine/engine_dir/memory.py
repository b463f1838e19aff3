"""What asking takes in memory, by arithmetic from an engine's manifest; tests hold it against the real thing.

Weights are counted as their files and a tenth: ONNX Runtime maps these, and keeps a repacked copy of about
that size instead of the pages where a kernel wants one. Twins are counted whether this processor takes them
or not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vicrop_engine.engine_dir.manifest import EMBEDDINGS, Manifest
from vicrop_engine.engine_dir.records import DecoderGeometry
from vicrop_engine.process_limits import usable_bytes

FLOAT, HALF = 4, 2
ROOM = 128  # tokens of a question and an answer beside two pictures
PACKED = 1.1  # of a file's size (measured with int4 at the size of LLaVA-1.5-7B: 1.08)
RUNTIME = 150 << 20  # Python, NumPy and ONNX Runtime before any engine
LEAST_CACHE = 1 << 30
CACHE_SHARE = 4  # caches get one part in so many of what the weights and an ask leave, where that is less
SMALL_SHARE = 8  # image embeds and decoded pictures get one part each in so many, prefixes the rest


@dataclass(frozen=True)
class AskMemory:
    """Bytes while asking about one picture, and what at most is kept of other pictures by default.

    `tile` are the keys and values of one tile up to the heatmap layer, for tiles are read one by one.
    """

    weights: int
    kv_buffers: int
    tile: int
    working: int
    cache: int

    @property
    def peak(self) -> int:
        """All of it with nothing kept of other pictures."""
        return RUNTIME + self.weights + self.kv_buffers + self.tile + self.working


def ask_memory(manifest: Manifest) -> AskMemory:
    """The memory of a rel-att ask with a question of usual length."""
    return replace(_without_cache(manifest), cache=default_cache_bytes(manifest))


def _without_cache(manifest: Manifest) -> AskMemory:
    tokens = _both(manifest) + ROOM
    twins = manifest.twins or {}
    elsewhere = {EMBEDDINGS, *(f"{twin}.onnx.data" for twin in twins)}
    weights = sum(entry.size for name, entry in manifest.files.items() if name not in elsewhere)
    apart = 0 if manifest.instructed is None else manifest.picture_tokens + ROOM  # the general prompt's own
    working = _working_bytes(manifest, tokens)
    weights = int(PACKED * weights) + sum(twins.values())
    width = _width(manifest)
    buffers = kv_bytes(manifest.decoder, tokens + apart, width)
    lower = replace(manifest.decoder, num_layers=manifest.decoder.num_lower_layers)
    tile = kv_bytes(lower, manifest.crop_tokens + ROOM, width)
    return AskMemory(weights, buffers, tile, working, cache=0)


def _both(manifest: Manifest) -> int:
    """Tokens of picture and crop; a crop that fits the context no more is seen as one input."""
    picture, one = manifest.picture_tokens, manifest.vision.image_tokens
    fitting = manifest.decoder.context_length - picture
    return picture + max(one, min(manifest.crop_tokens, fitting))


def requests_that_fit(manifest: Manifest, total: int | None = None) -> int:
    """How many requests' prefixes and answers fit half of `total` bytes beside the weights, one at least.

    None are the bytes this process may use.
    """
    total = usable_bytes() if total is None else total
    picture = manifest.picture_tokens
    crop = _both(manifest) - picture
    tokens = 2 * picture + 3 * crop + 3 * ROOM  # a prefix with its crop, and both answers' own rows
    one = kv_bytes(manifest.decoder, tokens, _width(manifest))
    return max(1, (total // 2 - _without_cache(manifest).weights) // one)


def kv_bytes(decoder: DecoderGeometry, num_tokens: int, width: int = FLOAT) -> int:
    """Keys and values of so many tokens in all layers, of `width` bytes each."""
    return 2 * decoder.num_layers * decoder.num_kv_heads * decoder.head_dim * width * num_tokens


def default_cache_bytes(manifest: Manifest, total: int | None = None) -> int:
    """Room for one picture at least, and a gigabyte if that is more; less where `total` bytes hold no more.

    None are the bytes this process may use.
    """
    tokens = _both(manifest) + 2 * ROOM
    one = kv_bytes(manifest.decoder, tokens, _width(manifest))
    wanted = max(LEAST_CACHE, -(-one * SMALL_SHARE // (SMALL_SHARE - 2)))
    return min(wanted, spare_bytes(manifest, total) // CACHE_SHARE)


def spare_bytes(manifest: Manifest, total: int | None = None) -> int:
    """What is left of `total` bytes beside the weights and one ask, 0 at least.

    None are the bytes this process may use. Weights on a device are not this process's.
    """
    total = usable_bytes() if total is None else total
    return max(0, total - (_without_cache(manifest).peak if manifest.target == "cpu" else RUNTIME))


def _width(manifest: Manifest) -> int:
    """Bytes of one number of the states: an engine for a device computes in float16."""
    return FLOAT if manifest.target == "cpu" else HALF


def _working_bytes(manifest: Manifest, tokens: int) -> int:
    """The widest moments of a pass over a crop: one layer's scores twice, and every new token's states.

    120 times as wide as the hidden size: an MLP's three products with tokens of two bytes, and as much again
    as the allocator keeps in pieces (measured with int8 at the size of LLaVA-1.5-7B: 114).
    """
    decoder, new = manifest.decoder, manifest.picture_tokens + ROOM
    scores = decoder.num_heads * new * tokens
    states = 120 * decoder.hidden_size * new
    return FLOAT * (2 * scores + states)
