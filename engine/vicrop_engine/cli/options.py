"""Options of several commands: when a crop is made, how much of it is read, and how an engine is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WhenOption = Annotated[
    str,
    typer.Option(
        help="When to crop: always; auto, only where the first answer is unsure enough for it (needs an "
        "engine that 'calibrate' has measured); never, which is --method none."
    ),
]

CropTokensOption = Annotated[
    str,
    typer.Option(
        metavar="N|all", help="Image tokens of the crop to read, those that differ most; fewer cost less."
    ),
]

PictureTilesOption = Annotated[
    str | None,
    typer.Option(metavar="all|one", help="Of models that cut a picture to tiles: all of them, or just one."),
]

CropTilesOption = Annotated[
    str | None,
    typer.Option(
        metavar="one|all", help="The same of the crop; what the model's family takes where it is not given."
    ),
]

MaxPixelsOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="See picture and crop in fewer pixels than the engine was built for."),
]

CropMinPixelsOption = Annotated[
    int | None, typer.Option(metavar="N", help="Scale a crop of fewer pixels up to as many.")
]

DivisorFloorOption = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Of rel-att: hold the general prompt's attention to at least this share of its mean, as in "
        "0.25, so that empty places do not win.",
    ),
]

TargetOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Of method target: the thing to look for, as in 'red sign'; else what the question names, or "
        "the model says.",
    ),
]

NoProbeOption = Annotated[
    bool,
    typer.Option(
        "--no-probe", help="Open the engine without comparing what it gives here with where it was built."
    ),
]

ToolOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Made by 'build' of that name; else the one in the cache.")
]

EngineArgument = Annotated[
    str, typer.Argument(metavar="ENGINE", help="An engine directory, or a known model's name.")
]

DebugOption = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]

ThreadsOption = Annotated[int | None, typer.Option(help="Processor cores to use; else all there are.")]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="GPU for an engine for cuda or tensorrt, from 0; or cpu, to try it there."
    ),
]

MethodOption = Annotated[
    str,
    typer.Option(
        help="How to find the crop: rel-att, grad-att, pure-grad, target, carve, clip, yolo or sam; none: no "
        "crop."
    ),
]

HighResOption = Annotated[
    str,
    typer.Option(
        help="Make the heatmap of tiles of at most 1024 pixels a side, to find smaller things: on, off, "
        "or auto, which is on for pictures whose longer side is over 1536 pixels and that take 100 tiles "
        "or less (never with --compat)."
    ),
]

LayersOption = Annotated[
    str | None, typer.Option(help="Heatmap layers from 0: 14, 10-20 or all; else the engine's own.")
]

BoxOption = Annotated[str | None, typer.Option(help="Crop this window instead: x0,y0,x1,y1 in pixels.")]

MaxNewTokensOption = Annotated[int, typer.Option(help="Longest answer in tokens.")]

NoFirstAnswerOption = Annotated[
    bool, typer.Option("--no-first-answer", help="Leave out the answer without the crop.")
]

CompatOption = Annotated[
    str | None, typer.Option(help="mllms-know: reproduce the published code's own geometry.")
]

ShareWeightsOption = Annotated[
    bool, typer.Option("--share-weights", help="Share the weights in memory with other processes.")
]

LocalizeOption = Annotated[
    str | None, typer.Option(help="A shorter question to look with, instead of the one that is answered.")
]
