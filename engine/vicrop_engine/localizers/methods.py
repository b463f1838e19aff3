"""The methods by name: which there are, and the localizer of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vicrop_engine.errors import UnknownMethodError, one_of
from vicrop_engine.localizers.gradient_attention import GradientAttention
from vicrop_engine.localizers.localizer import Localizer
from vicrop_engine.localizers.pure_gradient import PureGradient
from vicrop_engine.localizers.relative_attention import RelativeAttention


@dataclass(frozen=True)
class Looking:
    """What an ask says about how to look: heatmap layers, and whether in the published code's way."""

    layers: tuple[int, ...]
    compat: bool


LOCALIZERS: dict[str, Callable[[Looking], Localizer]] = {
    "rel-att": lambda looking: RelativeAttention(looking.layers, always=looking.compat),
    "grad-att": lambda looking: GradientAttention(looking.layers, always=looking.compat),
    "pure-grad": lambda looking: PureGradient(looking.compat),
}
NONE = "none"
METHODS = (NONE, *LOCALIZERS)
LATER_METHODS = ("clip", "yolo", "sam")


def localizer_for(method: str, looking: Looking) -> Localizer | None:
    """The localizer of a method that exists; None for "none"."""
    return None if method == NONE else LOCALIZERS[method](looking)


def check_method(method: str) -> None:
    """Raises UnknownMethodError unless `method` exists in this version."""
    if method in LATER_METHODS:
        raise UnknownMethodError(f"method {method!r} is not built yet; this version has {', '.join(METHODS)}")
    if method not in METHODS:
        raise UnknownMethodError(one_of("method", str(method), METHODS))
