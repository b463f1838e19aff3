"""Benchmarks answered with a word or a phrase: TextVQA, POPE, DocVQA, InfographicVQA, A-OKVQA, GQA, VQAv2."""

from __future__ import annotations

from collections.abc import Mapping

from vicrop_engine.errors import DatasetError, shown
from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark, Place, Prompt
from vicrop_engine.evaluation.benchmarks.prompts import (
    LEFT_OPEN,
    OPEN_TOKENS,
    PAPER_PROMPT,
    SENTENCE_BELOW,
    VLMEVALKIT_NOTE,
    VLMEVALKIT_PROMPT,
    capitalised,
    lmms_sentence,
    plain,
    stripped,
)
from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers import lmms_eval, paper, vlmevalkit
from vicrop_engine.evaluation.scorers.scorer import LMMS_EVAL, VLMEVALKIT
from vicrop_engine.evaluation.sources.columns import Row, cell, text, texts

POPE_SPLITS = ("adversarial", "popular", "random")


def moved(name: str) -> tuple[str, str]:
    """The hub's ids of a data set of lmms-eval's: where it is since July 2026, and where it was."""
    return f"lmms-lab-encoder/{name}", f"lmms-lab/{name}"


def read_textvqa(row: Row) -> Question:
    """TextVQA: ten people's answers."""
    return Question(text(row, "question_id"), text(row, "question"), texts(row, "answers"))


def read_document(row: Row) -> Question:
    """DocVQA and InfographicVQA: answers that are all right."""
    kinds = row.get("question_types") or row.get("answer_type") or ()
    category = " + ".join(kinds) if isinstance(kinds, list | tuple) else ""
    return Question(text(row, "questionId"), text(row, "question"), texts(row, "answers"), category=category)


def read_gqa(row: Row) -> Question:
    """GQA: one answer; the picture is in another configuration."""
    return Question(text(row, "id"), text(row, "question"), (text(row, "answer"),))


def read_vqav2(row: Row) -> Question:
    """VQAv2: ten people's answers, each with its confidence and number."""
    answers = cell(row, "answers")
    if isinstance(answers, Mapping):  # as some versions of the library hand a list of records over
        answers = [{"answer": answer} for answer in answers.get("answer", ())]
    if not isinstance(answers, list) or not all(isinstance(each, Mapping) for each in answers):
        raise DatasetError(f"column 'answers' holds {shown(answers)}, wanted a list of records")
    said = tuple(text(each, "answer") for each in answers)
    return Question(text(row, "question_id"), text(row, "question"), said, category=text(row, "answer_type"))


def read_aokvqa(row: Row) -> Question:
    """A-OKVQA answered directly: ten people's answers, on this copy of the hub a list written as text."""
    return Question(text(row, "question_id"), text(row, "question"), texts(row, "direct_answers"))


def read_pope(row: Row) -> Question:
    """POPE: yes or no; a question's number is the same in all three categories."""
    category = text(row, "category")
    number = f"{category}-{text(row, 'question_id')}"
    return Question(number, text(row, "question"), (text(row, "answer"),), category=category)


def _document(name: str, config: str, rows: int) -> Benchmark:
    return Benchmark(
        name,
        Place(moved("DocVQA"), config, "validation", rows),
        read_document,
        {**PAPER_PROMPT, **lmms_sentence(32), **VLMEVALKIT_PROMPT},
        (paper.EITHER_CONTAINS, lmms_eval.ANLS, vlmevalkit.ANLS),
    )


def _pope(name: str, config: str | None, split: str, rows: int) -> Benchmark:
    return Benchmark(
        name,
        Place(moved("POPE"), config, split, rows),
        read_pope,
        {
            **PAPER_PROMPT,
            LMMS_EVAL: Prompt("{question}" + SENTENCE_BELOW, stripped, 128),
            VLMEVALKIT: Prompt("{question}", plain, OPEN_TOKENS, note=VLMEVALKIT_NOTE),
        },
        (
            *(paper.NEARER_OF_TWO, lmms_eval.POPE, lmms_eval.POPE_F1),
            *(vlmevalkit.POPE, vlmevalkit.POPE_ACC),
        ),
    )


SHORT_ANSWERS = (
    Benchmark(
        "textvqa",
        Place(moved("textvqa"), None, "validation", 5_000),
        read_textvqa,
        {
            **PAPER_PROMPT,
            LMMS_EVAL: Prompt(
                "{question.capitalize()}" + SENTENCE_BELOW, capitalised, OPEN_TOKENS, note=LEFT_OPEN
            ),
            **VLMEVALKIT_PROMPT,
        },
        (paper.VOTES, lmms_eval.TEXTVQA, vlmevalkit.VOTES),
        boxes="textvqa-boxes",
    ),
    _pope("pope", None, "test", 9_000),
    *(_pope(f"pope-{split}", "Full", split, 3_000) for split in POPE_SPLITS),
    _document("docvqa", "DocVQA", 5_349),
    _document("infovqa", "InfographicVQA", 2_801),
    Benchmark(
        "aokvqa",
        Place(("HuggingFaceM4/A-OKVQA",), None, "validation", 1_145),
        read_aokvqa,
        PAPER_PROMPT,
        (paper.VOTES,),
    ),
    Benchmark(
        "gqa",
        Place(moved("GQA"), "testdev_balanced_instructions", "testdev", 12_578),
        read_gqa,
        {**PAPER_PROMPT, **lmms_sentence(16), **VLMEVALKIT_PROMPT},
        (paper.CONTAINED, lmms_eval.EQUAL, vlmevalkit.EQUAL),
        joined=(Place(moved("GQA"), "testdev_balanced_images", "testdev", 398), ("imageId", "id")),
    ),
    Benchmark(
        "vqav2",
        Place(moved("VQAv2"), None, "validation", 214_354),
        read_vqav2,
        {**PAPER_PROMPT, **lmms_sentence(16)},
        (paper.VOTES, lmms_eval.VQAV2),
    ),
)
