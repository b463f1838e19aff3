"""The command `demo`: the embedded picture put to the embedded model, a first look at the product."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.options import DebugOption
from vicrop_engine.errors import SettingError

OutOption = Annotated[Path, typer.Option(help="Where the overlay goes; made when missing.")]


def demo(
    out: OutOption = Path("vicrop-demo"),
    debug: DebugOption = False,
) -> None:
    """Ask the embedded model about the embedded picture and draw what it looked at."""
    if out.exists() and not out.is_dir():
        raise SettingError(f"{out} is a file, wanted a directory for the overlay; give another --out")
    if out.is_dir():
        output.check_output_path(out / "overlay.png", "overlay", ".png")
    from vicrop_engine.engine import ViCropEngine
    from vicrop_engine.examples import DEMO_MODEL, demo_question
    from vicrop_engine.images.picture import open_picture

    path, document = demo_question()
    picture, question = open_picture(path), document["question"]
    answer = ViCropEngine.load(DEMO_MODEL).ask(picture.image, question)
    out.mkdir(parents=True, exist_ok=True)
    output.write_overlay(out / "overlay.png", picture.image, question, answer)
    facts = {"question": question, "written there": document["answer"], **output.answer_facts(answer)}
    output.print_facts({**facts, "overlay": str(out / "overlay.png")})
