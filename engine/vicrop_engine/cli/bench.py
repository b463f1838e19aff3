"""The command `bench`: latency and throughput under load, of an engine or of a running server."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.options import (
    DebugOption,
    JsonOption,
    MaxNewTokensOption,
    MethodOption,
    NoProbeOption,
    ThreadsOption,
    WhenOption,
)
from vicrop_engine.errors import SettingError

if TYPE_CHECKING:
    from vicrop_engine.measure.bench.report import Report
    from vicrop_engine.measure.bench.session import Trial
    from vicrop_engine.measure.bench.workload import Workload

PACKAGES = ("vicrop-engine", "onnxruntime", "numpy", "pillow")


EngineArgument = Annotated[
    str,
    typer.Argument(
        metavar="ENGINE_OR_URL", help="An engine directory, a known model's name, or a server's address."
    ),
]
ConcurrencyOption = Annotated[int, typer.Option(help="Clients, each of whom waits for its answer.")]
RequestsOption = Annotated[int, typer.Option(help="How many questions to ask.")]
RateOption = Annotated[
    float | None,
    typer.Option(help="Ask so many a second instead, at random moments, whatever the answers take."),
]
ImagesReuseOption = Annotated[int, typer.Option(help="Questions about each picture.")]
HighResShareOption = Annotated[
    float, typer.Option(help="Share of the pictures that are looked at in tiles, 0 to 1.")
]
BaselineOption = Annotated[
    bool,
    typer.Option(
        help="Report the same questions one at a time as well, of an engine with nothing kept between "
        "them. They are asked in any case, to compare the answers."
    ),
]
ExamplesOption = Annotated[
    Path | None, typer.Option(metavar="LIST.json", help="Pictures and questions; else the built-in ones.")
]
SeedOption = Annotated[int, typer.Option(help="Of the order of pictures and of the random moments.")]
ApiKeyOption = Annotated[
    str | None, typer.Option(envvar="VICROP_API_KEY", help="The key that the server wants.")
]
PlotOption = Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw latencies and throughput.")]


def bench(
    engine: EngineArgument,
    concurrency: ConcurrencyOption = 8,
    requests: RequestsOption = 64,
    rate: RateOption = None,
    images_reuse: ImagesReuseOption = 4,
    high_res_share: HighResShareOption = 0.0,
    baseline: BaselineOption = True,
    method: MethodOption = "rel-att",
    when: WhenOption = "always",
    max_new_tokens: MaxNewTokensOption = 20,
    examples: ExamplesOption = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    api_key: ApiKeyOption = None,
    no_probe: NoProbeOption = False,
    json: JsonOption = False,
    plot: PlotOption = None,
    debug: DebugOption = False,
) -> None:
    """Measure latency and throughput under load, beside the same questions one at a time."""
    if concurrency < 1:
        raise SettingError(f"got --concurrency {concurrency}, wanted 1 or more")
    if rate is not None and not rate > 0:
        raise SettingError(f"got --rate {rate:g}, wanted questions a second above 0")
    if plot is not None:
        output.check_output_path(plot, "plot", ".png", *output.pictures_of(examples))
    from vicrop_engine.examples import read_examples, signs
    from vicrop_engine.measure.bench.loops import closed_loop, open_loop
    from vicrop_engine.measure.bench.session import Trial
    from vicrop_engine.measure.bench.workload import Workload, draw_queries
    from vicrop_engine.vicrop.params import AskParams

    workload = Workload(requests, images_reuse, concurrency, high_res_share, seed)
    asked = signs() if examples is None else read_examples(examples)
    loop = closed_loop(concurrency) if rate is None else open_loop(rate, seed)
    params = AskParams(method=method, when=when, max_new_tokens=max_new_tokens)
    trial = Trial(
        lambda fresh: draw_queries(workload, asked, fresh=fresh), loop, params, baseline, probe=not no_probe
    )
    trial.draw(0)  # what is wrong with the pictures is said before any engine is opened
    facts = _facts(workload, rate, method)
    report = (
        _server(engine, api_key, trial, facts) if "://" in engine else _engine(engine, threads, trial, facts)
    )
    if plot is not None:
        from vicrop_engine.measure.bench.plot import draw_report

        output.save_png(draw_report(report), plot)
    if json:
        output.print_json(report.to_json())
    else:
        _print(report)


def _engine(name: str, threads: int | None, trial: Trial, facts: dict[str, Any]) -> Report:
    from vicrop_engine.builder import resolve
    from vicrop_engine.engine_dir.manifest import read_manifest
    from vicrop_engine.measure.bench.report import Report
    from vicrop_engine.measure.bench.session import bench_engine
    from vicrop_engine.process_limits import usable_cores
    from vicrop_engine.runtime.processor import processor_name

    with output.progress_bar(name) as progress:
        directory = Path(resolve(name, progress))
    manifest = read_manifest(directory)
    cores = threads or usable_cores()
    place = f"{cores} core{'s' if cores > 1 else ''} of {processor_name()}"
    facts |= {
        "engine": {
            "model": manifest.model.name,
            "revision": manifest.model.revision,
            "precision": manifest.precision,
            "target": manifest.target,
        },
        "machine": {"processor": processor_name(), "system": platform.platform(), "threads": cores},
        "caption": f"{manifest.model.name}, {manifest.precision}, {facts['caption']}; {place}",
    }
    return Report(facts, bench_engine(directory, threads, trial, output.notice))


def _server(url: str, api_key: str | None, trial: Trial, facts: dict[str, Any]) -> Report:
    from vicrop_engine.measure.bench.over_http import Server
    from vicrop_engine.measure.bench.report import Report
    from vicrop_engine.measure.bench.session import bench_server

    with Server(url, api_key, trial.params) as server:
        model = server.model()
        facts |= {"server": url, "model": model, "caption": f"{model} at {url}, {facts['caption']}"}
        return Report(facts, bench_server(server, trial, output.notice))


def _facts(workload: Workload, rate: float | None, method: str) -> dict[str, Any]:
    """What is asked, and how."""
    from vicrop_engine.runtime.onnx_runtime import package_version

    asked = f"{workload.requests} questions, {workload.images_reuse} a picture"
    how = f"{workload.users} clients at a time" if rate is None else f"{rate:g} a second at random moments"
    mixed = f", {workload.high_res_share:.0%} in tiles" if workload.high_res_share else ""
    return {
        "load": {**vars(workload), "concurrency": None if rate else workload.users, "rate": rate},
        "method": method,
        "versions": {name: package_version(name) for name in PACKAGES},
        "caption": f"{method}; {asked}{mixed}, {how}",
    }


def _print(report: Report) -> None:
    from rich.console import Console

    from vicrop_engine.measure.bench.table import ratio_lines, run_table

    print(report.facts["caption"])
    Console(file=sys.stdout).print(run_table(report))
    print(*ratio_lines(report), "Every answer and crop box is the one given one by one.", sep="\n")
