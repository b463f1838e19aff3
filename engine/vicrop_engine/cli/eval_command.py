"""The command `eval`: benchmarks put to an engine, scored as the paper and the harnesses score them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.eval_output import print_report, shown_progress, write_report
from vicrop_engine.cli.options import (
    CompatOption,
    CropTokensOption,
    DebugOption,
    EngineArgument,
    HighResOption,
    JsonOption,
    NoProbeOption,
    ThreadsOption,
    WhenOption,
)
from vicrop_engine.errors import SettingError, WorkFailedError, one_of

if TYPE_CHECKING:
    from vicrop_engine.evaluation.asking import Asking
    from vicrop_engine.evaluation.plan import Plan
    from vicrop_engine.evaluation.session import AskingFor

DATA = "data"  # the name of one's own list
BOXES = ("textvqa-boxes", "vstar-boxes")
PACKAGES = ("vicrop-engine", "onnxruntime", "numpy", "pillow", "datasets")

BenchmarksArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="BENCHMARK…",
        help="textvqa, vstar, pope, docvqa, infovqa, aokvqa, aokvqa-choice, gqa, vqav2, hrbench4k, "
        "hrbench8k, cvbench, mme-realworld-lite, signs; textvqa-boxes, vstar-boxes. NAME=PATH takes a copy.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help='Your own: JSON lines or parquet with "image", "question", "answers", "box".'
    ),
]
BoxesOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=PATH", help="A copy of textvqa-boxes or vstar-boxes: numbers by size."),
]
MethodsOption = Annotated[
    list[str] | None, typer.Option(help="Ways to find the crop, several at a time; else none and rel-att.")
]
LayersOption = Annotated[
    list[str] | None,
    typer.Option(help="Heatmap layers, each choice given as one more way; else the engine's own."),
]
ScorerOption = Annotated[
    list[str] | None,
    typer.Option(help="paper, lmms-eval, vlmevalkit, several at a time; else the first that there is."),
]
PromptOption = Annotated[
    str | None, typer.Option(help="Whose wording of the questions; else that of the first scorer.")
]
TokensOption = Annotated[
    int | None, typer.Option(help="Longest answer in tokens; else what the harness allows.")
]
LimitOption = Annotated[int | None, typer.Option(metavar="N", help="The first N questions alone.")]
SampleOption = Annotated[
    str | None, typer.Option(metavar="SEED:N", help="N questions drawn at random by this seed.")
]
OutOption = Annotated[Path, typer.Option(help="Directory of answers and report; taken up where it ended.")]
RunningOption = Annotated[int | None, typer.Option(help="Questions under way; else as many as fit.")]
RayOption = Annotated[bool, typer.Option("--ray", help="Ask on a Ray cluster, or on this machine by Ray.")]
ActorsOption = Annotated[int, typer.Option(help="With --ray: engines to run.")]
CpusOption = Annotated[int, typer.Option(help="With --ray: processor cores of each.")]
GpusOption = Annotated[float, typer.Option(help="With --ray: GPUs of each.")]
AddressOption = Annotated[
    str | None, typer.Option(envvar="RAY_ADDRESS", help="With --ray: a running cluster.")
]


def eval(
    engine: EngineArgument,
    benchmarks: BenchmarksArgument = None,
    data: DataOption = None,
    boxes: BoxesOption = None,
    methods: MethodsOption = None,
    layers: LayersOption = None,
    high_res: HighResOption = "auto",
    when: WhenOption = "always",
    crop_tokens: CropTokensOption = "all",
    compat: CompatOption = None,
    scorer: ScorerOption = None,
    prompt: PromptOption = None,
    max_new_tokens: TokensOption = None,
    limit: LimitOption = None,
    sample: SampleOption = None,
    out: OutOption = Path("vicrop-eval"),
    threads: ThreadsOption = None,
    running: RunningOption = None,
    ray: RayOption = False,
    actors: ActorsOption = 1,
    cpus: CpusOption = 1,
    gpus: GpusOption = 0.0,
    address: AddressOption = None,
    no_probe: NoProbeOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Answer benchmarks with and without the crop, and score them as the paper and the harnesses do."""
    named = _sorted_out(benchmarks or [], methods or [], scorer or [], data)
    from vicrop_engine.builder import resolve
    from vicrop_engine.evaluation.benchmarks.table import find_benchmark
    from vicrop_engine.evaluation.session import ask_all, make_plan, opened_files, report_of
    from vicrop_engine.evaluation.settings import EvalSettings, Sample

    settings = EvalSettings(
        methods=tuple(named.methods) or EvalSettings.methods,
        layers=tuple(layers or ()),
        high_res=high_res,
        when=when,
        crop_tokens=crop_tokens,
        compat=compat,
        max_new_tokens=max_new_tokens,
        prompt=prompt,
        scorers=tuple(named.scorers),
        sample=Sample.of(limit, sample),
        copies={**_copies(boxes or []), **named.copies},
    )
    found = [find_benchmark(name) for name in named.benchmarks]
    with output.progress_bar(engine) as progress:
        directory = Path(resolve(engine, progress))
    plans = [make_plan(benchmark, settings, directory) for benchmark in found]
    asking = (
        _on_ray(directory, actors, cpus, gpus, address)
        if ray
        else _here(directory, threads, running, probe=not no_probe)
    )
    with opened_files(out) as files:
        try:
            with shown_progress(plans, files.answers) as step:
                ask_all(plans, asking, files, step)
        except KeyboardInterrupt:
            raise WorkFailedError(f"stopped; what was answered is in {out}: run it again to go on") from None
        report = report_of(plans, files, *_facts(directory, named.benchmarks))
    write_report(report, out)
    if json:
        output.print_json(report.to_json())
    else:
        print_report(report, out)
    if all(not each.rows and not each.pointing for each in report.sections):
        raise WorkFailedError(f"no question was answered; {out / 'report.md'} has the reasons")


