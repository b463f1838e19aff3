"""The settings of an ask, one record whoever asks: Python, command line, server, Ray, measurements."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict, TypeVar, cast

from vicrop_engine.answer_form import PLAIN, AnswerForm
from vicrop_engine.engine_dir.layer_choice import LayerChoice
from vicrop_engine.errors import BoxError, SettingError, nearest, one_of, shown
from vicrop_engine.images.geometry import Box
from vicrop_engine.vicrop.localizers.localizer import Localizer
from vicrop_engine.vicrop.localizers.methods import NONE, check_method

T = TypeVar("T")
COMPAT = "mllms-know"
CALIBRATED = "rel-att"  # the method that `calibrate` measures when none is named
HIGH_RES = ("auto", "on", "off")
ALL, ONE = TILES = ("all", "one")
PIXEL_BOUNDS = ("max_pixels", "crop_min_pixels")
ALWAYS, AUTO, NEVER = WHEN = ("always", "auto", "never")


@dataclass(frozen=True)
class AskParams:
    """How a question is to be answered.

    `method` is "rel-att", "grad-att", "pure-grad", "target", "carve", "clip", "yolo", "sam", "none" or a
    localizer of one's own; a `box` (x0, y0, x1, y1 in picture pixels) is cropped to instead.
    `high_res` "on" makes the heatmap of tiles of at most 1024 pixels a side, which finds smaller things;
    "auto" does so when the picture's longer side is over 1536, and never with `compat`.
    `layers` are 14, "10-20" or "all", the engine's own when None; `localize` is a shorter question to look
    with. `max_new_tokens` bounds the answer; `first_answer` False leaves the answer without crop out.
    `when` "auto" makes the crop only where the first answer is unsure enough for it (measured by
    `vicrop-engine calibrate`), "never" is method "none". Of the crop's image tokens only `crop_tokens` are
    read, those that differ most. `compat` "mllms-know" takes the published code's own geometry.
    Of families that cut a picture to tiles, `picture_tiles` and `crop_tiles` "all" take as many as their
    processor does and "one" a single one: None is "all" for the picture, and for the crop what the
    family takes. A crop that does not fit the context is one tile, and the answer's `notices` say so.
    Of families that see a picture in its own size, `max_pixels` bounds picture and crop below what the engine
    was built for, and a crop of fewer than `crop_min_pixels` is scaled up to as many.
    Of methods that divide by the general prompt's attention, `divisor_floor` is what the divisor is at least,
    as a share of its mean over the picture; None divides as published, and so does `compat`.
    Of methods that look for a thing, `target` names it, such as "red sign"; else it is the question's noun
    phrase, or what the model says.

    `history` are earlier turns of a conversation, oldest first, each as the model shall read it: they stand
    before the question as lines of text, and what is looked with is the question alone unless `localize` is
    given. `form` is what the answers have to look like, see AnswerForm.

    Raises SettingError, UnknownMethodError and BoxError for what cannot be.
    """

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
    picture_tiles: str | None = None
    crop_tiles: str | None = None
    max_pixels: int | None = None
    crop_min_pixels: int | None = None
    history: Sequence[str] = ()
    form: AnswerForm | None = None
    divisor_floor: float | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.divisor_floor, numbers.Real) and not isinstance(self.divisor_floor, bool):
            object.__setattr__(self, "divisor_floor", float(self.divisor_floor))  # NumPy's, too
        for name in ("max_new_tokens", "layers", "crop_tokens", *PIXEL_BOUNDS):  # NumPy's are whole, too
            object.__setattr__(self, name, plain_ints(getattr(self, name)))
        object.__setattr__(self, "first_answer", _truth("first_answer", self.first_answer))
        object.__setattr__(self, "history", _turns(self.history))
        check_method(self.method)
        _check_choices(self)
        _check_counts(self)
        _check_together(self)
        if self.box is not None:
            object.__setattr__(self, "box", _window(self.box))

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> AskParams:
        """The record of these keywords. Raises SettingError for one there is not, naming the nearest."""
        known = [field.name for field in fields(cls)]
        for name in keywords:
            if name not in known:
                raise SettingError(one_of("setting", name, known))
        return cls(**keywords)

    @property
    def answer_form(self) -> AnswerForm:
        """The form, that of a plain answer where none was given."""
        return PLAIN if self.form is None else self.form

    @property
    def window(self) -> Box | None:
        """The box in whole numbers."""
        return None if self.box is None else cast(Box, self.box)


class AskKeywords(TypedDict, total=False):
    """The fields of AskParams, as keywords of `ask`."""

    method: str | Localizer
    high_res: str
    layers: LayerChoice | None
    max_new_tokens: int
    first_answer: bool
    compat: str | None
    box: Sequence[int] | None
    localize: str | None
    when: str
    crop_tokens: str | int
    picture_tiles: str | None
    crop_tiles: str | None
    max_pixels: int | None
    crop_min_pixels: int | None
    history: Sequence[str]
    form: AnswerForm | None
    divisor_floor: float | None
    target: str | None


def plain_int(value: T) -> T | int:
    """A whole number of whatever kind as Python's own; anything else, and a truth value, as it is."""
    if isinstance(value, bool | str) or not hasattr(value, "__index__"):
        return value
    try:
        return operator.index(value)
    except TypeError:  # an array
        return value


