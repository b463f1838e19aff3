"""The scorers of lmms-eval 0.7.2's tasks; where it would ask a judge over the network, an answer is wrong."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import partial

from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers.letters import cv_letter, inferred, mme_letter, vstar_letter
from vicrop_engine.evaluation.scorers.scorer import LMMS_EVAL, Mark, Scorer
from vicrop_engine.evaluation.scorers.similarity import anls
from vicrop_engine.evaluation.scorers.totals import f1_where_no_is_said, mean_of_groups, yes_group
from vicrop_engine.evaluation.scorers.votes import leave_one_out
from vicrop_engine.evaluation.scorers.words import LMMS_EVAL as NORMALISER
from vicrop_engine.evaluation.scorers.words import LMMS_EVAL_VQAV2, Normaliser

PARAGRAPH = "\n\n"  # where tasks that say nothing else end an answer
ASSISTANT = "ASSISTANT:"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def cut(answer: str, until: str = PARAGRAPH) -> str:
    """What the harness keeps of an answer: up to where the task ends it, stripped."""
    return answer.split(until)[0].strip()


def votes(normaliser: Normaliser, until: str, answer: str, question: Question) -> Mark:
    """Leave one out."""
    said = normaliser(cut(answer, until))
    return Mark(leave_one_out(said, [normaliser(label) for label in question.answers]))


def equal(answer: str, question: Question) -> Mark:
    """Equality but for case and punctuation."""
    said, label = (each.lower().translate(_NO_PUNCTUATION) for each in (cut(answer), question.answers[0]))
    return Mark(float(said == label))


def similarity(answer: str, question: Question) -> Mark:
    """ANLS."""
    return Mark(anls(cut(answer), question.answers))


def yes_or_no(answer: str, question: Question) -> Mark:
    """Equality but for case: "Yes." is wrong."""
    said, label = cut(answer).lower().strip(), question.answers[0].lower().strip()
    return Mark(float(said == label), yes_group(label, said))


def lettered(letter: Callable[[str], str], answer: str, question: Question) -> Mark:
    """Whether the letter the answer means is the label."""
    return Mark(float(letter(cut(answer)) == question.answers[0].strip("()").strip().upper()))


def inferred_option(answer: str, question: Question) -> Mark:
    """The option that can be inferred, in the group of its order of options."""
    said = inferred(cut(answer), question.lettered)
    return Mark(float(said.lower() == question.answers[0].lower()), question.cycle)


TEXTVQA = Scorer(LMMS_EVAL, "exact_match", partial(votes, NORMALISER, ASSISTANT))
VQAV2 = Scorer(LMMS_EVAL, "exact_match", partial(votes, LMMS_EVAL_VQAV2, PARAGRAPH))
EQUAL = Scorer(LMMS_EVAL, "exact_match", equal)
ANLS = Scorer(LMMS_EVAL, "anls", similarity)
POPE = Scorer(LMMS_EVAL, "pope_accuracy", yes_or_no)
POPE_F1 = Scorer(LMMS_EVAL, "pope_f1_score", yes_or_no, f1_where_no_is_said)
VSTAR = Scorer(LMMS_EVAL, "vstar_overall_acc", partial(lettered, vstar_letter))
CV_BENCH = Scorer(LMMS_EVAL, "cv_bench_acc", partial(lettered, cv_letter))
MME = Scorer(LMMS_EVAL, "mme_realworld_score", partial(lettered, mme_letter))
HR_BENCH = Scorer(
    LMMS_EVAL,
    "average",
    inferred_option,
    mean_of_groups,
    note="what the harness would put to a judge counts as wrong: nothing is sent anywhere",
)
