"""Intervals, marks by group, paired differences, and how crops point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vicrop_engine.evaluation.intervals import bootstrap, wilson
from vicrop_engine.evaluation.marks import Answered, Marks
from vicrop_engine.evaluation.pointing import Pointing, pointing, pointing_figures
from vicrop_engine.evaluation.published import published
from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers import exact, vlmevalkit
from vicrop_engine.evaluation.settings import EvalSettings, Sample
from vicrop_engine.images.geometry import Box


def answered(row: int, said: str, right: str = "7", box: Box | None = None, **more: Any) -> Answered:
    question = Question(str(row), "What?", (right,), category="even" if row % 2 == 0 else "odd")
    line = {"answer": said, "image_size": [100, 100], "crop_box": [0, 0, 50, 50], **more}
    return Answered(row, question, line, None, () if box is None else (box,))


def test_wilson() -> None:
    low, high = wilson(0.8, 50)  # 40 of 50
    assert (low, high) == (pytest.approx(0.6696, abs=1e-4), pytest.approx(0.8876, abs=1e-4))
    assert wilson(0.0, 10)[0] == 0.0
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)


def test_the_bootstrap_covers_what_a_mean_varies_by() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(lambda weights: float(values @ weights / weights.sum()), 400)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert (low, high) == bootstrap(lambda weights: float(values @ weights / weights.sum()), 400)


def test_a_figure_and_its_groups() -> None:
    marks = Marks(exact.EQUAL, [answered(row, "7" if row < 3 else "8") for row in range(4)])
    whole = marks.figure()
    assert whole is not None
    assert (whole.n, whole.value) == (4, 75.0)
    assert (whole.low, whole.high) == tuple(100 * end for end in wilson(0.75, 4))
    odd = marks.figure(lambda each: each.question.category == "odd")
    assert odd is not None
    assert (odd.n, odd.value) == (2, 50.0)
    assert marks.figure(lambda each: False) is None


def test_a_total_that_is_no_mean_has_the_bootstraps_interval() -> None:
    questions = [answered(row, ("yes", "no")[row % 3 == 0], ("yes", "no")[row % 2]) for row in range(60)]
    figure = Marks(vlmevalkit.POPE, questions).figure()
    assert figure is not None
    assert figure.low < figure.value < figure.high


def test_a_difference_is_of_questions_that_both_answered() -> None:
    none = Marks(exact.EQUAL, [answered(row, "8") for row in range(10)])
    crop = Marks(exact.EQUAL, [answered(row, "7") for row in range(5, 30)])
    figure = crop.against(none)
    assert figure is not None
    assert (figure.n, figure.value, figure.low, figure.high) == (5, 100.0, 100.0, 100.0)
    assert crop.against(Marks(exact.EQUAL, [answered(99, "8")])) is None


@pytest.mark.parametrize(
    ("box", "size"),
    [((0, 0, 7, 7), "small"), ((0, 0, 10, 5), "medium"), ((0, 0, 10, 50), "large"), (None, "")],
)
def test_sizes_are_the_papers(box: Box | None, size: str) -> None:
    """0.5 % of the picture is medium already, 5 % large."""
    assert answered(0, "7", box=box).size == size


def test_pointing() -> None:
    assert pointing((0, 0, 10, 10), [(0, 0, 10, 10)]) == Pointing(1, 1, 1)
    found = pointing((0, 0, 10, 10), [(5, 5, 10, 15)])
    assert (found.iou, found.inside, found.filled) == (pytest.approx(25 / 125), 0.5, 0.5)
    apart = pointing((0, 0, 10, 10), [(20, 20, 30, 30)])
    assert (apart.iou, apart.inside, apart.filled) == (0, 0, 1)
    several = pointing((0, 0, 10, 10), [(0, 0, 2, 2), (8, 8, 10, 10)])  # the box around both
    assert (several.iou, several.inside) == (1, 1)


def test_pointing_figures_are_of_questions_with_boxes() -> None:
    figures = pointing_figures(
        [answered(0, "", box=(0, 0, 50, 50)), answered(1, "", box=(50, 50, 100, 100)), answered(2, "")]
    )
    assert (figures["iou"].n, figures["iou"].value, figures["inside"].value) == (2, 50.0, 50.0)
    assert pointing_figures([answered(2, "")]) == {}


def test_a_sample_is_the_same_each_time_and_in_order() -> None:
    rows = Sample.of(None, "3:20").rows(100)
    assert rows == Sample.of(None, "3:20").rows(100) == sorted(set(rows))
    assert len(rows) == 20
    assert rows != Sample.of(None, "4:20").rows(100)
    assert Sample.of(None, "3:200").rows(100) == list(range(100))
    assert Sample.of(5, None).rows(3) == [0, 1, 2]


def test_ways_to_answer() -> None:
    settings = EvalSettings(("none", "rel-att", "clip"), layers=("3", "all"))
    assert [each.name for each in settings.variants] == [
        "none",
        "rel-att, layers 3",
        "rel-att, layers all",
        "clip",
    ]


def test_published_figures_stand_beside_that_model_alone() -> None:
    assert published("llava-1.5", "textvqa", "paper", "rel-att", tiles=True) == 55.17
    assert published("llava-1.5", "vstar", "paper", "rel-att", tiles=False) == 47.64
    assert published("llava-1.5", "vstar", "paper", "none", tiles=False) == 42.41
    assert published("llava-signs", "textvqa", "paper", "rel-att", tiles=True) is None
    assert published("llava-1.5", "textvqa", "lmms-eval", "rel-att", tiles=True) is None
    assert published("llava-1.5", "vstar", "paper", "clip", tiles=True) is None
