"""Prefill and greedy decode where all tensors stay on a device, and attention rows left there.

The counterpart of `decoder` for graphs that know causal attention alone: suffixes are passes of their own,
the one to be continued last, for the others' keys and values are then written over. Every pass taps one row,
so that no operator sees an empty tensor. Logits come to the host, one row for each token generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.records import DecoderGeometry, SpecialTokens
from vicrop_engine.model.answers.greedy import FREE, AnswerTokens, Generation, OnTokens, TokenRules
from vicrop_engine.model.answers.two_answers import OneAfterTheOther
from vicrop_engine.model.interfaces import BothAnswers, Prefilled
from vicrop_engine.model.kv_cache import KVBuffers, KVCache
from vicrop_engine.model.positions import counted, next_position, positions_of
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.states import Floating, ImageEmbeds, States, of_kind
from vicrop_engine.runtime.device import AttentionRow, Device, DeviceTensor
from vicrop_engine.runtime.device_graph import BoundDeviceGraph, DeviceGraph, DeviceGraphs, Feed

Feeds = dict[str, DeviceTensor]


@dataclass(frozen=True)
class DeviceOutput:
    """What a pass over a prefix and its suffixes left on the device.

    `cache` ends with the first suffix; `logits` [1, vocab] are those after it, None when it did not go up.
    `attention` holds, by suffix, its last row of lower and upper graph, each [layers, 1, heads, total];
    `next_position` is that of the token after the first suffix.
    """

    device: Device
    cache: KVCache
    logits: DeviceTensor | None
    attention: tuple[tuple[DeviceTensor, ...], ...]
    next_position: int

    def rows(self, suffix: int) -> dict[int, AttentionRow]:
        """Attention [heads, total] of a suffix's last token, by absolute layer."""
        places = [(part, layer) for part in self.attention[suffix] for layer in range(part.shape[0])]
        return {number: AttentionRow(self.device, *place, 0) for number, place in enumerate(places)}


class DeviceKVBuffers(KVBuffers):
    """Buffers on the device, which give no array."""

    def __init__(self, lower: BoundDeviceGraph, upper: BoundDeviceGraph, capacity: int) -> None:
        super().__init__(capacity)
        self.lower, self.upper = lower, upper

    @property
    def sides(self) -> tuple[BoundDeviceGraph, BoundDeviceGraph]:
        """The lower and the upper graph."""
        return self.lower, self.upper


