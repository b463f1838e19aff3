"""Benchmarks that are answered with a letter: V*, HR-Bench, CV-Bench, MME-RealWorld, A-OKVQA's choices."""

from __future__ import annotations

import re
from dataclasses import replace

from vicrop_engine.errors import DatasetError, shown
from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark, Place, Prompt
from vicrop_engine.evaluation.benchmarks.prompts import (
    LEFT_OPEN,
    LETTER_SENTENCE,
    OPEN_TOKENS,
    PAPER_PROMPT,
    VLMEVALKIT_NOTE,
    cv_bench,
    first_line,
    hr_bench,
    mme,
    vlmevalkit_letters,
    vlmevalkit_mme,
    vlmevalkit_vstar,
    vstar,
    wording,
)
from vicrop_engine.evaluation.question import LETTERS, Question
from vicrop_engine.evaluation.scorers import lmms_eval, paper, vlmevalkit
from vicrop_engine.evaluation.scorers.scorer import LMMS_EVAL, PAPER, VLMEVALKIT, Scorer
from vicrop_engine.evaluation.sources.columns import Row, cell, options, text, texts

_OPTION_LINE = re.compile(r"^\([A-Z]\)\s*(.*?)\s*$", re.MULTILINE)


def read_vstar(row: Row) -> Question:
    """V*: options on lines of their own, and the sentence that asks for a letter, all in one text."""
    asked = text(row, "text")
    found = tuple(_OPTION_LINE.findall(asked))
    number, letter = text(row, "question_id"), text(row, "label").strip().upper()
    return Question(number, asked, (letter,), found, category=text(row, "category"))


def read_hr_bench(row: Row) -> Question:
    """HR-Bench: each question in four orders of its options."""
    return Question(
        text(row, "index"),
        text(row, "question"),
        (text(row, "answer"),),
        options(row, "ABCD"),
        category=text(row, "category"),
        cycle=text(row, "cycle_category"),
    )


def read_cv_bench(row: Row) -> Question:
    """CV-Bench: the data set brings the whole prompt."""
    return Question(
        text(row, "idx"),
        text(row, "question"),
        (text(row, "answer").strip("()"),),
        texts(row, "choices"),
        category=text(row, "source"),
        wording=text(row, "prompt"),
    )


def read_mme(row: Row) -> Question:
    """MME-RealWorld: options with their letters in front."""
    return Question(
        text(row, "index"),
        text(row, "question"),
        (text(row, "answer"),),
        texts(row, "multi-choice options"),
        category=text(row, "category"),
    )


def read_aokvqa_choice(row: Row) -> Question:
    """A-OKVQA with its four choices."""
    found, right = texts(row, "choices"), cell(row, "correct_choice_idx")
    if not isinstance(right, int) or not 0 <= right < len(found):
        raise DatasetError(
            f"column 'correct_choice_idx' holds {shown(right)}, "
            f"wanted the number of one of {len(found)} choices"
        )
    return Question(text(row, "question_id"), text(row, "question"), (LETTERS[right],), found)


def _hr_bench(side: str) -> Benchmark:
    return Benchmark(
        f"hrbench{side}",
        Place(("DreamMr/HR-Bench",), "hrbench_version_split", f"hrbench_{side}", 800),
        read_hr_bench,
        {
            LMMS_EVAL: Prompt(
                "{question}\nA. {option}\n…\nAnswer the option letter directly.",
                hr_bench,
                OPEN_TOKENS,
                note=LEFT_OPEN,
            ),
            **vlmevalkit_letters(),
        },
        (lmms_eval.HR_BENCH, vlmevalkit.HR_BENCH),
    )


def _cv_bench(name: str, config: str, rows: int, *scorers: Scorer) -> Benchmark:
    prompts = {
        LMMS_EVAL: Prompt(
            "Note: You only need to respond with A, B… without providing any additional information.\n\n"
            "{prompt}",
            cv_bench,
            OPEN_TOKENS,
            note="the harness gives 1,024 tokens: 128 are taken",
        ),
        VLMEVALKIT: Prompt("{prompt}", wording, OPEN_TOKENS, note=VLMEVALKIT_NOTE),
    }
    names = {LMMS_EVAL, *(scorer.name for scorer in scorers)}
    asked = {name: prompt for name, prompt in prompts.items() if name in names}
    return Benchmark(
        name,
        Place(("nyu-visionx/CV-Bench",), config, "test", rows),
        read_cv_bench,
        asked,
        (lmms_eval.CV_BENCH, *scorers),
    )


CHOICES = (
    Benchmark(
        "vstar",
        Place(("lmms-lab-encoder/vstar-bench", "lmms-lab/vstar-bench"), None, "test", 191),
        read_vstar,
        {
            PAPER: replace(PAPER_PROMPT[PAPER], look=first_line),
            LMMS_EVAL: Prompt("{question}\nA. {option}\n…" + LETTER_SENTENCE, vstar, 16),
            **vlmevalkit_letters(vlmevalkit_vstar),
        },
        (paper.NEAREST_LINE, lmms_eval.VSTAR, vlmevalkit.OPTION),
        boxes="vstar-boxes",
    ),
    _hr_bench("4k"),
    _hr_bench("8k"),
    _cv_bench("cvbench", "default", 2_638),
    _cv_bench("cvbench-2d", "2D", 1_438, vlmevalkit.CV_BENCH_2D),
    _cv_bench("cvbench-3d", "3D", 1_200, vlmevalkit.OPTION),
    Benchmark(
        "mme-realworld-lite",
        Place(("yifanzhang114/MME-RealWorld-lite-lmms-eval",), None, "train", 1_919),
        read_mme,
        {
            LMMS_EVAL: Prompt("{question} The choices are listed below:\n{options}\n…", mme, 16),
            VLMEVALKIT: Prompt(
                "{question} The choices are listed below:\n{options}\n…",
                vlmevalkit_mme,
                OPEN_TOKENS,
                note=VLMEVALKIT_NOTE,
            ),
        },
        (lmms_eval.MME, vlmevalkit.MME),
        image="bytes",
    ),
    Benchmark(
        "aokvqa-choice",
        Place(("HuggingFaceM4/A-OKVQA",), None, "validation", 1_145),
        read_aokvqa_choice,
        vlmevalkit_letters(),
        (vlmevalkit.OPTION,),
    ),
)
