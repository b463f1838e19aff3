"""The command `ask`: a question about a picture, without and with the crop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.opening import Opening
from vicrop_engine.cli.options import (
    BoxOption,
    CompatOption,
    CropMinPixelsOption,
    CropTilesOption,
    CropTokensOption,
    DebugOption,
    DeviceOption,
    DivisorFloorOption,
    EngineArgument,
    HighResOption,
    JsonOption,
    LayersOption,
    LocalizeOption,
    MaxNewTokensOption,
    MaxPixelsOption,
    MethodOption,
    NoFirstAnswerOption,
    NoProbeOption,
    PictureTilesOption,
    ShareWeightsOption,
    TargetOption,
    ThreadsOption,
    ToolOption,
    WhenOption,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from vicrop_engine.vicrop.answer import Answer

ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file.")]
QuestionArgument = Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")]
OverlayOption = Annotated[
    Path | None, typer.Option(help="Write a PNG of picture, heatmap, tiles, window, crop and answers.")
]
HeatmapOption = Annotated[
    Path | None,
    typer.Option(metavar="OUT.npy", help="Write the heatmap as NumPy's float32 [rows, cols]."),
]


def ask(
    engine: EngineArgument,
    image: ImageArgument,
    question: QuestionArgument,
    method: MethodOption = "rel-att",
    high_res: HighResOption = "auto",
    layers: LayersOption = None,
    box: BoxOption = None,
    max_new_tokens: MaxNewTokensOption = 20,
    localize: LocalizeOption = None,
    no_first_answer: NoFirstAnswerOption = False,
    when: WhenOption = "always",
    crop_tokens: CropTokensOption = "all",
    picture_tiles: PictureTilesOption = None,
    crop_tiles: CropTilesOption = None,
    max_pixels: MaxPixelsOption = None,
    crop_min_pixels: CropMinPixelsOption = None,
    divisor_floor: DivisorFloorOption = None,
    target: TargetOption = None,
    compat: CompatOption = None,
    threads: ThreadsOption = None,
    share_weights: ShareWeightsOption = False,
    device: DeviceOption = None,
    clip: ToolOption = None,
    yolo: ToolOption = None,
    sam: ToolOption = None,
    no_probe: NoProbeOption = False,
    json: JsonOption = False,
    overlay: OverlayOption = None,
    heatmap: HeatmapOption = None,
    debug: DebugOption = False,
) -> None:
    """Answer a question about a picture, without and with the crop."""
    window = None if box is None else output.parse_box(box)
    for path, what, suffix in ((overlay, "overlay", ".png"), (heatmap, "heatmap", ".npy")):
        if path is not None:
            output.check_output_path(path, what, suffix, image)
    from vicrop_engine.images.picture import open_picture

    picture = open_picture(image)
    for notice in picture.notices:
        output.notice(notice)
    from vicrop_engine.vicrop.params import AskParams

    params = AskParams(
        method=method,
        high_res=high_res,
        layers=layers,
        max_new_tokens=max_new_tokens,
        first_answer=not no_first_answer,
        compat=compat,
        box=window,
        localize=localize,
        when=when,
        crop_tokens=crop_tokens,
        picture_tiles=picture_tiles,
        crop_tiles=crop_tiles,
        max_pixels=max_pixels,
        crop_min_pixels=crop_min_pixels,
        divisor_floor=divisor_floor,
        target=target,
    )
    tools = (clip, yolo, sam)
    loaded = Opening(engine, threads, share_weights, device, tools, no_probe, huge_pages=False).open()
    with output.first_answer_shown() as heard:
        answer = loaded.answer(picture.image, question, params, heard)
    for notice in answer.notices:
        if notice not in picture.notices:
            output.notice(notice)
    _show(answer, picture.image, question, overlay, heatmap, json=json)


def _show(
    answer: Answer, image: Image, question: str, overlay: Path | None, heatmap: Path | None, *, json: bool
) -> None:
    if overlay is not None:
        output.write_overlay(overlay, image, question, answer)
    if heatmap is not None:
        output.save_heatmap(answer, heatmap)
    if json:
        output.print_json(answer.to_json())
    else:
        output.print_facts(output.answer_facts(answer))
