"""The scorer of questions that belong to no harness: equality with one of the answers."""

from __future__ import annotations

from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers.scorer import EXACT, Mark, Scorer
from vicrop_engine.measure.calibration import is_right


def exact(answer: str, question: Question) -> Mark:
    """Whether the answer is one of those wanted, but for case and a full stop."""
    return Mark(float(any(is_right(answer, right) for right in question.answers)))


EQUAL = Scorer(EXACT, "right but for case and a full stop", exact)