class DeviceDecoder:
    """The language model of one engine on a device."""

    answers_side_by_side: ClassVar[bool] = False

    def __init__(
        self,
        graphs: DeviceGraphs,
        embeddings: Floating,
        geometry: DecoderGeometry,
        tokens: SpecialTokens,
        tally: Tally,
    ) -> None:
        self._graphs, self._device = graphs, graphs.device
        self._embeddings = embeddings
        self._tokens = tokens
        self._tally = tally
        self._num_lower = geometry.num_lower_layers
        self._num_upper = geometry.num_layers - geometry.num_lower_layers
        self._axes, self._slices = geometry.position_axes, 1 + geometry.added_embeds
        self._copied: tuple[DeviceOutput, Floats] | None = None

    def embed(self, ids: Sequence[int]) -> Floating:
        """Rows of the token table on the host, [1 + added, len, hidden]; the added slices hold nothing."""
        rows: Floating = self._embeddings[np.asarray(ids, np.int64)].astype(self._graphs.lower.states)
        return np.concatenate((rows[None], np.zeros((self._slices - 1, *rows.shape), rows.dtype)))

    def begin(self, ids: Sequence[int], images: Sequence[ImageEmbeds], capacity: int) -> Prefix:
        """A prefix with room for `capacity` tokens, to be run with its first suffixes.

        Image tokens take the rows of `images`, [1 + added, image_tokens, hidden] each, in order.
        """
        embeds, positions = self._embed(ids, images), self._positions(ids, images, 0)
        return Prefix(self._buffers(capacity), len(ids), embeds=embeds, positions=positions)

    def reserve(self, prefix: Prefix, capacity: int) -> None:
        """Make room for `capacity` tokens; a prefix with less moves to larger buffers, once."""
        if capacity <= prefix.buffers.capacity:
            return
        self._tally.add(prefix_moves=1)
        old, more = of_kind(DeviceKVBuffers, prefix.buffers), capacity - prefix.buffers.capacity
        prefix.buffers = DeviceKVBuffers(self._moved(old.lower, more), self._moved(old.upper, more), capacity)

    def prefill(
        self,
        prefix: Prefix,
        suffixes: Sequence[Sequence[int]],
        images: Sequence[ImageEmbeds] = (),
        *,
        answer: bool = True,
        layers: Sequence[int] = (),
        gradients: bool = False,
    ) -> DeviceOutput:
        """Run what is left of `prefix`, then each of `suffixes` right after it, the first one last.

        With `answer` the first goes on through the upper layers; all do when one of `layers`, whose attention
        is read, is up there. Only the first stays in the cache. Raises ValueError for `gradients`.
        """
        if gradients:
            raise ValueError("gradients are not in engines for a device; check the manifest first")
        above = bool(layers) and max(layers) >= self._num_lower
        attention: list[tuple[DeviceTensor, ...]] = []
        for number in reversed(range(len(suffixes))):
            suffix = suffixes[number]
            seen = images if self._tokens.image in suffix else ()
            up = above or (answer and number == 0)
            stand = self._positions(suffix, seen, prefix.next_position)
            cache, logits, rows = self._run_suffix(prefix, self._embed(suffix, seen), stand, up)
            attention.insert(0, rows)
        return DeviceOutput(self._device, cache, logits, tuple(attention), next_position(stand))

    def logits(self, output: Prefilled) -> Floats:
        """Logits [vocab] after the first suffix of a pass, on the host; copied there once.

        Raises ValueError if the suffix did not go up.
        """
        made = of_kind(DeviceOutput, output)
        if made.logits is None:
            raise ValueError("the pass went through the lower layers only; run it with answer")
        if self._copied is None or self._copied[0] is not made:
            self._copied = made, self._on_host(made.logits)
        return self._copied[1]

    def decode(
        self, output: Prefilled, max_new_tokens: int, on_tokens: OnTokens = None, rules: TokenRules = FREE
    ) -> Generation:
        """Greedy tokens from the logits of `output`, see `interfaces.Decoder`."""
        answer = AnswerTokens(self._tokens.eos, max_new_tokens, on_tokens, rules)
        made = of_kind(DeviceOutput, output)
        cache, position = made.cache, made.next_position
        answer.take(self.logits(output))
        while not answer.is_done:
            self._tally.add(decode_steps=1)
            cache = cache.grown(1)
            feeds = self._feeds(cache.length, counted(position, 1, self._axes))
            position += 1
            lower = self._lower(cache, self._device.upload(self.embed(answer.ids[-1:])), feeds)
            answer.take(self._on_host(self._upper(cache, lower["hidden_states"], feeds)["logits"]))
        return answer.generation

    def gradients(self, output: Prefilled, suffix: int) -> tuple[Floats, Floats]:
        """None: raises ValueError."""
        raise ValueError("gradients are not in engines for a device; check the manifest first")

    def begin_both(
        self,
        output: Prefilled,
        prefix: Prefix,
        question: Sequence[int],
        max_new_tokens: int,
        on_tokens: OnTokens = None,
        rules: TokenRules = FREE,
    ) -> BothAnswers:
        """The first answer now, whose rows the final one's then take."""
        return OneAfterTheOther(self, output, prefix, max_new_tokens, on_tokens, rules)

    def _on_host(self, logits: DeviceTensor) -> Floats:
        return self._device.host(logits).reshape(-1).astype(np.float32)

    def _run_suffix(
        self, prefix: Prefix, embeds: DeviceTensor, positions: Ints, up: bool
    ) -> tuple[KVCache, DeviceTensor | None, tuple[DeviceTensor, ...]]:
        """One pass over what waits of the prefix and a suffix after it: cache, logits and attention."""
        fresh = prefix.embeds is not None
        length = prefix.length + num_tokens(embeds)
        cache = prefix.buffers.write(0 if fresh else prefix.length, length, length)
        states = self._joined(waiting(prefix.embeds), embeds)
        feeds = self._feeds(length, _after(prefix, positions, num_tokens(states)))
        lower = self._lower(cache, states, feeds)
        hidden, rows = lower["hidden_states"], lower["attention"]
        if fresh and not up:
            prefix.hidden = self._picked(hidden, np.arange(prefix.length)) if self._num_upper else None
        prefix.embeds = None
        if not up:
            return cache, None, (rows,)
        going_up = self._joined(waiting(prefix.hidden), hidden)
        if going_up is not hidden:
            feeds = self._feeds(length, _after(prefix, positions, num_tokens(going_up)))
        upper = self._upper(cache, going_up, feeds)
        prefix.hidden = None
        return cache, upper["logits"], (rows, upper["attention"]) if self._num_upper else (rows,)

    def _lower(self, cache: KVCache, embeds: DeviceTensor, feeds: Feeds) -> Feeds:
        self._tally.add(lower_passes=1, lower_tokens=num_tokens(embeds))
        return of_kind(DeviceKVBuffers, cache.buffers).lower.run({"inputs_embeds": embeds, **feeds})

    def _upper(self, cache: KVCache, hidden: DeviceTensor, feeds: Feeds) -> Feeds:
        self._tally.add(upper_passes=1, upper_tokens=num_tokens(hidden))
        return of_kind(DeviceKVBuffers, cache.buffers).upper.run({"hidden_states": hidden, **feeds})

    def _feeds(self, length: int, positions: Ints) -> Feeds:
        """What both graphs are fed beside states of tokens at `positions` [axes, new], the last of `length`.

        It is tapped, and may look at all.
        """
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "position_ids": positions,
            "tap_positions": np.array([positions.shape[1] - 1]),
            "attention_bias": np.zeros((1, 1, 1, length), np.float32),
        }
        feeds = {name: self._device.upload(array) for name, array in arrays.items()}
        return {**feeds, "answer_position": feeds["tap_positions"]}

    def _embed(self, ids: Sequence[int], images: Sequence[ImageEmbeds]) -> DeviceTensor:
        """[1, len, hidden]: rows of the table, with image embeds in place of image tokens."""
        index = np.asarray(ids, np.int64)
        if not images:
            return self._device.upload(self.embed(index.tolist()))
        is_image = index == self._tokens.image
        seen = of_kind(DeviceTensor, images[0].states)
        for image in images[1:]:
            seen = self._joined(seen, of_kind(DeviceTensor, image.states))
        if is_image.all():
            return seen
        text = self._device.upload(self.embed(index[~is_image].tolist()))
        place = np.where(is_image, np.cumsum(is_image) - 1, num_tokens(seen) + np.cumsum(~is_image) - 1)
        return self._picked(seen, place, text)

    def _positions(self, ids: Sequence[int], images: Sequence[ImageEmbeds], start: int) -> Ints:
        is_image = np.asarray(ids, np.int64) == self._tokens.image
        return positions_of(is_image, [image.offsets for image in images], start, self._axes)

    def _joined(self, waiting: DeviceTensor | None, new: DeviceTensor) -> DeviceTensor:
        if waiting is None:
            return new
        return self._picked(waiting, np.arange(num_tokens(waiting) + num_tokens(new)), new)

    def _picked(
        self, first: DeviceTensor, index: npt.NDArray[np.int64], second: DeviceTensor | None = None
    ) -> DeviceTensor:
        """Rows of one tensor, or of two counted on from one to the other, [1, len, hidden]."""
        feeds: dict[str, Feed] = {"first": first, "second": second or first, "index": index}
        return self._graphs.rows.run(feeds)["picked"]

    def _buffers(self, capacity: int) -> DeviceKVBuffers:
        graphs = self._graphs.lower, self._graphs.upper
        lower, upper = (self._with_buffers(graph, max(capacity, 1)) for graph in graphs)
        return DeviceKVBuffers(lower, upper, capacity)

    def _with_buffers(self, graph: DeviceGraph, capacity: int) -> BoundDeviceGraph:
        """The graph with buffers of zeros, which are made on the device from a row of them."""
        buffers = {}
        for name, (heads, dim) in graph.past_shapes.items():
            row = self._device.upload(np.zeros((1, heads, 1, dim), graph.states))
            buffers[name] = self._grown(row, capacity - 1) if capacity > 1 else row
        return graph.bound(buffers)

    def _moved(self, side: BoundDeviceGraph, more: int) -> BoundDeviceGraph:
        buffers = {name: self._grown(buffer, more) for name, buffer in side.buffers.items()}
        return side.graph.bound(buffers)

    def _grown(self, buffer: DeviceTensor, more: int) -> DeviceTensor:
        """The buffer with `more` rows of zeros after its own, elsewhere on the device."""
        return self._graphs.kv_buffer.run({"past": buffer, "added": np.array([more])})["buffer"]


def num_tokens(states: DeviceTensor) -> int:
    """Tokens of states [1 + added, tokens, hidden]."""
    return states.shape[1]


def waiting(states: States | None) -> DeviceTensor | None:
    """What waits on the device. Raises TypeError for the host's."""
    return None if states is None else of_kind(DeviceTensor, states)


def _after(prefix: Prefix, positions: Ints, num_new: int) -> Ints:
    """The positions of the last `num_new` tokens of a prefix and those at `positions` after it."""
    waits = num_new - positions.shape[1]
    if not waits or prefix.positions is None:
        return positions
    return np.concatenate((prefix.positions[:, -waits:], positions), axis=1)
