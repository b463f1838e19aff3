"""The command `layers`: how well each layer of an engine points, measured, and which is the best."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.options import (
    DebugOption,
    DeviceOption,
    EngineArgument,
    JsonOption,
    NoProbeOption,
    ThreadsOption,
)

if TYPE_CHECKING:
    from vicrop_engine.measure.layer_survey import LayerScore


BAR = 30  # characters of a bar that says "every window"


ExamplesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="LIST.json",
        help='Pictures of your own: a list of {"image", "question", "box"}; else the built-in signs.',
    ),
]


def layers(
    engine: EngineArgument,
    examples: ExamplesOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    no_probe: NoProbeOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how well each layer points, and print the best one for --layers."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import track

    from vicrop_engine.engine import ViCropEngine
    from vicrop_engine.examples import read_examples, signs
    from vicrop_engine.measure.layer_survey import best_layer, score_layers

    asked = signs() if examples is None else read_examples(examples)
    model = ViCropEngine.load(engine, threads=threads, probe=not no_probe, **output.parse_device(device))
    shown = track(asked, "looking", console=Console(stderr=True), transient=True)
    scores = score_layers(model, model.manifest.decoder.num_layers, shown)
    best = best_layer(scores)
    if json:
        document = {"examples": len(asked), "best": best.layer, "scores": [asdict(score) for score in scores]}
        output.print_json(document)
        return
    _print_scores(scores, best, len(asked), model.manifest.crop.layers)


def _print_scores(
    scores: list[LayerScore], best: LayerScore, num_examples: int, default: tuple[int, ...]
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("layer", "windows that hold the place", "", "contrast", title=f"{num_examples} examples")
    for score in scores:
        mark = " (best)" if score is best else ""
        bar = "█" * round(score.holds * BAR)
        table.add_row(f"{score.layer}{mark}", f"{score.holds:.1%}", bar, f"{score.contrast:.2f}")
    Console(file=sys.stdout).print(table)
    usual = ", ".join(map(str, default))
    print(f"best: --layers {best.layer} (this engine's default: {usual}); contrast 1 is chance")
