"""The methods by name: which there are, and the localizer of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vicrop_engine.errors import UnknownMethodError, one_of
from vicrop_engine.external.toolbox import Toolbox
from vicrop_engine.vicrop.localizers.carved_regions import CarvedRegions, carve_layers
from vicrop_engine.vicrop.localizers.clip_zoom import ClipZoom
from vicrop_engine.vicrop.localizers.custom import OwnLocalizer
from vicrop_engine.vicrop.localizers.gradient_attention import GradientAttention
from vicrop_engine.vicrop.localizers.localizer import Localizer
from vicrop_engine.vicrop.localizers.proposed_box import ProposedBox
from vicrop_engine.vicrop.localizers.pure_gradient import PureGradient
from vicrop_engine.vicrop.localizers.relative_attention import RelativeAttention
from vicrop_engine.vicrop.localizers.target_attention import TargetAttention


@dataclass(frozen=True)
class Looking:
    """What an ask says about how to look: heatmap layers, whether in the published code's way.

    With `own_layers` these are the engine's, and nobody asked for them. Besides, the localizer models there
    are, the number of layers of the decoder, and the divisor's floor if any.
    """

    layers: tuple[int, ...]
    own_layers: bool
    compat: bool
    tools: Toolbox
    num_layers: int
    divisor_floor: float | None = None


LOCALIZERS: dict[str, Callable[[Looking], Localizer]] = {
    "rel-att": lambda looking: RelativeAttention(looking.layers, looking.compat, looking.divisor_floor),
    "grad-att": lambda looking: GradientAttention(looking.layers, always=looking.compat),
    "pure-grad": lambda looking: PureGradient(looking.compat),
    "target": lambda looking: TargetAttention(looking.layers, looking.compat),
    "carve": lambda looking: CarvedRegions(
        carve_layers(looking.num_layers) if looking.own_layers else looking.layers, looking.compat
    ),
    "clip": lambda looking: ClipZoom(looking.tools.similarity()),
    "yolo": lambda looking: ProposedBox("yolo", looking.tools.detector(), looking.tools.similarity()),
    "sam": lambda looking: ProposedBox("sam", looking.tools.segmenter(), looking.tools.similarity()),
}
NONE = "none"
METHODS = (NONE, *LOCALIZERS)


def localizer_for(method: str | Localizer, looking: Looking) -> Localizer | None:
    """The localizer of a method that exists, or the caller's own; None for "none"."""
    if not isinstance(method, str):
        return OwnLocalizer(method, looking.num_layers)
    return None if method == NONE else LOCALIZERS[method](looking)


def check_method(method: object) -> None:
    """Raises UnknownMethodError unless `method` exists in this version or is a localizer."""
    if not isinstance(method, str):
        if all(callable(getattr(method, name, None)) for name in ("layers_read", "locate")):
            return
        raise UnknownMethodError(
            f"got {type(method).__name__} as method, wanted one of {', '.join(METHODS)}, or an object with "
            "layers_read and locate"
        )
    if method not in METHODS:
        raise UnknownMethodError(one_of("method", method, METHODS))