def plain_ints(value: Any) -> Any:
    """The same of every number of a sequence or an array of one dimension, as a tuple."""
    if isinstance(value, list | tuple | range) or getattr(value, "ndim", 0) == 1:
        return tuple(plain_int(each) for each in value)
    return plain_int(value)


def _truth(name: str, value: object) -> bool:
    """A truth value of Python's or NumPy's. Raises SettingError for what only passes for one."""
    if isinstance(value, bool) or type(value).__name__ == "bool":  # NumPy's, which is not imported for this
        return bool(value)
    raise SettingError(f"got {name} {shown(value)}, wanted True or False")


def _turns(history: object) -> tuple[str, ...]:
    if isinstance(history, str) or not isinstance(history, Sequence):
        raise SettingError(f"got history {shown(history)}, wanted a list of texts, one for each turn")
    for turn in history:
        if not isinstance(turn, str):
            raise SettingError(f"got {shown(turn)} in history, wanted a list of texts, one for each turn")
    return tuple(history)


def _check_choices(params: AskParams) -> None:
    if params.form is not None and not isinstance(params.form, AnswerForm):
        raise SettingError(f"got form {shown(params.form)}, wanted an AnswerForm")
    for name in ("high_res", "when", "compat"):
        value = getattr(params, name)
        if not isinstance(value, str) and not (value is None and name == "compat"):
            raise SettingError(f"got {name} {shown(value)}, wanted text")
    if params.high_res not in HIGH_RES:
        raise SettingError(
            f"unknown high_res {params.high_res!r}; known: {', '.join(HIGH_RES)}"
            f"{nearest(params.high_res, HIGH_RES)}"
        )
    if params.when not in WHEN:
        raise SettingError(one_of("when", params.when, WHEN))
    for name in ("picture_tiles", "crop_tiles"):
        got = getattr(params, name)
        if got is not None and got not in TILES:
            raise SettingError(one_of(name, str(got), TILES))
    if params.compat not in (None, COMPAT):
        raise SettingError(f"unknown compat {params.compat!r}; known: {COMPAT}")


def _check_counts(params: AskParams) -> None:
    tokens, count = params.crop_tokens, params.max_new_tokens
    if tokens != ALL and not (str(tokens).isdecimal() and int(tokens) >= 1):
        raise SettingError(f"got crop_tokens {tokens!r}, wanted 'all' or a whole number from 1 up")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise SettingError(f"got max_new_tokens {count!r}, wanted a whole number from 1 up")
    for name in PIXEL_BOUNDS:
        pixels = getattr(params, name)
        if pixels is not None and (not isinstance(pixels, int) or isinstance(pixels, bool) or pixels < 1):
            raise SettingError(f"got {name} {shown(pixels)}, wanted a number of pixels from 1 up")
    floor = params.divisor_floor
    if floor is not None and not (isinstance(floor, float) and math.isfinite(floor) and floor > 0):
        raise SettingError(f"got divisor_floor {shown(floor)}, wanted a share of a mean above 0, as in 0.25")


def _check_together(params: AskParams) -> None:
    if params.box is not None and params.method == NONE:
        raise SettingError("got a box and method 'none', which makes no crop; leave one of them out")
    if params.box is not None and params.when != ALWAYS:
        raise SettingError(
            f"got a box and when {params.when!r}; a box is always cropped to: leave one of them out"
        )
    if params.when == AUTO and not isinstance(params.method, str):
        raise SettingError(
            "got when 'auto' and a localizer of your own, which 'vicrop-engine calibrate' cannot measure; "
            "take 'always', or a method by name"
        )
    if params.divisor_floor is not None and params.compat is not None:
        raise SettingError(
            f"got divisor_floor {params.divisor_floor} and compat {params.compat!r}, which divides as "
            "published; leave one of them out"
        )


def _window(value: Sequence[int]) -> Box:
    wanted = "wanted four whole numbers x0, y0, x1, y1"
    try:
        sides = [*value]
        x0, y0, x1, y1 = (int(side) for side in sides)
        exact = all(int(side) == side and not isinstance(side, bool) for side in sides)
    except (TypeError, ValueError, OverflowError) as error:
        raise BoxError(_shares(value) or f"got {shown(value)} as a box, {wanted}") from error
    if not exact or isinstance(value, bytes | bytearray | set | frozenset | dict):
        raise BoxError(_shares(value) or f"got {shown(value)} as a box, {wanted}")
    if shares := _shares(value):
        raise BoxError(shares)
    return x0, y0, x1, y1


def _shares(value: Sequence[Any]) -> str | None:
    """What to say of a box in shares of the picture's sides, as many tools write it: floats from 0 to 1."""
    try:
        floats = all(not hasattr(side, "__index__") and 0 <= side <= 1 for side in value)
        number = len(value)
    except (TypeError, ValueError):
        return None
    if not floats or number != 4:
        return None
    return (
        f"got {shown(value)} as a box, which is in shares of the picture's sides; wanted pixels: multiply x "
        "by its width and y by its height, and round"
    )
