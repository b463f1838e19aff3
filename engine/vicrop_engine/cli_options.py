"""Options of `ask` that say when a crop is made and how much of it is read."""

from __future__ import annotations

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
