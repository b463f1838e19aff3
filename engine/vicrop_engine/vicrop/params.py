"""One ask, checked before any work starts: settings, layers, prompts and whether they fit the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vicrop_engine.engine_dir.layer_choice import LayerChoice
from vicrop_engine.errors import BoxError, SettingError, nearest, one_of
from vicrop_engine.images.geometry import Box
from vicrop_engine.vicrop.localizers.localizer import Localizer
from vicrop_engine.vicrop.localizers.methods import NONE, check_method

COMPAT = "mllms-know"

CALIBRATED = "rel-att"  # the method that `calibrate` measures when none is named

HIGH_RES = ("auto", "on", "off")

ALL = "all"

ALWAYS, AUTO, NEVER = WHEN = ("always", "auto", "never")


@dataclass(frozen=True)
class Settings:
    """The keywords of an ask as the user gave them; `ViCropEngine.ask` says what they mean."""

    method: str | Localizer = "rel-att"
    high_res: str = "auto"
    layers: LayerChoice | None = None
    max_new_tokens: int = 20
    first_answer: bool = True
    compat: str | None = None
    box: Sequence[int] | None = None
    localize: str | None = None
    when: str = ALWAYS
    crop_tokens: str | int = ALL


def _check_settings(settings: Settings) -> None:
    check_method(settings.method)
    if settings.high_res not in HIGH_RES:
        raise SettingError(
            f"unknown high_res {settings.high_res!r}; known: {', '.join(HIGH_RES)}"
            f"{nearest(str(settings.high_res), HIGH_RES)}"
        )
    if settings.when not in WHEN:
        raise SettingError(one_of("when", str(settings.when), WHEN))
    if settings.compat not in (None, COMPAT):
        raise SettingError(f"unknown compat {settings.compat!r}; known: {COMPAT}")
    tokens = settings.crop_tokens
    if tokens != ALL and not (str(tokens).isdecimal() and int(tokens) >= 1):
        raise SettingError(f"got crop_tokens {tokens!r}, wanted 'all' or a whole number from 1 up")
    count = settings.max_new_tokens
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise SettingError(f"got max_new_tokens {count!r}, wanted a whole number from 1 up")
    if settings.box is not None and settings.method == NONE:
        raise SettingError("got a box and method 'none', which makes no crop; leave one of them out")
    if settings.box is not None and settings.when != ALWAYS:
        raise SettingError(
            f"got a box and when {settings.when!r}; a box is always cropped to: leave one of them out"
        )
    if settings.when == AUTO and not isinstance(settings.method, str):
        raise SettingError(
            "got when 'auto' and a localizer of your own, which 'vicrop-engine calibrate' cannot measure; "
            "take 'always', or a method by name"
        )


def _box(value: Any) -> Box:
    try:
        x0, y0, x1, y1 = (int(side) for side in value)
        exact = all(int(side) == side for side in value)
    except (TypeError, ValueError) as error:
        raise BoxError(f"got {value!r} as a box, wanted four whole numbers x0, y0, x1, y1") from error
    if not exact:
        raise BoxError(f"got {value!r} as a box, wanted four whole numbers x0, y0, x1, y1")
    return x0, y0, x1, y1
