"""How many people gave an answer, as a score: the VQA accuracy in its two forms. Formulas alone."""

from __future__ import annotations

from collections.abc import Sequence

ENOUGH = 3  # people who gave the answer
SHARE = 0.3  # of the paper's form, for each


def leave_one_out(said: str, labels: Sequence[str]) -> float:
    """The mean over people left out of min(1, others who said so / 3); of normalised texts."""
    hits = sum(label == said for label in labels)
    scores = [min(1.0, (hits - (label == said)) / ENOUGH) for label in labels]
    return sum(scores) / len(scores)


def share_of_all(said: str, labels: Sequence[str]) -> float:
    """min(1, 0.3 for everybody who said so): for ten people the same number as `leave_one_out`."""
    return min(SHARE * sum(label == said for label in labels), 1.0)
