"""One ask, checked before any work starts: settings, layers, prompts and whether they fit the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vicrop_engine.engine_dir.layer_choice import parse_layers
from vicrop_engine.errors import BoxError, QuestionError, SettingError
from vicrop_engine.images.geometry import Box
from vicrop_engine.images.tiling import TilePlan, plan_tiles, published_tiles, worth_tiles
from vicrop_engine.model.kv_cache import roomy
from vicrop_engine.model.model import Model
from vicrop_engine.model.prompts import AskPrompts, Prompt
from vicrop_engine.model.token_pruning import with_fewer
from vicrop_engine.vicrop.localizers.given_box import GivenBox
from vicrop_engine.vicrop.localizers.heatmap_search import HeatmapLocalizer
from vicrop_engine.vicrop.localizers.localizer import ChecksEngine, Localizer
from vicrop_engine.vicrop.localizers.methods import NONE, Looking, localizer_for
from vicrop_engine.vicrop.params import ALL, AUTO, CALIBRATED, NEVER, AskParams

LEAST_ANSWER = 20  # tokens that an answer is usually given: where as many fit, the question is no trouble


@dataclass(frozen=True)
class Request:
    """What an ask will do. Without a localizer there is no crop and the first answer is the final one.

    `capacity` is how many tokens its KV buffers have to hold. With a `threshold` the crop is made only where
    it is worth as much; `method` is the localizer's name.
    """

    prompts: AskPrompts
    localizer: Localizer | None
    first_answer: bool
    compat: bool
    box: Box | None
    capacity: int
    high_res: str
    max_new_tokens: int
    method: str = NONE
    threshold: float | None = None

    @property
    def reads_answer(self) -> bool:
        """Whether the pass over the picture is for an answer: to give it, or to know how sure it is."""
        return self.first_answer or self.threshold is not None

    @property
    def gradients(self) -> bool:
        """Whether the localizer's rows come with gradients."""
        return isinstance(self.localizer, HeatmapLocalizer) and self.localizer.targets_of_tile.gradients

    def check_picture(self, size: tuple[int, int]) -> None:
        """Raises BoxError unless a given box holds a pixel and lies inside the picture (width, height)."""
        x0, y0, x1, y1 = self.box or (0, 0, *size)
        if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
            raise BoxError(
                f"box {x0},{y0},{x1},{y1} is not inside the picture of {size[0]} x {size[1]} pixels; "
                "give x0,y0,x1,y1 with x0 < x1 and y0 < y1"
            )

    def tiles(self, size: tuple[int, int]) -> TilePlan | None:
        """The tiles to look at a picture of `size` in; None to look at it whole.

        With compat "auto" is off: the published code takes tiles when told to. Raises ImageError when "on"
        makes too many.
        """
        if self.high_res == "off" or not isinstance(self.localizer, HeatmapLocalizer):
            return None
        if self.high_res == "auto" and (self.compat or not worth_tiles(size)):
            return None
        return published_tiles(size) if self.compat else plan_tiles(size)


def plan_request(
    model: Model, question: str, params: AskParams, *, side_by_side: bool | None = None
) -> Request:
    """What this model does about a question; by default both answers lie `side_by_side` if the model can.

    Raises the error of whatever cannot be used.
    """
    if side_by_side is None:
        side_by_side = model.decoder.answers_side_by_side
    localizer = _localizer(model, params)
    if params.high_res == "on" and not isinstance(localizer, HeatmapLocalizer):
        what = "a box" if params.box is not None else f"method {params.method!r}"
        what = "when 'never'" if params.when == NEVER else what
        raise SettingError(f"got high_res 'on' and {what}, which makes no heatmap; leave one of them out")
    prompts, crops = _prompts(model, question, params), localizer is not None
    looked_with = [prompts.looked_with, prompts.general, prompts.two_images] if crops else []
    context = model.manifest.decoder.context_length
    _check_context([prompts.question, *looked_with], params.max_new_tokens, context)
    method = params.method if crops and isinstance(params.method, str) else NONE
    return Request(
        prompts=prompts,
        localizer=localizer,
        first_answer=params.first_answer or not crops,
        compat=params.compat is not None,
        box=params.window,
        capacity=_capacity(prompts, params.max_new_tokens, crops=crops, side_by_side=side_by_side),
        high_res=params.high_res,
        max_new_tokens=params.max_new_tokens,
        method=method,
        threshold=_threshold(model, method) if params.when == AUTO and crops else None,
    )