@dataclass(frozen=True)
class Named:
    """What the words of a command line name: benchmarks, copies of some, methods, scorers."""

    benchmarks: list[str]
    copies: dict[str, Path]
    methods: list[str]
    scorers: list[str]


def _sorted_out(words: list[str], methods: list[str], scorers: list[str], data: Path | None) -> Named:
    """Words after `--methods none` or `--scorer paper` belong to these, whatever the parser made of them.

    Raises SettingError for a word that is none of these, and where no benchmark is named.
    """
    from vicrop_engine.evaluation.benchmarks.table import BENCHMARKS
    from vicrop_engine.evaluation.scorers.scorer import HARNESSES
    from vicrop_engine.vicrop.localizers.methods import METHODS

    benchmarks: list[str] = []
    copies: dict[str, Path] = {}
    more, others = [*methods], [*scorers]
    for word in words:
        name, _, path = word.partition("=")
        if name in BENCHMARKS:
            benchmarks.append(name)
            copies |= {name: Path(path)} if path else {}
        elif methods and word in METHODS:
            more.append(word)
        elif scorers and word in HARNESSES:
            others.append(word)
        else:
            raise SettingError(one_of("benchmark", name, BENCHMARKS))
    for scorer in others:
        if scorer not in HARNESSES:
            raise SettingError(one_of("scorer", scorer, HARNESSES))
    if data is not None:
        benchmarks.append(DATA)
        copies[DATA] = data
    if not benchmarks:
        raise SettingError("no benchmark is given; name one, such as signs, or give your own list as --data")
    return Named(list(dict.fromkeys(benchmarks)), copies, more, others)


def _copies(words: list[str]) -> dict[str, Path]:
    """The copies of --boxes. Raises SettingError."""
    found = {}
    for word in words:
        name, _, path = word.partition("=")
        if name not in BOXES or not path:
            raise SettingError(f"got --boxes {word!r}, wanted NAME=PATH with one of {', '.join(BOXES)}")
        found[name] = Path(path)
    return found


def _here(directory: Path, threads: int | None, running: int | None, *, probe: bool) -> AskingFor:
    """An engine of this process, opened when the first question is asked."""
    from functools import cache

    from vicrop_engine.engine import ViCropEngine
    from vicrop_engine.evaluation.asking import Locating, Scheduled

    if running is not None and running < 1:
        raise SettingError(f"got --running {running}, wanted a whole number from 1 up")
    opened = cache(lambda: ViCropEngine.load(directory, threads=threads, probe=probe))
    return lambda plan: Scheduled(opened(), running) if plan.benchmark.scorers else Locating(opened())


def _on_ray(directory: Path, actors: int, cpus: int, gpus: float, address: str | None) -> AskingFor:
    """Engines on Ray. Raises RayMissingError and SettingError."""
    from vicrop_engine.evaluation.on_ray import OnRay

    asking = OnRay(str(directory), actors, cpus, gpus, address)

    def chosen(plan: Plan) -> Asking:
        if not plan.benchmark.scorers:
            raise SettingError(f"{plan.benchmark.name} is not asked on Ray; leave --ray out")
        return asking

    return chosen


def _facts(directory: Path, benchmarks: list[str]) -> tuple[dict[str, Any], str]:
    """What stands above a report, and the model's name."""
    from vicrop_engine.engine_dir.manifest import read_manifest
    from vicrop_engine.runtime.onnx_runtime import package_version

    manifest = read_manifest(directory)
    model = manifest.model
    engine = {
        "model": model.name,
        "revision": model.revision,
        "precision": manifest.precision,
        "target": manifest.target,
    }
    versions = {name: package_version(name) for name in PACKAGES}
    caption = f"{model.name}, {manifest.precision}: {', '.join(benchmarks)}"
    return {"caption": caption, "engine": engine, "versions": versions}, model.name
