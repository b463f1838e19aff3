"""The command `profile`: what the crop costs, and where, by the clock and by arithmetic."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.options import (
    DebugOption,
    EngineArgument,
    HighResOption,
    JsonOption,
    LayersOption,
    MaxNewTokensOption,
    MethodOption,
    NoProbeOption,
    ThreadsOption,
)
from vicrop_engine.errors import SettingError

if TYPE_CHECKING:
    from vicrop_engine.engine import ViCropEngine
    from vicrop_engine.measure.profiling.flows import Case
    from vicrop_engine.measure.profiling.report import Profile

PACKAGES = ("vicrop-engine", "onnxruntime", "numpy", "pillow")


ImageArgument = Annotated[
    str | None, typer.Argument(metavar="[IMAGE", help="A picture file; else the embedded one.")
]
QuestionArgument = Annotated[str | None, typer.Argument(metavar="QUESTION]", help="Its question.")]
RunsOption = Annotated[int, typer.Option(help="How often to measure, after one run to warm up.")]
ProcessorTimeOption = Annotated[
    bool,
    typer.Option(
        "--processor-time",
        help="Measure time on the processor, which other work disturbs less; with --threads 1.",
    ),
]
CompareOption = Annotated[
    str | None,
    typer.Option(metavar="CHECKPOINT", help="Also time the published code's passes on this checkpoint."),
]
PlotOption = Annotated[
    Path | None, typer.Option(metavar="OUT.png", help="Draw where the time goes; and OUT.html beside it.")
]
HtmlOption = Annotated[
    Path | None, typer.Option(metavar="OUT.html", help="Write it as one page under this name.")
]
TraceOption = Annotated[
    Path | None, typer.Option(metavar="OUT.json", help="Write trace events for Perfetto or Chrome.")
]


def profile(
    engine: EngineArgument,
    image: ImageArgument = None,
    question: QuestionArgument = None,
    method: MethodOption = "rel-att",
    high_res: HighResOption = "auto",
    layers: LayersOption = None,
    max_new_tokens: MaxNewTokensOption = 20,
    runs: RunsOption = 5,
    threads: ThreadsOption = None,
    processor_time: ProcessorTimeOption = False,
    compare: CompareOption = None,
    no_probe: NoProbeOption = False,
    json: JsonOption = False,
    plot: PlotOption = None,
    html: HtmlOption = None,
    trace: TraceOption = None,
    debug: DebugOption = False,
) -> None:
    """Measure what the crop costs, and where: plain and cropped answers in turn, stage by stage."""
    if runs < 1:
        raise SettingError(f"got --runs {runs}, wanted 1 or more")
    if (image is None) != (question is None):
        raise SettingError("got a picture without a question; give both, or neither for the embedded ones")
    if processor_time and threads != 1:
        raise SettingError("--processor-time adds up all cores' time; give --threads 1 as well")
    html = plot.with_suffix(".html") if plot is not None and html is None else html
    for path, what, suffix in ((plot, "plot", ".png"), (html, "page", ".html"), (trace, "trace", ".json")):
        if path is not None:
            output.check_output_path(path, what, suffix, image)
    from vicrop_engine.examples import demo_question
    from vicrop_engine.images.picture import open_picture
    from vicrop_engine.measure.profiling.flows import Case
    from vicrop_engine.vicrop.params import AskParams

    path, document = demo_question()
    asked = document["question"] if question is None else question
    params = AskParams(method=method, high_res=high_res, layers=layers, max_new_tokens=max_new_tokens)
    case = Case(path if image is None else image, asked, params)
    size = open_picture(case.image).size  # what is wrong with the picture is said before any engine is opened
    loaded = _load(engine, method, threads, probe=not no_probe)
    made = _profile(loaded, case, runs, _facts(loaded, case, size, runs, threads, processor_time), compare)
    _write(made, plot, html, trace)
    if json:
        output.print_json(made.to_json())
    else:
        _print(made)


def _load(engine: str, method: str, threads: int | None, *, probe: bool) -> ViCropEngine:
    from vicrop_engine.builder import resolve
    from vicrop_engine.engine import ViCropEngine
    from vicrop_engine.engine_dir.manifest import read_manifest
    from vicrop_engine.runtime.heap import wait_until_settled

    if method == "none":
        raise SettingError("method 'none' makes no crop, whose cost this measures; give another one")
    with output.progress_bar(engine) as progress:
        directory = resolve(engine, progress)
    target = read_manifest(directory).target
    if target != "cpu":
        raise SettingError(
            f"the engine is for target {target!r}, whose operations are not counted yet; give one built with "
            "--target cpu"
        )
    loaded = ViCropEngine.load(directory, threads=threads, probe=probe)
    wait_until_settled()
    return loaded


def _profile(
    engine: ViCropEngine, case: Case, runs: int, facts: dict[str, Any], compare: str | None
) -> Profile:
    import time

    from rich.console import Console
    from rich.progress import track

    from vicrop_engine.measure.profiling.flows import measure
    from vicrop_engine.measure.profiling.report import make_profile

    published = None
    if compare is not None:
        from vicrop_engine.measure.profiling.published import published_turn

        published = published_turn(compare, engine, case, facts["machine"]["threads"])
    if facts["clock"] == "processor":
        engine.tally.clock = time.process_time
    rounds = track(range(runs + 1), "measuring", console=Console(stderr=True), transient=True)
    return make_profile(facts, measure(engine, case, rounds, published), engine.manifest)


def _facts(
    engine: ViCropEngine, case: Case, size: tuple[int, int], runs: int, threads: int | None, processor: bool
) -> dict[str, Any]:
    """What was measured, where and how."""
    from vicrop_engine.process_limits import usable_cores
    from vicrop_engine.runtime.onnx_runtime import package_version
    from vicrop_engine.runtime.processor import processor_name

    manifest, cores = engine.manifest, threads or usable_cores()
    clock = "processor time" if processor else "the clock"
    caption = (
        f"{manifest.model.name}, {manifest.precision}, {case.params.method}; {size[0]} x {size[1]} pixels; "
        f"{cores} core{'s' if cores > 1 else ''} of {processor_name()}; median of {runs} runs by {clock}"
    )
    return {
        "engine": {
            "model": manifest.model.name,
            "revision": manifest.model.revision,
            "precision": manifest.precision,
            "target": manifest.target,
            "provider": engine.provider,
        },
        "machine": {"processor": processor_name(), "system": platform.platform(), "threads": cores},
        "versions": {
            name: package_version(name) for name in ("vicrop-engine", "onnxruntime", "numpy", "pillow")
        },
        "question": case.question,
        "image_size": list(size),
        "method": case.params.method,
        "rounds": runs,
        "clock": "processor" if processor else "wall",
        "caption": caption,
    }


def _write(profile: Profile, plot: Path | None, html: Path | None, trace: Path | None) -> None:
    import json

    from vicrop_engine.measure.profiling.page import render_page
    from vicrop_engine.measure.profiling.trace_events import trace_events
    from vicrop_engine.measure.profiling.waterfall import draw_profile

    if plot is not None:
        output.save_png(draw_profile(profile), plot)
    if html is not None:
        output.save_text(render_page(profile), html)
    if trace is not None:
        output.save_text(json.dumps(trace_events(profile)) + "\n", trace)


def _print(profile: Profile) -> None:
    from rich.console import Console

    from vicrop_engine.measure.profiling.table import FOOTNOTES, flow_table, ratio_lines

    console = Console(file=sys.stdout)
    print(profile.facts["caption"])
    for name, flow in profile.flows.items():
        console.print(flow_table(name, flow))
    print(*ratio_lines(profile), "", *FOOTNOTES, sep="\n")
    for notice in profile.notices:
        output.notice(notice)
