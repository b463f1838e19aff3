"""How alike two texts are: edit distance over length (ANLS), and difflib's ratio. Formulas alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def anls(answer: str, labels: Iterable[str], threshold: float = 0.5) -> float:
    """1 less the smallest edit distance over length; 0 below the threshold, which itself counts.

    Distances are of lowered texts with single spaces, lengths of the texts as they came, as both harnesses
    have it; 0 / 0 is no distance.
    """
    similarity = 1.0 - min(_distance_share(label, answer) for label in labels)
    return similarity if similarity >= threshold else 0.0


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's distance: letters to insert, delete or replace."""
    row = list(range(len(other) + 1))
    for above, letter in enumerate(one, 1):
        corner, row[0] = row[0], above
        for place, against in enumerate(other, 1):
            best = corner if letter == against else 1 + min(corner, row[place], row[place - 1])
            corner, row[place] = row[place], best
    return row[-1]


def nearest_of(answer: str, candidates: Sequence[str]) -> int:
    """Index of the candidate most like the answer by difflib, the first of equals."""
    ratios = [difflib.SequenceMatcher(None, answer, candidate).ratio() for candidate in candidates]
    return ratios.index(max(ratios))


def _distance_share(label: str, answer: str) -> float:
    length = max(len(label.upper()), len(answer.upper()))
    plain = [" ".join(each.lower().split()) for each in (label.strip(), answer.strip())]
    return edit_distance(plain[0], plain[1]) / length if length else 0.0
