"""Benchmarks without answers: where the answer stands in a picture, to see whether the crop is there."""

from __future__ import annotations

from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark, Place, Prompt
from vicrop_engine.evaluation.benchmarks.prompts import PAPER_TOKENS, first_line, paper
from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers.scorer import PAPER
from vicrop_engine.evaluation.sources.columns import Row, rectangles, text, texts
from vicrop_engine.model.prompts import SENTENCE

_PAPER = Prompt("{question}" + SENTENCE, paper, PAPER_TOKENS)


def read_textvqa_boxes(row: Row) -> Question:
    """TextVQA's boxes by the paper's author: x, y, width, height in pixels, and TextVQA's question number."""
    return Question(
        text(row, "dataset_id"), text(row, "question"), texts(row, "answer"), boxes=rectangles(row, "bbox")
    )


def read_vstar_boxes(row: Row) -> Question:
    """V*'s own files: a box for every object that is asked about, beside each picture."""
    return Question(
        text(row, "question_id"),
        text(row, "text"),
        (text(row, "label"),),
        category=text(row, "category"),
        boxes=rectangles(row, "bbox"),
    )


POINTING = (
    Benchmark(
        "textvqa-boxes",
        Place(("jrzhang/TextVQA_GT_bbox",), None, "train", 4_370),
        read_textvqa_boxes,
        {PAPER: _PAPER},
        (),
    ),
    Benchmark(
        "vstar-boxes",
        Place(("craigwu/vstar_bench",), None, "test", 191),
        read_vstar_boxes,
        {PAPER: Prompt("{first line of the question}" + SENTENCE, first_line, PAPER_TOKENS)},
        (),
    ),
)
