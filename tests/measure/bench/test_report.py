"""What runs come to, and that nothing is reported of answers that differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.measure.bench.targets import SAID, outcome, queries
from vicrop_engine.errors import AnswersDifferError
from vicrop_engine.measure.bench.figures import figures
from vicrop_engine.measure.bench.loops import Run
from vicrop_engine.measure.bench.plot import draw_report, headline
from vicrop_engine.measure.bench.report import ALONE, LOAD, SINGLE, Report, check_answers
from vicrop_engine.measure.bench.table import ratio_lines, run_table


def made_run(latencies: list[float], **more: object) -> Run:
    asked = queries(len(latencies))
    return Run(tuple(outcome(*each, **more) for each in zip(asked, latencies, strict=True)), None)


def facts(rate: float | None) -> dict[str, object]:
    return {"caption": "some questions", "load": {"rate": rate}}


def test_figures_of_a_run() -> None:
    asked = queries(101)
    outcomes = [outcome(query, 1 + query.number / 100, reused=("prefix",)) for query in asked[:-1]]
    outcomes[0] = replace(outcomes[0], reused=("prefix", "shared"), queued=0.5)
    lost = outcome(asked[100], 9.0, None, error="QueueFullError")
    made = figures(Run((*outcomes, lost), 50.0))
    assert (made.requests, made.answers, made.errors) == (101, 100, {"QueueFullError": 1})
    assert made.seconds == 9.0
    assert made.throughput == pytest.approx(100 / 9)
    assert made.latency is not None
    assert made.latency.p50 == pytest.approx(1.495)
    assert made.latency.p95 == pytest.approx(1.9405)
    assert made.latency.p99 == pytest.approx(1.9801)
    assert made.ttft is not None
    assert made.ttft.p50 == pytest.approx(1.495 / 2)
    assert made.queued is not None
    assert made.queued.mean == 0.5
    assert made.reused == {"prefix": 1.0, "image_embeds": 0.0, "general": 0.0, "shared": 0.01}
    assert made.processor == 0.5


def test_ratios_compare_with_one_at_a_time_and_short_ones_alone() -> None:
    asked = queries(4, high_res=(3,))
    load = Run(tuple(outcome(*each) for each in zip(asked, (3.0, 3.0, 3.0, 99.0), strict=True)), 4.0)
    single = Run(tuple(outcome(query, 198.0) for query in asked), 10.0)
    alone = Run(tuple(outcome(query, 2.0) for query in asked[:3]), 1.0)
    report = Report(facts(None), {LOAD: load, ALONE: alone, SINGLE: single})
    wanted = {"throughput": 2.0, "processor": 2.5, "short_p95": 1.5, "short_p50": 1.5}
    assert report.ratios == pytest.approx(wanted)
    assert "throughput" not in Report(facts(15.0), report.runs).ratios
    assert headline(Report(facts(15.0), report.runs)).startswith("Asked 15 times a second; ")
    document = report.to_json()
    assert set(document["runs"]) == {"under_load", "short_ones_alone", "one_at_a_time"}
    assert document["runs"]["under_load"]["latency_by_kind"]["high-res"]["p50"] == 99.0
    assert document["answers_verified"] is True
    assert "2.00 times as many as one at a time" in headline(report)
    assert [line.split()[-1] for line in ratio_lines(report)] == ["2.00", "2.50", "1.50", "1.50"]
    table = run_table(report)
    assert [column.header for column in table.columns] == ["", LOAD, ALONE, SINGLE]
    assert "high-res ones, p95" in list(table.columns[0].cells)


def test_the_picture_shows_every_run() -> None:
    report = Report(
        facts(None),
        {LOAD: made_run([0.01 * at for at in range(1, 11)]), SINGLE: made_run([0.3] * 10)},
    )
    image = draw_report(report)
    assert image.width == 1600
    colours = {colour for _, colour in image.getcolors(1 << 20) or ()}
    assert {(200, 16, 46), (138, 143, 152), (224, 138, 0)} <= colours  # load, one at a time, first token


def test_answers_that_differ_are_refused() -> None:
    single = [outcome(query, 1.0) for query in queries(3)]
    check_answers(single, single)
    check_answers([replace(single[0], said=None, error="status 429")], single)
    for other in (
        replace(SAID, answer="6"),
        replace(SAID, answer_without_crop=None),
        replace(SAID, crop_box=(1, 2, 3, 5)),
    ):
        with pytest.raises(AnswersDifferError, match=r"1 of 3 answers .* question 1, 'Question 1\?'"):
            check_answers([single[0], replace(single[1], said=other), single[2]], single)
