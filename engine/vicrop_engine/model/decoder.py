"""Prefill and greedy decode on the decoder graphs, and reading attention rows on the way.

Knows token ids, image embeds, prefixes and KV caches; nothing of questions, pictures or crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import copy

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import GRADIENT, GRAPHS
from vicrop_engine.engine_dir.records import DecoderGeometry, SpecialTokens
from vicrop_engine.model.answers.greedy import FREE, AnswerTokens, Generation, OnTokens, TokenRules
from vicrop_engine.model.answers.two_answers import OneAfterTheOther, SideBySide
from vicrop_engine.model.embedding import TokenTable
from vicrop_engine.model.forward import DecodeSteps, ForwardInputs, HostOutput, gradient_inputs
from vicrop_engine.model.interfaces import BothAnswers, Prefilled
from vicrop_engine.model.kv_cache import HostKVBuffers, KVArena, KVBuffers, KVCache, host_buffers
from vicrop_engine.model.packing import PackedPrompt, PackedStep
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.states import Floating, ImageEmbeds, joined, num_waiting, of_kind, on_host
from vicrop_engine.runtime.graphs import Graphs
from vicrop_engine.runtime.host_graph import Graph

_, LOWER, UPPER = GRAPHS


class HostDecoder:
    """The language model of one engine."""

    def __init__(
        self,
        graphs: Graphs,
        embeddings: Floating,
        geometry: DecoderGeometry,
        tokens: SpecialTokens,
        tally: Tally,
    ) -> None:
        self._graphs = graphs
        self.table = TokenTable(embeddings, tokens.image, geometry)
        self._tokens = tokens
        self._tally = tally
        self._num_lower, self._vocab_size = geometry.num_lower_layers, geometry.vocab_size
        self._num_upper = geometry.num_layers - geometry.num_lower_layers

    @property
    def answers_side_by_side(self) -> bool:
        """Whether a pass can give the logits of several tokens; engines of old versions cannot."""
        return self._graphs.upper.takes_answers

    @property
    def end_signs(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        return self._tokens.eos

    def begin(self, ids: Sequence[int], images: Sequence[ImageEmbeds], capacity: int) -> Prefix:
        """A prefix with room for `capacity` tokens, to be run with its first suffixes.

        Image tokens take the rows of `images`, [1 + added, image_tokens, hidden] each, in order.
        """
        embeds, positions = self.table.embed(ids, images), self.table.positions(ids, images, 0)
        return Prefix(self._buffers(capacity), len(ids), embeds=embeds, positions=positions)

    def reserve(self, prefix: Prefix, capacity: int) -> None:
        """Make room for `capacity` tokens; a prefix with less moves to larger buffers, once."""
        if capacity <= prefix.buffers.capacity:
            return
        self._tally.add(prefix_moves=1)
        old, larger = host_buffers(prefix.buffers), self._buffers(capacity)
        larger.lower.take(old.lower, prefix.length)
        larger.upper.take(old.upper, prefix.length)
        prefix.buffers = larger

    def prefill(
        self,
        prefix: Prefix,
        suffixes: Sequence[Sequence[int]],
        images: Sequence[ImageEmbeds] = (),
        *,
        answer: bool = True,
        layers: Sequence[int] = (),
        gradients: bool = False,
    ) -> HostOutput:
        """Run what is left of `prefix`, then `suffixes`, each right after it and blind to the others.

        All go through the lower layers in one pass. With `answer` the first goes on through the upper layers;
        all do when one of `layers`, whose attention is read, is up there, or with `gradients`, which are to
        be asked for next. Only the first stays in the cache.
        """
        lengths = tuple(len(suffix) for suffix in suffixes)
        embeds = self.table.embed([id for suffix in suffixes for id in suffix], images)
        positions = self.table.positions_of_each(suffixes, images, prefix.next_position)
        return self.prefill_embeds(
            prefix, embeds, lengths, positions, answer=answer, layers=layers, gradients=gradients
        )

    def prefill_embeds(
        self,
        prefix: Prefix,
        embeds: Floats,
        lengths: tuple[int, ...],
        positions: Ints | None = None,
        *,
        answer: bool = True,
        layers: Sequence[int] = (),
        gradients: bool = False,
    ) -> HostOutput:
        """`prefill` of suffixes of these lengths, whose tokens follow each other.

        `embeds` [1 + added, tokens, hidden] and `positions` [axes, tokens] are theirs.
        """
        above = gradients or self.reaches_upper(layers)
        num_upper = len(lengths) if above else int(answer)
        block = PackedPrompt.after(prefix, num_waiting(prefix.embeds), lengths, positions)
        cache = prefix.buffers.write(block.done, block.total, prefix.length + lengths[0])
        feeds = self._feeds(block, bool(layers) or gradients)
        hidden, lower_rows, tapped = self._lower(cache, joined(prefix.embeds, embeds), feeds)
        if prefix.embeds is not None:
            prefix.hidden = hidden[:, : prefix.length] if self._num_upper else None
            prefix.embeds = None
        if not num_upper:
            return HostOutput(cache, None, block, (lower_rows, None), tapped)
        hidden = hidden[:, block.prefix - block.done :][:, : sum(lengths[:num_upper])]
        going_up = PackedPrompt.after(prefix, num_waiting(prefix.hidden), lengths[:num_upper], positions)
        logits, upper_rows = self._upper(cache, joined(prefix.hidden, hidden), self._feeds(going_up, above))
        prefix.hidden = None
        return HostOutput(cache, logits, block, (lower_rows, upper_rows), tapped)

    def counted_by(self, tally: Tally) -> HostDecoder:
        """The same decoder, whose runs are counted there."""
        other = copy(self)
        other._tally = tally
        return other

    def reaches_upper(self, layers: Sequence[int]) -> bool:
        """Whether one of these layers is in the upper graph."""
        return bool(layers) and max(layers) >= self._num_lower

    def extend_prefix(self, prefix: Prefix, num_tokens: int, *, above: bool) -> bool:
        """Run `num_tokens` more of `prefix` alone through the lower layers, then, if `above`, the upper ones.

        False when nothing was left to run.
        """
        if prefix.embeds is not None:
            embeds, rest, cache, feeds = self._next(prefix, on_host(prefix.embeds), num_tokens)
            hidden, _, _ = self._lower(cache, embeds, feeds)
            prefix.hidden = joined(prefix.hidden, hidden) if self._num_upper else None
            prefix.embeds = rest
            return True
        if prefix.hidden is None or not above:
            return False
        hidden, rest, cache, feeds = self._next(prefix, on_host(prefix.hidden), num_tokens)
        self._upper(cache, hidden, feeds)
        prefix.hidden = rest
        return True

    def _next(
        self, prefix: Prefix, states: Floats, number: int
    ) -> tuple[Floats, Floats | None, KVCache, ForwardInputs]:
        """The next `number` of the states that wait, those left after them, their rows and feeds."""
        now, rest = np.split(states, [number], axis=1)
        block = PackedPrompt.of_prefix(prefix, states.shape[1], now.shape[1])
        cache = prefix.buffers.write(block.done, block.total, block.total)
        return now, rest if rest.shape[1] else None, cache, self._feeds(block)

    def gradients(self, output: Prefilled, suffix: int) -> tuple[Floats, Floats]:
        """Attention of a suffix's last token and the loss's gradient at it, [layers, heads, total] each.

        The loss is minus the cross-entropy of the token's logits with their largest; layers are those from
        the lowest heatmap layer on. `output` was made with `gradients`, and nothing has been run since then.
        Raises ValueError for another pass.
        """
        made, open_graph = of_kind(HostOutput, output), self._graphs.gradient
        if open_graph is None or not made.cache.buffers.is_latest(made.cache):
            raise ValueError("gradients are of a pass just made with gradients, in an engine that has them")
        self._tally.add(gradient_passes=1)
        with self._tally.running(GRADIENT, capacity=made.cache.buffers.capacity):
            outputs = open_graph().run(gradient_inputs(made, suffix))
        attention, gradient = outputs["attention"].numpy(), outputs["gradient"].numpy()
        return attention[..., : made.total], gradient[..., : made.total]

    def logits(self, output: Prefilled) -> Floats:
        """Logits [vocab] after the first suffix of a pass. Raises ValueError if that did not go up."""
        logits = of_kind(HostOutput, output).logits
        if logits is None:
            raise ValueError("the pass went through the lower layers only; run it with answer")
        return logits

    def decode(
        self, output: Prefilled, max_new_tokens: int, on_tokens: OnTokens = None, rules: TokenRules = FREE
    ) -> Generation:
        """Greedy tokens from the logits of `output`, see `interfaces.Decoder`."""
        answer = AnswerTokens(self._tokens.eos, max_new_tokens, on_tokens, rules)
        made, steps = of_kind(HostOutput, output), None
        cache, ahead = made.cache, made.next_position - made.cache.length
        answer.take(self.logits(output))
        while not answer.is_done:
            steps = steps or self.steps(cache.buffers)
            with self._counted_step(1, cache.length + 1, cache.buffers.capacity):
                embeds = self.table.rows[answer.ids[-1]]
                logits = steps.after(embeds, cache.length, cache.length + ahead)
            answer.take(logits)
            cache = cache.grown(1)
        return answer.generation

    def begin_both(
        self,
        output: Prefilled,
        prefix: Prefix,
        question: Sequence[int],
        max_new_tokens: int,
        on_tokens: OnTokens = None,
        rules: TokenRules = FREE,
    ) -> BothAnswers:
        """Begin the first answer after `question`; what follows of it goes along with the final one's."""
        if not self.answers_side_by_side:
            return OneAfterTheOther(self, output, prefix, max_new_tokens, on_tokens, rules)
        first = of_kind(HostOutput, output)
        if not first.cache.buffers.holds(first.cache):  # a localizer has made passes of its own
            first = self.prefill(prefix, [question])
        return SideBySide(self, first, prefix, max_new_tokens, on_tokens, rules)

    def step(self, steps: DecodeSteps, embeds: Floats, block: PackedStep) -> Floats:
        """One step of an answer or two; logits [answers, vocab]."""
        with self._counted_step(block.num_new, block.total, steps.capacity):
            return steps.run(embeds[0], block.position_ids, block.bias())

    def _counted_step(self, tokens: int, total: int, capacity: int) -> AbstractContextManager[object]:
        self._tally.add(
            decode_steps=tokens, lower_passes=1, lower_tokens=tokens, upper_passes=1, upper_tokens=tokens
        )
        sizes = {"seq": tokens, "total": total, "rows": 0, "answers": tokens, "capacity": capacity}
        return self._tally.running(LOWER, UPPER, **sizes)

    @property
    def takes_batches(self) -> bool:
        """Whether a step can be of several sequences; engines of old versions cannot."""
        graphs = self._graphs.lower, self._graphs.upper
        return all(isinstance(graph, Graph) and graph.takes_batches for graph in graphs)

    def arena(self, count: int, capacity: int) -> KVArena:
        """Zeroed buffers for `count` sequences; memory is taken as they are filled."""
        graphs = self._graphs.lower, self._graphs.upper
        lower, upper = (graph for graph in graphs if isinstance(graph, Graph))
        slots = [graph.new_buffers(count, capacity) for graph in (lower, upper)]
        return KVArena(slots[0], slots[1], (lower.bound_to, upper.bound_to), capacity)

    def steps(self, buffers: KVBuffers, count: int = 1) -> DecodeSteps:
        """Steps of `count` tokens on these buffers."""
        sizes = self._vocab_size, self.table.rows.shape[1], count
        axes, slices, spare = self.table.axes, self.table.slices, self.takes_batches
        tensor = self._graphs.lower.tensor
        return DecodeSteps(host_buffers(buffers), tensor, *sizes, axes=axes, slices=slices, spare_rows=spare)

    def side_by_side(
        self, cache: KVCache, block: PackedStep, embeds: Floats, num_decoded: int
    ) -> tuple[KVCache, Floats]:
        """One pass of new tokens of several answers after the rows of `cache`; logits [answers, vocab].

        `num_decoded` of the tokens belong to answers, the others to prompts.
        """
        feeds = self._feeds(block)
        cache = cache.grown(block.num_new)
        hidden, _, _ = self._lower(cache, embeds, feeds)
        self._tally.add(upper_passes=1, upper_tokens=feeds.num_new, decode_steps=num_decoded)
        with self._tally.running(UPPER, capacity=cache.buffers.capacity, **feeds.sizes):
            outputs = host_buffers(cache.buffers).upper.run({"hidden_states": hidden, **feeds.tensors})
        return cache, outputs["logits"].numpy()

    def _buffers(self, capacity: int) -> HostKVBuffers:
        return HostKVBuffers(self._graphs.lower.bound(capacity), self._graphs.upper.bound(capacity), capacity)

    def _feeds(self, block: PackedPrompt | PackedStep, tap: bool = False) -> ForwardInputs:
        return ForwardInputs(block, tap, self._graphs.lower.tensor)

    def _lower(
        self, cache: KVCache, embeds: Floats, feeds: ForwardInputs
    ) -> tuple[Floats, Floats | None, Floats | None]:
        """Hidden states [1, new, hidden], and with a tap attention rows and the taps' states."""
        self._tally.add(lower_passes=1, lower_tokens=feeds.num_new)
        with self._tally.running(LOWER, capacity=cache.buffers.capacity, **feeds.sizes):
            outputs = host_buffers(cache.buffers).lower.run({"inputs_embeds": embeds, **feeds.tensors})
        hidden = outputs["hidden_states"].numpy()
        if not feeds.tap:
            return hidden, None, None
        tapped = outputs.get("tapped_states")
        return hidden, outputs["attention"].numpy(), None if tapped is None else tapped.numpy()

    def _upper(self, cache: KVCache, hidden: Floats, feeds: ForwardInputs) -> tuple[Floats, Floats | None]:
        """Logits [vocab] after the first suffix, and with a tap attention rows of the upper layers."""
        self._tally.add(upper_passes=1, upper_tokens=feeds.num_new)
        with self._tally.running(UPPER, capacity=cache.buffers.capacity, **feeds.sizes):
            outputs = host_buffers(cache.buffers).upper.run({"hidden_states": hidden, **feeds.tensors})
        rows = outputs["attention"].numpy() if feeds.tap and self._num_upper else None
        return outputs["logits"].numpy().reshape(-1), rows
