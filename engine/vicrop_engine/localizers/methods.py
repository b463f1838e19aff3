"""The methods by name: which there are, and the localizer of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vicrop_engine.errors import SettingError, UnknownMethodError, one_of
from vicrop_engine.localizers.localizer import Localizer
from vicrop_engine.localizers.pure_gradient import PureGradient
from vicrop_engine.localizers.relative_attention import RelativeAttention
from vicrop_engine.manifest import PIXEL_GRADIENTS, Manifest


@dataclass(frozen=True)
class Looking:
    """What an ask says about how to look: heatmap layers, and whether in the published code's way."""

    layers: tuple[int, ...]
    compat: bool


LOCALIZERS: dict[str, Callable[[Looking], Localizer]] = {
    "rel-att": lambda looking: RelativeAttention(looking.layers, always=looking.compat),
    "pure-grad": lambda looking: PureGradient(looking.compat),
}
GRAPHS = {"pure-grad": PIXEL_GRADIENTS}  # those that an engine may be without
NONE = "none"
METHODS = (NONE, *LOCALIZERS)
LATER_METHODS = ("grad-att", "clip", "yolo", "sam")


def localizer_for(method: str, looking: Looking) -> Localizer | None:
    """The localizer of a method that exists; None for "none"."""
    return None if method == NONE else LOCALIZERS[method](looking)


def check_graphs(method: str, manifest: Manifest) -> None:
    """Raises SettingError unless the engine has what the method runs."""
    graph = GRAPHS.get(method)
    if graph is not None and f"{graph}.onnx" not in manifest.files:
        raise SettingError(
            f"method {method!r} needs the graph {graph}.onnx, which this engine was built without; add it "
            f"with 'vicrop-engine build {manifest.model.name} --{method} --force'"
        )


def check_method(method: str) -> None:
    """Raises UnknownMethodError unless `method` exists in this version."""
    if method in LATER_METHODS:
        raise UnknownMethodError(f"method {method!r} is not built yet; this version has {', '.join(METHODS)}")
    if method not in METHODS:
        raise UnknownMethodError(one_of("method", str(method), METHODS))
