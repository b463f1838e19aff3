"""The tokens of an answer and how sure the model was of each. Knows logits; nothing of graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vicrop_engine.arrays import Floats

WAITING = 16  # logits of tokens of one answer that are kept at most
OnTokens = Callable[[tuple[int, ...]], None]


@dataclass(frozen=True)
class Generation:
    """Generated ids, the end sign included when it was reached, and each one's probability."""

    ids: tuple[int, ...]
    probabilities: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """Geometric mean of the probabilities of the generated tokens, the end sign included."""
        logs = [math.log(max(value, 1e-300)) for value in self.probabilities]
        return math.exp(sum(logs) / len(logs))


class AnswerTokens:
    """The tokens of one answer as they come, greedily, until an end sign or `max_new_tokens`.

    `on_tokens` is told their ids whenever there is one more.
    """

    def __init__(
        self, end_signs: Sequence[int], max_new_tokens: int, on_tokens: OnTokens | None = None
    ) -> None:
        self._end_signs, self._max_new_tokens, self._on_tokens = end_signs, max_new_tokens, on_tokens
        self._probabilities: list[float] = []
        self._waiting: list[Floats] = []
        self.ids: list[int] = []

    @property
    def is_done(self) -> bool:
        """Whether no more are to come."""
        return bool(self.ids) and (self.ids[-1] in self._end_signs or len(self.ids) == self._max_new_tokens)

    def take(self, logits: Floats, *, tell: bool = True) -> None:
        """The likeliest token of `logits` [vocab] comes next; without `tell` that is told later."""
        self.ids.append(int(logits.argmax()))
        self._waiting.append(logits.copy())
        if len(self._waiting) == WAITING:
            self._find_probabilities()
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
        return Generation(tuple(self.ids), tuple(self._probabilities))

    def _find_probabilities(self) -> None:
        """Those of the latest tokens, in a row: a step's weights have driven all else from the caches."""
        latest = self.ids[len(self._probabilities) :]
        self._probabilities += map(probability, self._waiting, latest)
        self._waiting.clear()


def probability(logits: Floats, best: int) -> float:
    """That of the likeliest token, number `best`."""
    shifted = np.subtract(logits, logits[best], dtype=np.float64)
    return 1.0 / float(np.add.reduce(np.exp(shifted, out=shifted)))
