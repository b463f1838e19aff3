"""The tokens of an answer and how sure the model was of each. Knows logits; nothing of graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vicrop_engine.arrays import Floats

WAITING = 16  # logits of tokens of one answer that are kept at most
OnTokens = Callable[[tuple[int, ...]], None] | None


@dataclass(frozen=True)
class TokenProbability:
    """Log probability of a token that was taken, and the likeliest (id, log probability) in its place."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Generation:
    """Generated ids, the end sign included when it was reached, and each one's probability.

    `logprobs` are there where the rules asked for them. `failure` says why nothing more could be taken.
    """

    ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    logprobs: tuple[TokenProbability, ...] = ()
    failure: str | None = None

    @property
    def confidence(self) -> float:
        """Geometric mean of the probabilities of the generated tokens, the end sign included."""
        logs = [math.log(max(value, 1e-300)) for value in self.probabilities]
        return math.exp(sum(logs) / len(logs))


class TokenMask(Protocol):
    """Which tokens may come next in one answer."""

    @property
    def failure(self) -> str | None:
        """Why it cannot go on; None while it can."""

    def masked(self, logits: Floats, left: int) -> Floats:
        """The logits [vocab] with minus infinity where a token may not come.

        `left` tokens may come at most, this one included.
        """

    def take(self, token: int) -> None:
        """This one comes."""


@dataclass(frozen=True)
class TokenRules:
    """How tokens are taken beside being the likeliest, and where an answer ends beside its longest length.

    With `ignores_end` end signs end nothing; `stops` says of the ids so far whether they are enough;
    `new_mask` makes the mask of one answer. With `top` log probabilities are kept, and of so many tokens.
    """

    ignores_end: bool = False
    stops: Callable[[Sequence[int]], bool] | None = None
    new_mask: Callable[[], TokenMask] | None = None
    top: int | None = None


FREE = TokenRules()


class AnswerTokens:
    """The tokens of one answer as they come, greedily, until an end sign or `max_new_tokens`.

    `on_tokens` is told their ids whenever there is one more.
    """

    def __init__(
        self,
        end_signs: Sequence[int],
        max_new_tokens: int,
        on_tokens: OnTokens = None,
        rules: TokenRules = FREE,
    ) -> None:
        self._end_signs = () if rules.ignores_end else end_signs
        self._max_new_tokens, self._on_tokens, self._rules = max_new_tokens, on_tokens, rules
        self._mask = None if rules.new_mask is None else rules.new_mask()
        self._probabilities: list[float] = []
        self._logprobs: list[TokenProbability] = []
        self._waiting: list[Floats] = []
        self._is_enough = False
        self.ids: list[int] = []

    @property
    def is_done(self) -> bool:
        """Whether no more are to come."""
        if not self.ids:
            return False
        is_last = self.ids[-1] in self._end_signs or len(self.ids) == self._max_new_tokens
        return is_last or self._is_enough

    def take(self, logits: Floats, *, tell: bool = True) -> None:
        """The likeliest token of `logits` [vocab] comes next; without `tell` that is told later."""
        if self._mask is not None:
            logits = self._mask.masked(logits, self._max_new_tokens - len(self.ids))
        self.ids.append(int(logits.argmax()))
        self._waiting.append(logits.copy())
        if len(self._waiting) == WAITING:
            self._find_probabilities()
        self._look_for_end()
        if tell:
            self.tell()

    def tell(self) -> None:
        """Let whoever listens hear the ids."""
        if self._on_tokens is not None:
            self._on_tokens(tuple(self.ids))

    @property
    def generation(self) -> Generation:
        """All of them with their probabilities."""
        self._find_probabilities()
        failure = None if self._mask is None else self._mask.failure
        return Generation(tuple(self.ids), tuple(self._probabilities), tuple(self._logprobs), failure)

    def _look_for_end(self) -> None:
        """What beside signs and length ends it: a text that stops it, or a mask that cannot go on."""
        if self._mask is not None:
            self._mask.take(self.ids[-1])
            self._is_enough = self._mask.failure is not None
        if self._rules.stops is not None:
            self._is_enough = self._is_enough or self._rules.stops(self.ids)

    def _find_probabilities(self) -> None:
        """Those of the latest tokens, in a row: a step's weights have driven all else from the caches."""
        latest = self.ids[len(self._probabilities) :]
        self._probabilities += map(probability, self._waiting, latest)
        if self._rules.top is not None:
            self._logprobs += (logprobs(logits, self._rules.top) for logits in self._waiting)
        self._waiting.clear()


def probability(logits: Floats, best: int) -> float:
    """That of the likeliest token, number `best`."""
    shifted = np.subtract(logits, logits[best], dtype=np.float64)
    return 1.0 / float(np.add.reduce(np.exp(shifted, out=shifted)))


def logprobs(logits: Floats, top: int) -> TokenProbability:
    """The log probability of the likeliest token of `logits` [vocab], and those of the `top` likeliest.

    Tokens that cannot come, of minus infinity, are not among them.
    """
    shifted = np.subtract(logits, logits.max(), dtype=np.float64)
    shifted -= math.log(float(np.exp(shifted).sum()))
    first = np.argsort(-shifted, kind="stable")[:top]
    likeliest = tuple((int(id), float(shifted[id])) for id in first if np.isfinite(shifted[id]))
    return TokenProbability(float(shifted.max()), likeliest)
