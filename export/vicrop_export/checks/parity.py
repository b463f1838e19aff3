"""Runs the exported graphs the way the runtime does and compares them with transformers.

Prefix with no past and no taps, suffix from the prefix's KV cache, then one decoded token: every length the
runtime uses. Knows the graphs' interface in both flavours of attention, not how they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.engine_dir.manifest import GRADIENT, INSTRUCTED
from vicrop_engine.engine_dir.records import DecoderGeometry, Parity
from vicrop_engine.errors import ParityError
from vicrop_engine.images.seen import PIXELS
from vicrop_engine.model.instructed import EMBEDS, IDS, STATES
from vicrop_engine.runtime.appending_graph import TYPES
from vicrop_engine.runtime.graphs import UNFUSED
from vicrop_engine.runtime.interfaces import PAST, PRESENT
from vicrop_engine.runtime.sessions import open_session, session_options
from vicrop_export.checks.reference import Reference
from vicrop_export.modules.decoder import causal_bias
from vicrop_export.modules.interfaces import CAPACITY_AXIS, ROWS_AXIS, TAPPED, kv_names
from vicrop_export.probe import Probe

TOLERANCE = 1e-4
USUAL = Parity(
    TOLERANCE, TOLERANCE, TOLERANCE, TOLERANCE
)  # what is allowed, in the shape of what is measured
HALF = "float16"
SPARE = 7  # buffers longer than what is written, as the runtime's are
Cache = dict[str, Floats]
OpenGraph = Callable[[Path], Any]


def relative_l2(got: Floats, wanted: Floats) -> float:
    """‖got − wanted‖ / ‖wanted‖ in float64; infinite when the shapes differ or anything is not finite."""
    if got.shape != wanted.shape:
        return float("inf")
    difference = np.linalg.norm(got.astype(np.float64) - wanted.astype(np.float64))
    ratio = difference / max(float(np.linalg.norm(wanted.astype(np.float64))), np.finfo(np.float64).tiny)
    return float(ratio) if np.isfinite(ratio) else float("inf")


def open_whole(path: Path) -> Any:
    """The graph of one file as one session on the CPU provider."""
    options = session_options()
    options.add_session_config_entry(*UNFUSED)
    return open_session(path, options)


def check_parity(
    directory: Path,
    decoder: DecoderGeometry,
    probe: Probe,
    reference: Reference,
    *,
    limits: Parity = USUAL,
    open_graph: OpenGraph = open_whole,
) -> Parity:
    """`measure_parity`, held against `limits`. Raises ParityError."""
    parity = measure_parity(directory, decoder, probe, reference, open_graph=open_graph)
    demand_parity(parity, limits)
    return parity


def measure_parity(
    directory: Path,
    decoder: DecoderGeometry,
    probe: Probe,
    reference: Reference,
    *,
    open_graph: OpenGraph = open_whole,
) -> Parity:
    """Measure the graphs in `directory` against the reference; `attention` is the worst layer's figure.

    `open_graph` makes something with a session's `get_inputs`, `get_outputs` and `run` out of a graph's path,
    so that a graph larger than memory can be run in pieces.
    """
    graphs = EngineGraphs(directory, decoder, len(probe.ids) + SPARE, open_graph)
    embeds = graphs.image_embeds(probe.picture.arrays, probe.picture.instruction)
    attention, logits, gradient = [], [], None
    prefix = graphs.embed(probe.prefix)
    prefix[:, probe.is_image[: len(probe.prefix)]] = embeds
    graphs.forward(prefix, probe.positions[:, : len(probe.prefix)], taps=[])
    for tokens in (probe.suffix, [probe.decoded]):
        last, start = len(tokens) - 1, graphs.num_cached
        positions = probe.positions[:, start : start + len(tokens)]
        rows, token_logits = graphs.forward(graphs.embed(tokens), positions, taps=[0, last])
        end = graphs.num_cached
        wanted = reference.attention[:, [end - len(tokens), end - 1], :, :end]
        attention.append([relative_l2(got, want) for got, want in zip(rows, wanted, strict=True)])
        logits.append(token_logits)
        if reference.gradient is not None and gradient is None:
            gradient = relative_l2(graphs.gradient(), reference.gradient[..., :end])
    return Parity(
        image_embeds=relative_l2(embeds, reference.image_embeds),
        attention=float(np.max(attention)),
        logits=relative_l2(np.concatenate(logits), reference.logits),
        gradient=gradient,
    )


def reference_parity(got: Reference, wanted: Reference, probe: Probe) -> Parity:
    """The same figures of one run of transformers against another."""
    ends = (len(probe.prefix) + len(probe.suffix), len(probe.ids))
    starts = (len(probe.prefix), len(probe.ids) - 1)
    rows = [[start, end - 1] for start, end in zip(starts, ends, strict=True)]
    both = got.gradient is not None and wanted.gradient is not None
    return Parity(
        image_embeds=relative_l2(got.image_embeds, wanted.image_embeds),
        attention=max(
            relative_l2(one[place], other[place])
            for one, other in zip(got.attention, wanted.attention, strict=True)
            for place in rows
        ),
        logits=relative_l2(got.logits, wanted.logits),
        gradient=relative_l2(np.asarray(got.gradient), np.asarray(wanted.gradient)) if both else None,
    )


def is_within(parity: Parity, limits: Parity) -> bool:
    """Whether no figure is above its limit; one without a limit is not looked at."""
    return not _above(parity, limits)


def demand_parity(parity: Parity, limits: Parity) -> None:
    """Raises ParityError where a figure is above its limit."""
    for name, (figure, limit) in _above(parity, limits).items():
        raise ParityError(
            f"the exported graphs' {name} are {figure:.1e} (relative L2) from transformers, wanted at "
            f"most {limit:.1e}; no engine was made: report this with the checkpoint's config.json"
        )


def _above(parity: Parity, limits: Parity) -> dict[str, tuple[float, float]]:
    pairs = {name: (figure, getattr(limits, name)) for name, figure in asdict(parity).items()}
    return {
        name.replace("_", " "): (figure, limit)
        for name, (figure, limit) in pairs.items()
        if figure is not None and limit is not None and not figure <= limit
    }


class EngineGraphs:
    """The graphs with one KV cache, in buffers of `capacity` tokens where attention works in place.

    Else it grows by what comes out, token by token.
    """

    def __init__(
        self, directory: Path, decoder: DecoderGeometry, capacity: int, open_graph: OpenGraph = open_whole
    ) -> None:
        self.vision, self.lower, self.upper = (
            open_graph(directory / f"{name}.onnx") for name in ("vision", "decoder_lower", "decoder_upper")
        )
        self._open_gradient = partial(open_graph, directory / f"{GRADIENT}.onnx")
        self._open_instructed = partial(open_graph, directory / f"{INSTRUCTED}.onnx")
        self._tapped: Floats | None = None
        self.table: Floats = np.load(directory / "token_embeddings.npy", mmap_mode="r")
        self._slices = 1 + decoder.added_embeds
        self._last_position: Ints | None = None
        self.num_cached = 0
        last = self.lower.get_outputs()[-1]
        self.in_place = CAPACITY_AXIS in last.shape
        biases = {value.name: value.shape for value in self.lower.get_inputs()}
        self._taps_alone = biases["attention_bias"][2] == ROWS_AXIS
        heads, dim = decoder.num_kv_heads, decoder.head_dim
        shape = (1, heads, capacity, dim) if self.in_place else (1, 0, heads, dim)
        names = kv_names("past_key_values", range(decoder.num_layers))
        self.cache: Cache = dict.fromkeys(names, np.full(shape, np.nan, TYPES[last.type]))

    def forget(self) -> None:
        """Begin with no tokens again, where attention works in place."""
        self.num_cached = 0

    def image_embeds(
        self, picture: Mapping[str, np.ndarray], instruction: Sequence[int] | None = None
    ) -> Floats:
        """Embeddings [1 + added, tokens, hidden] of one picture, run beside another one where that can be.

        With an `instruction` the second stage reads it with what the tower made of the picture.
        """
        feeds = dict(picture)
        if PIXELS in feeds and self.vision.get_inputs()[0].shape[0] != 1:
            feeds[PIXELS] = np.concatenate((feeds[PIXELS], np.zeros_like(feeds[PIXELS])))
        [embeds] = self._run(self.vision, feeds).values()
        embeds = embeds[:1] if PIXELS in feeds else embeds
        if instruction is None:
            return embeds
        stage, ids = self._open_instructed(), np.array([instruction], np.int64)
        return self._run(stage, {STATES: embeds, IDS: ids})[EMBEDS]

    def embed(self, ids: Sequence[int]) -> Floats:
        """Text's embeddings [1 + added, tokens, hidden], which has nothing in the added slices."""
        rows = self.table[list(ids)].astype(np.float32)
        return np.stack((rows, *(np.zeros_like(rows) for _ in range(self._slices - 1))))

    def forward(self, inputs_embeds: Floats, positions: Ints, taps: list[int]) -> tuple[Floats, Floats]:
        """Attention [layers, rows, heads, total] and logits [1, vocab]; the cache grows by the new tokens.

        These stand at `positions` [axes, tokens].
        """
        num_new = inputs_embeds.shape[1]
        self.num_cached += num_new
        self._last_position = positions[:, -1:]
        shared: dict[str, np.ndarray] = {
            "position_ids": positions,
            "tap_positions": np.array(taps, np.int64),
            "attention_bias": self._bias(num_new, taps),
            "answer_position": np.array([num_new - 1]),
        }
        lower = self._run(self.lower, {"inputs_embeds": inputs_embeds, **shared})
        upper = self._run(self.upper, {"hidden_states": lower["hidden_states"], **shared})
        rows = [graph["attention"] for graph in (lower, upper) if "attention" in graph]
        self._tapped = lower.get(TAPPED)
        return np.concatenate(rows), upper["logits"]

    def gradient(self) -> Floats:
        """The gradient at the attention of the last tap of the last pass, [layers, heads, total]."""
        assert self._tapped is not None, "the lower graph gives its taps' states"
        assert self._last_position is not None, "something has been read"
        buffers = {name: np.nan_to_num(rows) for name, rows in self.cache.items()}
        capacity = max(rows.shape[2] for rows in buffers.values())
        last = np.array([self.num_cached - 1])
        bias = np.where(np.arange(capacity) <= last, 0, -np.inf).astype(np.float32)
        feeds: Mapping[str, np.ndarray] = {
            "position_ids": self._last_position,
            "attention_bias": bias[None, None, None],
            "own_row": last,
        }
        outputs = self._run(self._open_gradient(), {TAPPED: self._tapped[:, -1:], **feeds, **buffers})
        return outputs["gradient"][..., : self.num_cached]

    def _bias(self, num_new: int, taps: list[int]) -> Floats:
        """The causal bias of all new tokens, or where the graphs take those alone, of the taps."""
        bias: Floats = causal_bias(num_new, self.num_cached - num_new).numpy()
        return bias[:, :, taps] if self._taps_alone else bias

    def _run(self, graph: Any, feeds: dict[str, np.ndarray]) -> dict[str, Floats]:
        wanted = {value.name: value.type for value in graph.get_inputs()}
        names = [value.name for value in graph.get_outputs()]
        values = {name: value for name, value in {**self.cache, **feeds}.items() if name in wanted}
        values = {name: _as_half(value) if HALF in wanted[name] else value for name, value in values.items()}
        outputs = dict(zip(names, graph.run(names, values), strict=True))
        for name, value in outputs.items():
            if name.startswith(PRESENT):
                past = name.replace(PRESENT, PAST, 1)
                self.cache[past] = (
                    value if self.in_place else np.concatenate((self.cache[past], value), axis=1)
                )
        return outputs


def _as_half(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float16, copy=False)
