"""What a profile is made of: cold runs, stages that add up by a clock that counts readings, and ratios."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image, ImageChops

from vicrop_engine import ViCropEngine
from vicrop_engine.counters import GraphRun, Tally
from vicrop_engine.engine_dir.flops import LOWER, UPPER, num_flops
from vicrop_engine.errors import RunError
from vicrop_engine.measure.profiling.flows import CROPPED, NEXT, PLAIN, Case, Sample, measure
from vicrop_engine.measure.profiling.page import render_page
from vicrop_engine.measure.profiling.report import Profile, make_profile
from vicrop_engine.measure.profiling.stages import ORDER, stage_costs
from vicrop_engine.measure.profiling.trace_events import trace_events
from vicrop_engine.measure.profiling.waterfall import WIDTH, draw_profile
from vicrop_engine.runtime.processor import processor_name
from vicrop_engine.vicrop.params import AskParams

QUESTION = "What is written on the red sign?"
Samples = dict[str, list[Sample]]


@pytest.fixture
def engine(engine: ViCropEngine) -> ViCropEngine:
    """An engine whose clock goes on by one second whenever it is read."""
    ticks = itertools.count()
    engine.tally.clock = lambda: float(next(ticks))
    return engine


@pytest.fixture
def case(picture: Image.Image) -> Case:
    return Case(np.asarray(picture), QUESTION, AskParams(max_new_tokens=3))


def profiled(engine: ViCropEngine, case: Case, rounds: int = 2) -> tuple[Profile, Samples]:
    samples = measure(engine, case, range(rounds + 1))
    return make_profile({"caption": "a test"}, samples, engine.manifest), samples


def test_stages_add_up_to_the_total(engine: ViCropEngine, case: Case) -> None:
    profile, samples = profiled(engine, case)
    for name, flow in profile.flows.items():
        (first, *_), total = samples[name], sum(stage.seconds for stage in flow.stages)
        assert total == pytest.approx(flow.seconds, rel=0.05)
        assert flow.seconds == pytest.approx(first.spans[-1].end - first.spans[0].start, abs=1)
        assert flow.typical[-1].end == pytest.approx(flow.totals[0], abs=1)
    stages = [stage.stage for stage in profile.flows[CROPPED].stages]
    assert stages == list(ORDER)
    assert not profile.notices


def test_every_run_is_cold_but_the_next_question(engine: ViCropEngine, case: Case) -> None:
    before = engine.counters
    measure(engine, case, range(3))
    after = engine.counters
    assert after.prefix_prefills - before.prefix_prefills == 2 * 3
    assert after.prefix_hits - before.prefix_hits == 3
    assert after.general_hits - before.general_hits == 3
    assert after.vision_hits == before.vision_hits
    assert after.vision_images - before.vision_images == 3 * (1 + 2 + 1)
    assert engine.tally.runs is None


def test_tokens_and_operations_are_those_of_the_graphs_that_ran(engine: ViCropEngine, case: Case) -> None:
    before = engine.counters
    profile, samples = profiled(engine, case, rounds=1)
    counters, runs = engine.counters, [run for sample in samples[CROPPED] for run in sample.runs]
    lower = sum(run.axes["seq"] for run in runs if LOWER in run.graphs)
    in_decoder = [stage for stage in profile.flows[CROPPED].stages if "vision" not in stage.stage]
    assert sum(stage.tokens for stage in in_decoder) == lower
    every = [run for taken in samples.values() for sample in taken for run in sample.runs]
    twice = sum(run.axes["seq"] for run in every if LOWER in run.graphs) * 2  # the first round is not kept
    assert twice == counters.lower_tokens - before.lower_tokens
    assert sum(run.axes["seq"] for run in every if UPPER in run.graphs) * 2 == (
        counters.upper_tokens - before.upper_tokens
    )
    assert engine.manifest.multiply_adds is not None
    counted = sum(
        num_flops(engine.manifest.multiply_adds[name], run.axes) for run in runs for name in run.graphs
    )
    assert profile.flows[CROPPED].flops == pytest.approx(counted, abs=9)


def test_a_pass_over_prefix_and_suffixes_is_divided_by_tokens(engine: ViCropEngine, case: Case) -> None:
    sample = measure(engine, case, range(2))[CROPPED][0]
    costs = {cost.stage: cost for cost in stage_costs(sample, engine.manifest)}
    prefix, suffixes = costs["prefix prefill"], costs["suffixes"]
    assert prefix.tokens == engine.manifest.vision.image_tokens + 1  # and the begin token
    shared = [run for run in sample.runs if run.prefix_tokens]
    (of_lower, of_upper) = (run.prefix_tokens / run.axes["seq"] for run in shared)
    share = prefix.seconds / (prefix.seconds + suffixes.seconds)
    assert share == pytest.approx((of_lower + of_upper) / 2)  # each took one tick of the clock
    assert prefix.weight_bytes == costs["crop prefill"].weight_bytes
    assert prefix.weight_bytes == sum(
        engine.manifest.files[f"{name}.onnx.data"].size for name in (LOWER, UPPER)
    )
    assert suffixes.weight_bytes == 0
    again = {
        cost.stage: cost for cost in stage_costs(measure(engine, case, range(2))[NEXT][0], engine.manifest)
    }
    assert "prefix prefill" not in again
    assert again["suffixes"].weight_bytes == engine.manifest.files[f"{LOWER}.onnx.data"].size


def test_ratios_are_of_whole_answers(engine: ViCropEngine, case: Case) -> None:
    profile, samples = profiled(engine, case)
    plain, cropped = profile.flows[PLAIN], profile.flows[CROPPED]
    whole = samples[CROPPED][0].spans[-1].end - samples[CROPPED][0].spans[0].start
    assert cropped.totals[0] == whole
    assert profile.ratios["cropped"].measured == np.median(cropped.totals) / np.median(plain.totals)
    assert cropped.flops is not None
    assert plain.flops is not None
    assert profile.ratios["cropped"].arithmetic == cropped.flops / plain.flops
    found = profile.ratios["heatmap"]
    assert found.arithmetic is not None
    assert 0 < found.arithmetic < 0.2
    assert 0 < found.measured < profile.ratios["cropped"].measured - 1


def test_runs_that_answer_differently_are_refused(
    engine: ViCropEngine, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ask = itertools.count(), engine.answer

    def wavering(*arguments: object, **keywords: object) -> object:
        answer = ask(*arguments, **keywords)  # type: ignore[arg-type]
        return dataclasses.replace(answer, token_ids=(next(asked),))

    monkeypatch.setattr(engine, "answer", wavering)
    with pytest.raises(RunError, match=r"2 runs of one question \(plain\) gave 2 different"):
        measure(engine, case, range(2))


def test_an_engine_built_before_operations_were_counted(engine: ViCropEngine, case: Case) -> None:
    old = dataclasses.replace(engine.manifest, multiply_adds=None)
    profile = make_profile({}, measure(engine, case, range(2)), old)
    assert profile.flows[CROPPED].flops is None
    assert profile.ratios["cropped"].arithmetic is None
    assert "build llava-signs --force" in profile.notices[0]
    assert draw_profile(profile).width == WIDTH


def test_a_tally_keeps_runs_only_while_it_is_watched() -> None:
    ticks = itertools.count()
    tally = Tally(lambda: float(next(ticks)))
    with tally.running("vision", images=1):
        pass
    with tally.watching() as runs, tally.running(LOWER, UPPER, prefix_tokens=2, seq=3):
        pass
    assert runs == [GraphRun((LOWER, UPPER), {"seq": 3}, 2, 0.0, 1.0)]  # nor is the clock read before
    assert tally.runs is None


def test_the_trace_has_a_lane_for_each_flow_and_graphs_within_its_stages(
    engine: ViCropEngine, case: Case
) -> None:
    profile, _ = profiled(engine, case)
    document = json.loads(json.dumps(trace_events(profile)))
    lasting = [event for event in document["traceEvents"] if event["ph"] == "X"]
    for lane, flow in enumerate(profile.flows.values(), 1):
        stages = [event for event in lasting if event["tid"] == lane]
        assert [event["name"] for event in stages] == [part.stage for part in flow.typical]
        for one, two in itertools.pairwise(stages):
            assert -0.01 < two["ts"] - one["ts"] - one["dur"] < 1e6 + 0.01  # a tick of the clock at most
        graphs = [event for event in lasting if event["tid"] == lane + 100]
        assert len(graphs) == len(flow.sample.runs)
        end = stages[-1]["ts"] + stages[-1]["dur"]
        assert all(event["ts"] > 0 and event["ts"] + event["dur"] < end for event in graphs)


def test_the_picture_shows_every_stage_and_the_page_needs_nothing_else(
    engine: ViCropEngine, case: Case
) -> None:
    profile, _ = profiled(engine, case)
    drawn = draw_profile(profile)
    background = Image.new("RGB", drawn.size, "#ffffff")
    box = ImageChops.difference(drawn, background).getbbox()
    assert box is not None
    assert box[0] > 0
    assert box[2] < WIDTH - 8
    assert box[3] < drawn.height
    page = render_page(profile)
    assert not re.search(r"src=|href=|url\(|<script", page)
    for stage in ORDER:
        assert f"<td>{stage}</td>" in page


def test_the_processors_name_is_found_or_its_architecture_told(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("proc") / "cpuinfo"
    file.write_text("processor : 0\nmodel name\t: Fast One\nmodel name\t: Fast One\n", encoding="utf-8")
    assert processor_name(file) == "Fast One"
    assert processor_name(file.with_name("missing"))
