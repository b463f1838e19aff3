"""What every scorer is: a mark for one answer, and one number from all marks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers.totals import Total, mean

PAPER, LMMS_EVAL, VLMEVALKIT, EXACT = "paper", "lmms-eval", "vlmevalkit", "exact"
HARNESSES = (PAPER, LMMS_EVAL, VLMEVALKIT)


class Mark(NamedTuple):
    """The score of an answer, 0 to 1, and the group it counts in, "" where there are none."""

    score: float
    group: str = ""


@dataclass(frozen=True)
class Scorer:
    """A harness's scorer of one benchmark: what its number is called, an answer's mark, and the total."""

    name: str
    metric: str
    mark: Callable[[str, Question], Mark]
    total: Total = mean
    note: str = ""