def _prompts(model: Model, question: str, params: AskParams) -> AskPrompts:
    """All prompts of an ask. Raises QuestionError for a question that cannot be asked, and SettingError."""
    model.prompts.check(question)
    if params.localize is not None:
        model.prompts.check(params.localize, "localize question")
    return AskPrompts(
        model.prompts.one_image(question),
        None if params.localize is None else model.prompts.one_image(params.localize),
        model.prompts.general(),
        _with_crop(model, question, params.crop_tokens),
        question if params.localize is None else params.localize,
    )


def _localizer(model: Model, params: AskParams) -> Localizer | None:
    if params.when == NEVER:
        return None
    manifest = model.manifest
    layers = manifest.crop.layers
    if params.layers is not None:
        layers = parse_layers(params.layers, manifest.decoder.num_layers)
    if params.window is not None:
        return GivenBox(params.window)
    looking = Looking(layers, params.compat is not None, model.tools, manifest.decoder.num_layers)
    localizer = localizer_for(params.method, looking)
    if isinstance(localizer, ChecksEngine):
        localizer.check(manifest)
    return localizer


def _with_crop(model: Model, question: str, crop_tokens: str | int) -> Prompt:
    """The prompt on picture and crop, the crop with so many tokens. Raises SettingError."""
    prompt, manifest = model.prompts.two_images(question), model.manifest
    if crop_tokens == ALL or int(crop_tokens) >= manifest.vision.image_tokens:
        return prompt
    if manifest.target != "cpu":
        raise SettingError(
            f"got crop_tokens {crop_tokens}, which engines for {manifest.target} do not have yet; take 'all'"
        )
    return Prompt(prompt.prefix, with_fewer(prompt.suffix, manifest.tokens.image, int(crop_tokens)))


def _threshold(model: Model, method: str) -> float:
    """What a crop has to be worth with this method. Raises SettingError when that was never measured."""
    known = {each.method: each.threshold for each in model.manifest.calibrations}
    if method not in known:
        option = "" if method == CALIBRATED else f" --method {method}"
        raise SettingError(
            f"when 'auto' needs a number that was never measured on this engine with method {method!r}; run "
            f"'vicrop-engine calibrate ENGINE{option}' once, or take 'always'"
        )
    return known[method]


def _check_context(prompts: Sequence[Prompt], max_new_tokens: int, context: int) -> None:
    longest = max(len(prompt) for prompt in prompts)
    fits = context - longest
    if max_new_tokens <= fits:
        return
    if fits >= LEAST_ANSWER:
        raise SettingError(
            f"got max_new_tokens {max_new_tokens}, and after a prompt of {longest} tokens at most {fits} fit "
            f"the model's context of {context}; give {fits} or less"
        )
    raise QuestionError(
        f"the question makes a prompt of {longest} tokens, which with {max_new_tokens} for the answer is "
        f"more than the model's context of {context}; ask a shorter one"
    )


def _capacity(prompts: AskPrompts, max_new_tokens: int, *, crops: bool, side_by_side: bool) -> int:
    """Rows for the prompts that share a pass, and for the answers, which may lie side by side."""
    answers = len(prompts.question) + max_new_tokens
    if crops and side_by_side:
        answers += len(prompts.two_images.suffix) + max_new_tokens
    elif crops:
        answers = max(answers, len(prompts.two_images) + max_new_tokens)
    return roomy(max(prompts.shared_tokens(looks=crops), answers))
