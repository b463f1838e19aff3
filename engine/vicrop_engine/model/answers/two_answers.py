"""First and final answer of one request: side by side, each pass reading the weights for both, or in turn.

Side by side the first answer's second token goes along with the crop's pass, its later ones with the final
answer's. Knows passes and tokens; nothing of pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.model.answers.greedy import FREE, AnswerTokens, Generation, OnTokens, TokenRules
from vicrop_engine.model.embedding import TokenTable
from vicrop_engine.model.forward import DecodeSteps, HostOutput
from vicrop_engine.model.interfaces import Decoder, Prefilled
from vicrop_engine.model.kv_cache import KVBuffers, KVCache
from vicrop_engine.model.packing import Branch, PackedStep
from vicrop_engine.model.positions import counted
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.states import ImageEmbeds


class OneAfterTheOther:
    """The first answer, decoded now, and then the final one."""

    def __init__(
        self,
        decoder: Decoder,
        output: Prefilled,
        prefix: Prefix,
        max_new_tokens: int,
        on_tokens: OnTokens = None,
        rules: TokenRules = FREE,
    ) -> None:
        self._decoder, self._prefix = decoder, prefix
        self._max_new_tokens, self._rules = max_new_tokens, rules
        self._first = decoder.decode(output, max_new_tokens, on_tokens, rules)
        self._started: Prefilled | None = None

    def begin_final(self, suffix: Sequence[int], images: Sequence[ImageEmbeds]) -> None:
        """Prefill the final answer's prompt after the picture's prefix."""
        self._started = self._decoder.prefill(self._prefix, [suffix], images)

    def finish(self) -> tuple[Generation, Generation]:
        """Both answers, decoded to their ends."""
        assert self._started is not None, "the final answer has begun"
        return self._first, self._decoder.decode(self._started, self._max_new_tokens, rules=self._rules)


class PacksSteps(Decoder, Protocol):
    """A decoder whose passes can hold tokens of several answers."""

    @property
    def end_signs(self) -> tuple[int, ...]:
        """Tokens that end an answer."""

    @property
    def table(self) -> TokenTable:
        """From token ids to embeddings and positions."""

    def side_by_side(
        self, cache: KVCache, block: PackedStep, embeds: Floats, num_decoded: int
    ) -> tuple[KVCache, Floats]:
        """One pass of new tokens of several answers after the rows of `cache`; logits [answers, vocab]."""

    def steps(self, buffers: KVBuffers, count: int = 1) -> DecodeSteps:
        """Steps of `count` tokens on these buffers."""

    def step(self, steps: DecodeSteps, embeds: Floats, block: PackedStep) -> Floats:
        """One step of an answer or two; logits [answers, vocab]."""


class SideBySide:
    """The first answer from the logits of `first`, and a final one that continues the `prefix`.

    `on_tokens` is told the first answer's ids whenever there is one more.
    """

    def __init__(
        self,
        decoder: PacksSteps,
        first: HostOutput,
        prefix: Prefix,
        max_new_tokens: int,
        on_tokens: OnTokens = None,
        rules: TokenRules = FREE,
    ) -> None:
        self._decoder, self._prefix = decoder, prefix
        self._max_new_tokens, self._rules = max_new_tokens, rules
        self._early = AnswerTokens(decoder.end_signs, max_new_tokens, on_tokens, rules)
        self._final = AnswerTokens(decoder.end_signs, max_new_tokens, rules=rules)
        self._cache = first.cache
        self._branches = {
            self._early: Branch(((0, first.cache.length),), first.next_position - first.cache.length),
            self._final: Branch(((0, prefix.length),), prefix.next_position - prefix.length),
        }
        self._alone: Prefilled | None = None
        self._take([self._early], decoder.logits(first)[None])

    def begin_final(self, suffix: Sequence[int], images: Sequence[ImageEmbeds]) -> None:
        """Prefill `suffix` of the final answer's prompt, and the first answer's latest token along with it.

        Where the first answer is whole already, nothing of it is left to go along.
        """
        if self._early.is_done:
            self._alone = self._decoder.prefill(self._prefix, [suffix], images)
            return
        ids = [self._early.ids[-1], *suffix]
        answers = [self._early, self._final]
        positions = self._decoder.table.positions(suffix, images, self._prefix.next_position)
        if positions is not None:
            own = counted(self._branches[self._early].position, 1, len(positions))
            positions = np.concatenate((own, positions), axis=1)
        block = self._block(answers, (1, len(suffix)), positions)
        embeds = self._decoder.table.embed(ids, images)
        self._cache, logits = self._decoder.side_by_side(self._cache, block, embeds, 1)
        self._grow(answers, block)
        self._take(answers, logits)

    def finish(self) -> tuple[Generation, Generation]:
        """Both answers, decoded to their ends."""
        if self._alone is not None:
            final = self._decoder.decode(self._alone, self._max_new_tokens, rules=self._rules)
            return self._early.generation, final
        while answers := [answer for answer in self._branches if not answer.is_done]:
            steps = self._decoder.steps(self._cache.buffers, len(answers))
            while not any(answer.is_done for answer in answers):
                block = self._block(answers, (1,) * len(answers))
                embeds = self._decoder.table.embed([answer.ids[-1] for answer in answers])
                self._cache = self._cache.grown(len(answers))
                self._take(answers, self._decoder.step(steps, embeds, block))
                self._grow(answers, block)
        return self._early.generation, self._final.generation

    def _block(
        self, answers: Sequence[AnswerTokens], counts: tuple[int, ...], positions: Ints | None = None
    ) -> PackedStep:
        branches = tuple(self._branches[answer] for answer in answers)
        return PackedStep(branches, counts, self._cache.length, positions)

    def _grow(self, answers: Sequence[AnswerTokens], block: PackedStep) -> None:
        self._branches.update(zip(answers, block.grown, strict=True))

    def _take(self, answers: Sequence[AnswerTokens], logits: Floats) -> None:
        for answer, row in zip(answers, logits, strict=True):
            answer.take(row)
