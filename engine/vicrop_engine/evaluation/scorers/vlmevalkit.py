"""The scorers of VLMEvalKit (e8e78f05) under its policy `exact_matching`, which asks no judge."""

from __future__ import annotations

import re

from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers.letters import inferred_late, mme_letter
from vicrop_engine.evaluation.scorers.scorer import VLMEVALKIT, Mark, Scorer
from vicrop_engine.evaluation.scorers.similarity import anls
from vicrop_engine.evaluation.scorers.totals import NO, YES, f1, mean_of_groups, yes_group
from vicrop_engine.evaluation.scorers.votes import leave_one_out
from vicrop_engine.evaluation.scorers.words import VLMEVALKIT as NORMALISER

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def votes(answer: str, question: Question) -> Mark:
    """Leave one out; a full stop after a digit stays."""
    return Mark(leave_one_out(NORMALISER(answer), [NORMALISER(label) for label in question.answers]))


def equal(answer: str, question: Question) -> Mark:
    """Equality but for case; punctuation counts."""
    return Mark(float(answer.strip().lower() == question.answers[0].strip().lower()))


def similarity(answer: str, question: Question) -> Mark:
    """ANLS."""
    return Mark(anls(answer, question.answers))


def yes_or_no(answer: str, question: Question) -> Mark:
    """One of "yes" and "no" among the words and not the other."""
    words = NORMALISER.unpunctuated(answer.lower()).split()
    said = {(True, False): YES, (False, True): NO}.get((YES in words, NO in words), "")
    label = question.answers[0].strip().lower()
    return Mark(float(said == label), yes_group(label, said))


def option(answer: str, question: Question) -> Mark:
    """The option that can be inferred."""
    return Mark(float(inferred_late(answer, question.lettered) == question.answers[0].strip("()")))


def option_by_cycle(answer: str, question: Question) -> Mark:
    """The same in the group of its order of options."""
    return Mark(option(answer, question).score, question.cycle)


def option_by_source(answer: str, question: Question) -> Mark:
    """The same in the group of where the picture is from."""
    return Mark(option(answer, question).score, question.category)


def mme(answer: str, question: Question) -> Mark:
    """MME-RealWorld's letter, of what stands in answer tags where there are some."""
    tagged = _TAGGED.search(answer)
    return Mark(float(mme_letter(tagged[1].strip().upper() if tagged else answer) == question.answers[0]))


VOTES = Scorer(VLMEVALKIT, "VQA accuracy", votes)
EQUAL = Scorer(VLMEVALKIT, "accuracy", equal)
ANLS = Scorer(VLMEVALKIT, "ANLS", similarity)
POPE = Scorer(VLMEVALKIT, "Overall (F1)", yes_or_no, f1)
POPE_ACC = Scorer(VLMEVALKIT, "acc", yes_or_no)
OPTION = Scorer(VLMEVALKIT, "accuracy, exact_matching", option)
HR_BENCH = Scorer(VLMEVALKIT, "Average over cycles, exact_matching", option_by_cycle, mean_of_groups)
CV_BENCH_2D = Scorer(VLMEVALKIT, "Overall over sources, exact_matching", option_by_source, mean_of_groups)
MME = Scorer(VLMEVALKIT, "Overall", mme)
