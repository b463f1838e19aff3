"""From an ask's settings to the localizer on one engine; settings that it has no use for are refused."""

from __future__ import annotations

from vicrop_engine.engine_dir.layer_choice import parse_layers
from vicrop_engine.errors import SettingError
from vicrop_engine.model.model import Model
from vicrop_engine.vicrop.localizers.given_box import GivenBox
from vicrop_engine.vicrop.localizers.heatmap_search import HeatmapLocalizer
from vicrop_engine.vicrop.localizers.localizer import ChecksEngine, Divides, Localizer
from vicrop_engine.vicrop.localizers.methods import Looking, localizer_for
from vicrop_engine.vicrop.params import CALIBRATED, NEVER, AskParams


def choose_localizer(model: Model, params: AskParams) -> Localizer | None:
    """What looks for the crop; None where none is made.

    Raises LayerError, SettingError and ToolMissingError for what this engine or this localizer has not.
    """
    localizer = None if params.when == NEVER else _localizer(model, params)
    _check_used(localizer, params)
    return localizer


def _localizer(model: Model, params: AskParams) -> Localizer | None:
    manifest = model.manifest
    layers, num_layers = manifest.crop.layers, manifest.decoder.num_layers
    if params.layers is not None:
        layers = parse_layers(params.layers, num_layers)
    if params.window is not None:
        return GivenBox(params.window)
    looking = Looking(
        layers,
        own_layers=params.layers is None,
        compat=params.compat is not None,
        tools=model.tools,
        num_layers=num_layers,
        divisor_floor=params.divisor_floor,
    )
    localizer = localizer_for(params.method, looking)
    if isinstance(localizer, ChecksEngine):
        localizer.check(manifest)
    return localizer


def _check_used(localizer: Localizer | None, params: AskParams) -> None:
    """Raises SettingError for a setting that says how to look and means nothing to this localizer."""
    if params.high_res == "on" and not isinstance(localizer, HeatmapLocalizer):
        raise SettingError(
            f"got high_res 'on' and {_what(params)}, which makes no heatmap; leave one of them out"
        )
    if params.divisor_floor is not None and not isinstance(localizer, Divides):
        raise SettingError(
            f"got divisor_floor {params.divisor_floor} and {_what(params)}, which does not divide by the "
            "general prompt's attention; leave it out, or take method 'rel-att'"
        )
    if params.target is not None and not looks_for_target(localizer):
        raise SettingError(
            f"got target {params.target!r} and {_what(params)}, which does not look for a thing; leave it "
            "out, or take method 'target'"
        )


def looks_for_target(localizer: Localizer | None) -> bool:
    """Whether it reads the rows of the thing asked for."""
    return isinstance(localizer, HeatmapLocalizer) and localizer.targets_of_tile.of_target


def _what(params: AskParams) -> str:
    if params.when == NEVER:
        return "when 'never'"
    return "a box" if params.box is not None else f"method {params.method!r}"


def threshold(model: Model, method: str) -> float:
    """What a crop has to be worth with this method. Raises SettingError when that was never measured."""
    known = {each.method: each.threshold for each in model.manifest.calibrations}
    if method not in known:
        option = "" if method == CALIBRATED else f" --method {method}"
        raise SettingError(
            f"when 'auto' needs a number that was never measured on this engine with method {method!r}; run "
            f"'vicrop-engine calibrate ENGINE{option}' once, or take 'always'"
        )
    return known[method]
