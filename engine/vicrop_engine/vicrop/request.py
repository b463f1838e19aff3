"""One ask, checked before any work starts: settings, layers, prompts and whether they fit the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vicrop_engine.engine_dir.layer_choice import parse_layers
from vicrop_engine.engine_dir.manifest import TENSORRT
from vicrop_engine.errors import BoxError, QuestionError, SettingError
from vicrop_engine.images.geometry import Box
from vicrop_engine.images.tiling import TilePlan, plan_tiles, published_tiles, worth_tiles
from vicrop_engine.model.kv_cache import roomy
from vicrop_engine.model.model import Model
from vicrop_engine.model.prompts import AskPrompts, Prompt
from vicrop_engine.model.token_pruning import with_fewer
from vicrop_engine.vicrop.localizers.given_box import GivenBox
from vicrop_engine.vicrop.localizers.gradient_attention import GradientAttention
from vicrop_engine.vicrop.localizers.heatmap_search import HeatmapLocalizer
from vicrop_engine.vicrop.localizers.localizer import Localizer
from vicrop_engine.vicrop.localizers.methods import NONE, Looking, localizer_for
from vicrop_engine.vicrop.localizers.pure_gradient import PureGradient
from vicrop_engine.vicrop.params import ALL, AUTO, CALIBRATED, NEVER, Settings, _box, _check_settings


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
        return isinstance(self.localizer, HeatmapLocalizer) and self.localizer.wanted_of_tile.gradients

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
    model: Model, question: str, settings: Settings, *, side_by_side: bool | None = None
) -> Request:
    """Check a question and its settings; by default both answers lie `side_by_side` if the model can.

    Raises the error of whatever cannot be used.
    """
    if side_by_side is None:
        side_by_side = model.decoder.answers_side_by_side
    _check_settings(settings)
    box = None if settings.box is None else _box(settings.box)
    localizer = _localizer(model, settings, box)
    if settings.high_res == "on" and not isinstance(localizer, HeatmapLocalizer):
        what = "a box" if box is not None else f"method {settings.method!r}"
        what = "when 'never'" if settings.when == NEVER else what
        raise SettingError(f"got high_res 'on' and {what}, which makes no heatmap; leave one of them out")
    model.prompts.check(question)
    if settings.localize is not None:
        model.prompts.check(settings.localize, "localize question")
    prompts = AskPrompts(
        model.prompts.one_image(question),
        None if settings.localize is None else model.prompts.one_image(settings.localize),
        model.prompts.general(),
        _with_crop(model, question, settings.crop_tokens),
        question if settings.localize is None else settings.localize,
    )
    used = [prompts.question]
    if localizer is not None:
        used += [
            prompts.localize or prompts.question,
            prompts.general,
            prompts.two_images,
        ]
    _check_context(used, settings.max_new_tokens, model.manifest.decoder.context_length)
    first_answer = settings.first_answer or localizer is None
    capacity = _capacity(
        prompts,
        settings.max_new_tokens,
        crops=localizer is not None,
        side_by_side=side_by_side,
    )
    compat = settings.compat is not None
    method = NONE if localizer is None or not isinstance(settings.method, str) else settings.method
    threshold = _threshold(model, method) if settings.when == AUTO and localizer is not None else None
    return Request(
        prompts,
        localizer,
        first_answer,
        compat,
        box,
        capacity,
        settings.high_res,
        settings.max_new_tokens,
        method,
        threshold,
    )


def _localizer(model: Model, settings: Settings, box: Box | None) -> Localizer | None:
    if settings.when == NEVER:
        return None
    manifest = model.manifest
    layers = manifest.crop.layers
    if settings.layers is not None:
        layers = parse_layers(settings.layers, manifest.decoder.num_layers)
    if box is not None:
        return GivenBox(box)
    looking = Looking(layers, settings.compat is not None, model.tools, manifest.decoder.num_layers)
    localizer = localizer_for(settings.method, looking)
    if isinstance(localizer, GradientAttention | PureGradient):
        if manifest.target == TENSORRT:
            raise SettingError(
                f"method {localizer.method!r} needs gradients, which engines for target {TENSORRT!r} do not "
                f"have; take rel-att, or 'vicrop-engine build {manifest.model.name} --target cpu'"
            )
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
    if longest + max_new_tokens > context:
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
