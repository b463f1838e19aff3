"""The command `calibrate`: what a crop has to be worth for `ask --when auto`, measured and kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.options import DebugOption, EngineArgument, JsonOption, NoProbeOption, ThreadsOption
from vicrop_engine.errors import ExamplesError, SettingError

if TYPE_CHECKING:
    from PIL import Image

    from vicrop_engine.engine_dir.records import Calibration
    from vicrop_engine.images.picture import ImageInput
    from vicrop_engine.measure.calibration import Trial


ExamplesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="LIST.json",
        help='Pictures of your own: a list of {"image", "question", "answer", "box"}; else the built-in '
        "signs.",
    ),
]
MethodOption = Annotated[str, typer.Option(help="The way to find the crop that is measured.")]
AccuracyOption = Annotated[
    float, typer.Option(help="The share to keep of what cropping every time gains, 0 to 1.")
]
PlotOption = Annotated[
    Path | None, typer.Option(metavar="OUT.png", help="Draw accuracy against cost as a PNG.")
]


def calibrate(
    engine: EngineArgument,
    examples: ExamplesOption = None,
    method: MethodOption = "rel-att",
    accuracy: AccuracyOption = 0.95,
    plot: PlotOption = None,
    threads: ThreadsOption = None,
    no_probe: NoProbeOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure when a crop pays and keep the number in the engine, for ask --when auto."""
    if not 0 < accuracy <= 1:
        raise SettingError(f"got --accuracy {accuracy}, wanted a share above 0 and up to 1")
    if plot is not None:
        output.check_output_path(plot, "plot", ".png", *output.pictures_of(examples))
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import track

    from vicrop_engine.builder import resolve
    from vicrop_engine.engine import ViCropEngine
    from vicrop_engine.engine_dir.manifest import add_calibration, demand_writable
    from vicrop_engine.measure.calibration import calibrated, try_examples
    from vicrop_engine.vicrop.localizers.methods import NONE, check_method

    check_method(method)
    if method == NONE:
        raise SettingError("method 'none' makes no crop; give another one to calibrate")
    asked = _answered(examples)
    directory = Path(resolve(engine))
    demand_writable(directory)
    model = ViCropEngine.load(directory, threads=threads, cache_bytes=0, probe=not no_probe)
    console = Console(stderr=True)
    shown = track(asked, "asking", console=console, transient=True, disable=not console.is_terminal)
    trials = list(try_examples(model, shown, method))
    found = calibrated(method, trials, accuracy)
    add_calibration(directory, found)
    if plot is not None:
        output.save_png(draw_calibration(found, trials), plot)
    if json:
        output.print_json({"engine": str(directory), **asdict(found)})
    else:
        output.print_facts(calibration_facts(found))


def calibration_facts(found: Calibration) -> dict[str, str]:
    """The lines `calibrate` prints."""
    gain = (found.auto - found.first) / (found.always - found.first)
    return {
        "method": found.method,
        "examples": str(found.examples),
        "right without crop": f"{found.first:.1%}",
        "right with every crop": f"{found.always:.1%}",
        "right with --when auto": f"{found.auto:.1%}, which keeps {gain:.1%} of the gain",
        "cost of --when auto": f"{found.cost:.1%} of what every crop costs beyond a plain answer",
        "a crop is made from": f"worth {found.threshold:.4f}",
    }


def draw_calibration(found: Calibration, trials: list[Trial]) -> Image.Image:
    """The curve of the trials, beside that of a threshold on the first answer's confidence."""
    from vicrop_engine.drawing.curve import Line, draw_curves
    from vicrop_engine.measure.calibration import full_curve

    rule = [(point.cost, point.accuracy) for point in full_curve(trials, [trial.worth for trial in trials])]
    usual = full_curve(trials, [1 - trial.confidence for trial in trials], aside=False)
    lines = [
        Line("what the crop is worth", rule, (found.cost, found.auto), "--when auto"),
        Line("confidence of the first answer alone", [(point.cost, point.accuracy) for point in usual]),
    ]
    caption = (
        f"Right: every question cropped ({found.always:.1%}). Left: none, after finding out what the crop is "
        f"worth ({found.first:.1%}). {found.examples} examples."
    )
    return draw_curves(f"When a crop pays: {found.method}", caption, lines)


def _answered(examples: Path | None) -> list[tuple[ImageInput, str, str]]:
    """The examples, all with an answer. Raises ExamplesError."""
    from vicrop_engine.examples import read_examples, signs

    found = signs() if examples is None else read_examples(examples)
    for number, (_, example) in enumerate(found):
        if example.answer is None:
            raise ExamplesError(f'{examples}, example {number} has no "answer"; add what is right')
    return [(path, example.question, example.answer or "") for path, example in found]
