"""Questions that belong to no harness: the built-in signs, and lists of one's own."""

from __future__ import annotations

from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark, Place, Prompt
from vicrop_engine.evaluation.benchmarks.prompts import PAPER_TOKENS, paper
from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers import exact
from vicrop_engine.evaluation.scorers.scorer import EXACT
from vicrop_engine.evaluation.sources.columns import Row, boxes, text, texts
from vicrop_engine.model.prompts import SENTENCE

BUILT_IN = "built in"
_PROMPTS = {EXACT: Prompt("{question}" + SENTENCE, paper, PAPER_TOKENS)}


def read_own(row: Row) -> Question:
    """A row of one's own: "question", "answers" or "answer", and perhaps "id", "category" and "box"."""
    right = texts(row, "answers") if row.get("answers") is not None else (text(row, "answer"),)
    category = row.get("category")
    return Question(
        text(row, "id"),
        text(row, "question"),
        right,
        category="" if category is None else str(category),
        boxes=boxes(row, "box") if row.get("box") is not None else (),
    )


SIGNS = Benchmark("signs", Place((BUILT_IN,), None, "all", 201), read_own, _PROMPTS, (exact.EQUAL,))
OWN = Benchmark("data", Place((), None, "own", 0), read_own, _PROMPTS, (exact.EQUAL,))
