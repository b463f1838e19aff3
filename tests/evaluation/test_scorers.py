"""Every scorer against the harness's own code, whose sayings are recorded with its version."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicrop_engine.evaluation.benchmarks.table import BENCHMARKS
from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers import lmms_eval, paper, vlmevalkit
from vicrop_engine.evaluation.scorers.letters import inferred, inferred_late, mme_letter, vstar_letter
from vicrop_engine.evaluation.scorers.similarity import anls, edit_distance
from vicrop_engine.evaluation.scorers.totals import f1, f1_where_no_is_said, mean_of_groups, yes_group
from vicrop_engine.evaluation.scorers.words import LMMS_EVAL, PAPER, VLMEVALKIT

HARNESS: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parent / "harness.json.gz").read_bytes())
)
PAIRS = 2_000


def question_of(pair: dict[str, Any]) -> Question:
    """A question with the pair's labels and options, in V*'s text where there are some."""
    options = tuple(pair.get("options", ()))
    lines = [f"({letter}) {option}" for letter, option in zip("ABCD", options, strict=False)]
    text = "\n".join(["What is it?", *lines, "Answer with the option's letter."])
    return Question("0", text, tuple(pair["labels"]), options)


@pytest.mark.parametrize("said", HARNESS["scores"])
def test_a_scorer_says_what_the_harness_says(said: str) -> None:
    harness, name = said.split(" ")
    scorer = BENCHMARKS[name].scored_by(harness)[0]
    pairs, scores = HARNESS["pairs"][HARNESS["kinds"][said]], HARNESS["scores"][said]
    assert len(pairs) == len(scores) == PAIRS
    ours = [scorer.mark(pair["answer"], question_of(pair)).score for pair in pairs]
    wrong = [
        (pair, score, own)
        for pair, score, own in zip(pairs, scores, ours, strict=True)
        if abs(score - own) > 1e-9
    ]
    assert not wrong, wrong[:3]
    assert 0.05 < np.mean(np.array(scores) > 0) < 0.95  # both right and wrong ones are among them


def test_every_scorer_is_held_against_its_harness() -> None:
    """Those of other benchmarks are the same objects, or differ in the total alone."""
    recorded = {
        (scorer.name, scorer.mark)
        for said in HARNESS["scores"]
        for scorer in BENCHMARKS[said.split(" ")[1]].scored_by(said.split(" ")[0])
    }
    grouped = {vlmevalkit.option_by_cycle, vlmevalkit.option_by_source}  # `option`, in groups
    for benchmark in BENCHMARKS.values():
        for scorer in benchmark.scorers:
            assert scorer.name == "exact" or scorer.mark in grouped or (scorer.name, scorer.mark) in recorded


def test_the_pairs_reach_every_branch_of_the_normaliser() -> None:
    texts = [text for pair in HARNESS["pairs"]["votes"] for text in (pair["answer"], *pair["labels"])]
    for sign in (
        "1,",
        ".",
        "3.",
        "'s",
        "the ",
        "ten",
        "dont",
        "\n",
        "\t",
        "日",
        "½",
        "…",
        ", ",
        " ,",
        "/",
        "\\",
        "?",
    ):
        assert any(sign in text for text in texts), sign
    assert "" in texts
    for one, other in ((LMMS_EVAL, PAPER), (PAPER, VLMEVALKIT), (LMMS_EVAL, VLMEVALKIT)):
        assert any(one(text) != other(text) for text in texts)


@pytest.mark.parametrize(
    ("text", "lmms", "papers", "vlmevalkit"),
    [
        ("The Ten dogs!", "10 dogs", "10 dogs", "10 dogs"),
        ("3.", "3", "3", "3."),
        ("1,000", "1000", "1000", "1000"),
        ("dont", "don't", "don't", "don't"),
        ("somebody'd", "somebodyd", "somebodyd", "somebodyd"),
        ("dog's", "dog 's", "dog's", "dog's"),
        ("red,blue", "redblue", "red blue", "red blue"),
        ("a/b", "b", "b", "b"),
        ("", "", "", ""),
    ],
)
def test_the_normalisers_differ_as_they_should(text: str, lmms: str, papers: str, vlmevalkit: str) -> None:
    assert [each(text) for each in (LMMS_EVAL, PAPER, VLMEVALKIT)] == [lmms, papers, vlmevalkit]


def test_letters_as_the_harnesses_tell_them() -> None:
    assert vstar_letter("Blue") == "B"  # an answer that begins with a letter from A to D means it
    assert mme_letter("") == "A"
    options = {"A": "dog", "B": "cat"}
    assert inferred("a dog", options) == inferred_late("a dog", options) == "A"
    assert inferred("the dog " * 9, options) == "A"
    assert inferred_late("the dog " * 9, options) == ""


def test_similarity() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3
    assert anls("ab", ["axxx", "abxx"]) == 0.5  # itself counts
    assert anls("a", ["axx"]) == 0.0
    assert anls("", [""]) == 1.0


def test_the_papers_flaws_are_kept() -> None:
    question = Question("0", "what?", ("no",))
    assert paper.contained("another", question).score == 1
    assert paper.either_contains("", question).score == 1


def test_totals() -> None:
    ones = np.ones(4)
    groups = [
        yes_group(wanted, said)
        for wanted, said in (("yes", "yes"), ("yes", "no"), ("no", "yes"), ("yes", "?"))
    ]
    assert f1(ones, groups, ones) == pytest.approx(2 / 5)
    assert f1_where_no_is_said(ones, groups, ones) == pytest.approx(2 / 4)
    scores = np.array([1.0, 0.0, 1.0, 1.0])
    assert mean_of_groups(scores, ["a", "a", "a", "b"], ones) == pytest.approx((2 / 3 + 1) / 2)
    assert mean_of_groups(scores, ["a", "a", "a", "b"], np.array([0.0, 1.0, 1.0, 0.0])) == 0.5
    assert lmms_eval.cut("yes\n\nit is") == "yes"
