"""First and final answer together: each reads the weights once for both.

The first answer's second token goes along with the crop's pass, its later ones with the final answer's. Knows
passes and tokens; nothing of pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

from vicrop_engine.arrays import Floats
from vicrop_engine.model.decoder import Decoder
from vicrop_engine.model.forward import PrefillOutput
from vicrop_engine.model.greedy import AnswerTokens, Generation, OnTokens
from vicrop_engine.model.kv_cache import KVCache
from vicrop_engine.model.packing import Branch, PackedStep


class TwoAnswers:
    """The first answer from the logits of `first`, and a final one that continues the first `length` tokens.

    `on_tokens` is told the first answer's ids whenever there is one more.
    """

    def __init__(
        self,
        decoder: Decoder,
        first: PrefillOutput,
        length: int,
        max_new_tokens: int,
        on_tokens: OnTokens | None = None,
    ) -> None:
        assert first.logits is not None, "the first answer's pass went through the upper layers"
        self._decoder = decoder
        self._early = AnswerTokens(decoder.end_signs, max_new_tokens, on_tokens)
        self._final = AnswerTokens(decoder.end_signs, max_new_tokens)
        self._cache: KVCache = first.cache
        self._branches = {
            self._early: Branch(((0, first.cache.length),)),
            self._final: Branch(((0, length),)),
        }
        self._take([self._early], first.logits[None])

    @property
    def first(self) -> Generation | None:
        """The first answer where it is whole already, so that nothing of it is left to go along."""
        return self._early.generation if self._early.is_done else None

    def begin_final(self, suffix: Sequence[int], images: Sequence[Floats]) -> None:
        """The crop's pass: `suffix` of the final answer's prompt, and the first answer's latest token."""
        ids = [self._early.ids[-1], *suffix]
        answers = [self._early, self._final]
        block = self._block(answers, (1, len(suffix)))
        embeds = self._decoder.embed(ids, images)
        self._cache, logits = self._decoder.side_by_side(self._cache, block, embeds, 1)
        self._grow(answers, block)
        self._take(answers, logits)

    def finish(self) -> tuple[Generation, Generation]:
        """Both answers, decoded to their ends."""
        while answers := [answer for answer in self._branches if not answer.is_done]:
            steps = self._decoder.steps(self._cache.buffers, len(answers))
            while not any(answer.is_done for answer in answers):
                block = self._block(answers, (1,) * len(answers))
                embeds = self._decoder.embed([answer.ids[-1] for answer in answers])
                self._cache = self._cache.grown(len(answers))
                self._take(answers, self._decoder.step(steps, embeds, block))
                self._grow(answers, block)
        return self._early.generation, self._final.generation

    def _block(self, answers: Sequence[AnswerTokens], counts: tuple[int, ...]) -> PackedStep:
        branches = tuple(self._branches[answer] for answer in answers)
        return PackedStep(branches, counts, self._cache.length)

    def _grow(self, answers: Sequence[AnswerTokens], block: PackedStep) -> None:
        self._branches.update(zip(answers, block.grown, strict=True))

    def _take(self, answers: Sequence[AnswerTokens], logits: Floats) -> None:
        for answer, row in zip(answers, logits, strict=True):
            answer.take(row)
