"""An ask's settings to what this model does about them; whatever cannot be is refused before any work."""

from __future__ import annotations

from vicrop_engine.errors import SettingError
from vicrop_engine.families.table import family_type
from vicrop_engine.images.seen import Way
from vicrop_engine.model.model import Model
from vicrop_engine.vicrop.fitting import fitted
from vicrop_engine.vicrop.localizer_choice import choose_localizer, looks_for_target, threshold
from vicrop_engine.vicrop.localizers.methods import NONE
from vicrop_engine.vicrop.params import ALL, AUTO, ONE, PIXEL_BOUNDS, AskParams
from vicrop_engine.vicrop.request import Request
from vicrop_engine.vicrop.targets import find_target


def plan_request(
    model: Model, question: str, params: AskParams, *, side_by_side: bool | None = None
) -> Request:
    """What this model does about a question; by default both answers lie `side_by_side` if the model can.

    Raises the error of whatever cannot be used.
    """
    if side_by_side is None:
        side_by_side = model.decoder.answers_side_by_side
    localizer = choose_localizer(model, params)
    picture_way, crop_way = _ways(model, params)
    _check_texts(model, question, params, crop_way)
    crops, look = localizer is not None, params.localize or question
    method = params.method if crops and isinstance(params.method, str) else NONE
    request = Request(
        asked=question,
        localize=question if params.history and params.localize is None else params.localize,
        localizer=localizer,
        first_answer=params.first_answer or not crops,
        compat=params.compat is not None,
        box=params.window,
        high_res=params.high_res,
        max_new_tokens=params.max_new_tokens,
        crop_tokens=params.crop_tokens,
        picture_way=picture_way,
        crop_way=crop_way,
        auto_side=model.family.auto_side,
        side_by_side=side_by_side,
        method=method,
        target=find_target(params.target, look) if looks_for_target(localizer) else None,
        threshold=threshold(model, method) if params.when == AUTO and crops else None,
        history=tuple(params.history),
        form=params.answer_form,
        rules=model.prompts.rules(params.answer_form),
    )
    least = model.family.layouts(picture_way)[0]
    fitted(model, request, least).prompted(model, least)  # refuses what no picture would make fit
    return request


def _ways(model: Model, params: AskParams) -> tuple[Way, Way]:
    """How picture and crop are to be seen. Raises SettingError where a family has no choice."""
    family = family_type(model.manifest)
    several, name = family.in_several_inputs, model.manifest.model.name
    if params.compat is not None and not family.is_published:
        raise SettingError(
            f"got compat {params.compat!r}, and the published code has nothing for {name}; leave it out"
        )
    for setting, got in (("picture_tiles", params.picture_tiles), ("crop_tiles", params.crop_tiles)):
        if got is not None and not several:
            raise SettingError(f"got {setting} {got!r}, and {name} sees every picture as one; leave it out")
    for setting in PIXEL_BOUNDS:
        pixels: int | None = getattr(params, setting)
        if pixels is not None and not family.in_own_size:
            raise SettingError(
                f"got {setting} {pixels}, and {name} sees every picture in one size; leave it out"
            )
        if pixels is not None and pixels > model.family.largest_input:
            raise SettingError(
                f"got {setting} {pixels}, and this engine was built for {model.family.largest_input} at "
                "most; give as many or less, or build it with --max-pixels"
            )
    published, most = params.compat is not None, params.max_pixels
    crops_in_one = family.crops_in_one_input or params.crop_tiles == ONE
    return (
        Way(published, one=several and params.picture_tiles == ONE, most_pixels=most),
        Way(
            published,
            one=several and params.crop_tiles != ALL and crops_in_one,
            least_pixels=params.crop_min_pixels or 0,
            most_pixels=most,
        ),
    )


def _check_texts(model: Model, question: str, params: AskParams, crop_way: Way) -> None:
    """Raises QuestionError for a question that cannot be asked, and SettingError for crop tokens."""
    model.prompts.check(question)
    for turn in params.history:
        model.prompts.check(turn, "earlier turn")
    if params.localize is not None:
        model.prompts.check(params.localize, "localize question")
    if params.target is not None:
        model.prompts.check(params.target, "target")
    _, crop = model.family.layouts(crop_way)
    if params.crop_tokens == ALL or int(params.crop_tokens) >= crop.tokens:
        return
    if model.manifest.target != "cpu":
        raise SettingError(
            f"got crop_tokens {params.crop_tokens}, which engines for {model.manifest.target} do not have "
            "yet; take 'all'"
        )
    if len(crop.runs) > 1:
        raise SettingError(
            f"got crop_tokens {params.crop_tokens} and crop_tiles 'all'; fewer tokens are those of a crop "
            "in one tile: leave one of them out"
        )
