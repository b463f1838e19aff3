"""From the marks of single answers to one number: plain means, means over groups, F1.

Each takes weights, one for every mark: that is what resampling the questions means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Total = Callable[[Values, Sequence[str], Values], float]  # scores [n], groups [n], weights [n]
YES, NO = "yes", "no"


def mean(scores: Values, groups: Sequence[str], weights: Values) -> float:
    """The mean score."""
    del groups
    return float(scores @ weights / weights.sum())


def mean_of_groups(scores: Values, groups: Sequence[str], weights: Values) -> float:
    """The mean over groups of each one's mean; a group without weight is left out."""
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.bincount(codes, weights)
    sums = np.bincount(codes, weights * scores)
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def f1_where_no_is_said(scores: Values, groups: Sequence[str], weights: Values) -> float:
    """F1 of "yes", where a missed one counts only if it was answered "no", as lmms-eval has it."""
    del scores
    missed = _count(groups, weights, YES, NO)
    return _f1(groups, weights, missed)


def f1(scores: Values, groups: Sequence[str], weights: Values) -> float:
    """F1 of "yes", whatever else was answered."""
    del scores
    said = _count(groups, weights, YES, YES)
    return _f1(groups, weights, _count(groups, weights, YES, None) - said)


def yes_group(wanted: str, said: str) -> str:
    """The group of a yes-or-no answer, for `f1`."""
    return f"{wanted} {said if said in (YES, NO) else '?'}"


def _f1(groups: Sequence[str], weights: Values, missed: float) -> float:
    hits, false = _count(groups, weights, YES, YES), _count(groups, weights, NO, YES)
    return 2 * hits / (2 * hits + false + missed) if hits else 0.0


def _count(groups: Sequence[str], weights: Values, wanted: str, said: str | None) -> float:
    chosen = [
        group.startswith(f"{wanted} ") if said is None else group == f"{wanted} {said}" for group in groups
    ]
    return float(weights[np.asarray(chosen, bool)].sum())
