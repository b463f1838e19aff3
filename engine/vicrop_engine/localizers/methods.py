"""The methods by name: which there are, and the localizer of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vicrop_engine.errors import UnknownMethodError, one_of
from vicrop_engine.localizers.clip_zoom import ClipZoom
from vicrop_engine.localizers.localizer import Localizer
from vicrop_engine.localizers.proposed_box import ProposedBox
from vicrop_engine.localizers.relative_attention import RelativeAttention
from vicrop_engine.tools.toolbox import Toolbox


@dataclass(frozen=True)
class Looking:
    """What an ask says about how to look: heatmap layers, if in the published code's way, with what tools."""

    layers: tuple[int, ...]
    compat: bool
    tools: Toolbox


LOCALIZERS: dict[str, Callable[[Looking], Localizer]] = {
    "rel-att": lambda looking: RelativeAttention(looking.layers, always=looking.compat),
    "clip": lambda looking: ClipZoom(looking.tools.similarity()),
    "yolo": lambda looking: ProposedBox("yolo", looking.tools.detector(), looking.tools.similarity()),
    "sam": lambda looking: ProposedBox("sam", looking.tools.segmenter(), looking.tools.similarity()),
}
NONE = "none"
METHODS = (NONE, *LOCALIZERS)
LATER_METHODS = ("grad-att", "pure-grad")


def localizer_for(method: str, looking: Looking) -> Localizer | None:
    """The localizer of a method that exists; None for "none"."""
    return None if method == NONE else LOCALIZERS[method](looking)


def check_method(method: str) -> None:
    """Raises UnknownMethodError unless `method` exists in this version."""
    if method in LATER_METHODS:
        raise UnknownMethodError(f"method {method!r} is not built yet; this version has {', '.join(METHODS)}")
    if method not in METHODS:
        raise UnknownMethodError(one_of("method", str(method), METHODS))
