"""The command `ask`: a question about a picture, without and with the crop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.options import (
    CropTokensOption,
    DebugOption,
    DeviceOption,
    EngineArgument,
    JsonOption,
    NoProbeOption,
    ThreadsOption,
    ToolOption,
    WhenOption,
)


def ask(
    engine: EngineArgument,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    method: Annotated[
        str,
        typer.Option(
            help="How to find the crop: rel-att, grad-att, pure-grad, clip, yolo or sam; none: no crop."
        ),
    ] = "rel-att",
    high_res: Annotated[
        str,
        typer.Option(
            help="Make the heatmap of tiles of at most 1024 pixels a side, to find smaller things: on, off, "
            "or auto, which is on for pictures whose longer side is over 1536 pixels and that take 100 tiles "
            "or less (never with --compat)."
        ),
    ] = "auto",
    layers: Annotated[
        str | None, typer.Option(help="Heatmap layers from 0: 14, 10-20 or all; else the engine's own.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="Crop this window instead: x0,y0,x1,y1 in pixels.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.")] = 20,
    no_first_answer: Annotated[
        bool, typer.Option("--no-first-answer", help="Leave out the answer without the crop.")
    ] = False,
    when: WhenOption = "always",
    crop_tokens: CropTokensOption = "all",
    compat: Annotated[
        str | None, typer.Option(help="mllms-know: reproduce the published code's own geometry.")
    ] = None,
    threads: ThreadsOption = None,
    share_weights: Annotated[
        bool, typer.Option("--share-weights", help="Share the weights in memory with other processes.")
    ] = False,
    device: DeviceOption = None,
    clip: ToolOption = None,
    yolo: ToolOption = None,
    sam: ToolOption = None,
    no_probe: NoProbeOption = False,
    json: JsonOption = False,
    overlay: Annotated[
        Path | None, typer.Option(help="Write a PNG of picture, heatmap, tiles, window, crop and answers.")
    ] = None,
    heatmap: Annotated[
        Path | None,
        typer.Option(metavar="OUT.npy", help="Write the heatmap as NumPy's float32 [rows, cols]."),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Answer a question about a picture, without and with the crop."""
    window = None if box is None else output.parse_box(box)
    if overlay is not None:
        output.check_output_path(overlay, "overlay", ".png")
    if heatmap is not None:
        output.check_output_path(heatmap, "heatmap", ".npy")
    from vicrop_engine.images.picture import open_picture

    picture = open_picture(image)
    for notice in picture.notices:
        output.notice(notice)
    from vicrop_engine.builder import resolve
    from vicrop_engine.engine import ViCropEngine
    from vicrop_engine.vicrop.localizers.methods import check_method

    check_method(method)
    with output.progress_bar(engine) as progress:
        directory = resolve(engine, progress)
    place = output.parse_device(device)
    loaded = ViCropEngine.load(
        directory,
        threads=threads,
        share_weights=share_weights,
        clip=clip,
        yolo=yolo,
        sam=sam,
        probe=not no_probe,
        **place,
    )
    with output.first_answer_shown() as heard:
        answer = loaded.ask(
            picture.image,
            question,
            method=method,
            high_res=high_res,
            layers=layers,
            max_new_tokens=max_new_tokens,
            first_answer=not no_first_answer,
            compat=compat,
            box=window,
            when=when,
            crop_tokens=crop_tokens,
            on_first_answer=heard,
        )
    if overlay is not None:
        output.write_overlay(overlay, picture.image, question, answer)
    if heatmap is not None:
        output.save_heatmap(answer, heatmap)
    if json:
        output.print_json(answer.to_json())
    else:
        output.print_facts(output.answer_facts(answer))
