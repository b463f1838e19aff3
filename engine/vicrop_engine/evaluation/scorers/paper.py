"""The scorers of the paper's own code (arXiv 2502.17422), as it stands: mllms_know, a64c5d5."""

from __future__ import annotations

from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers.scorer import PAPER, Mark, Scorer
from vicrop_engine.evaluation.scorers.similarity import nearest_of
from vicrop_engine.evaluation.scorers.totals import NO, YES
from vicrop_engine.evaluation.scorers.votes import share_of_all
from vicrop_engine.evaluation.scorers.words import PAPER as NORMALISER

LETTERS = "ABCD"


def votes(answer: str, question: Question) -> Mark:
    """0.3 for every label that is the answer, at most 1; tokens are not split first."""
    return Mark(share_of_all(NORMALISER(answer), [NORMALISER(label) for label in question.answers]))


def contained(answer: str, question: Question) -> Mark:
    """How many labels stand somewhere in the answer: "no" is found in "another"."""
    said = NORMALISER(answer)
    return Mark(float(sum(NORMALISER(label) in said for label in question.answers)))


def either_contains(answer: str, question: Question) -> Mark:
    """Whether answer or a label contains the other, case included: an empty answer is right."""
    return Mark(float(any(answer in label or label in answer for label in question.answers)))


def nearer_of_two(answer: str, question: Question) -> Mark:
    """Whether "yes" or "no", whichever is more like the answer, is the label; case matters."""
    return Mark(float((YES, NO)[nearest_of(answer, (YES, NO))] == question.answers[0]))


def nearest_line(answer: str, question: Question) -> Mark:
    """Whether the option's line most like the answer is the label's: the lines between first and last."""
    lines = question.text.split("\n")[1:-1]
    if not lines:
        return Mark(0.0)
    return Mark(float(LETTERS[nearest_of(answer, lines[: len(LETTERS)])] == question.answers[0]))


VOTES = Scorer(PAPER, "VQA accuracy, 0.3 a match", votes)
CONTAINED = Scorer(PAPER, "label within the answer", contained)
EITHER_CONTAINS = Scorer(
    PAPER,
    "answer within a label or the other way round",
    either_contains,
    note="an empty answer counts as right in the published code",
)
NEARER_OF_TWO = Scorer(PAPER, "accuracy, the nearer of yes and no", nearer_of_two)
NEAREST_LINE = Scorer(PAPER, "accuracy, the nearest option", nearest_line)
