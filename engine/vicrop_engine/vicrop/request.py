"""One ask, checked before any work starts: settings, layers, prompts and whether they fit the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vicrop_engine.answer_form import PLAIN, AnswerForm
from vicrop_engine.errors import BoxError, QuestionError, SettingError
from vicrop_engine.families.table import family_type
from vicrop_engine.images.geometry import Box
from vicrop_engine.images.seen import Layout, Way
from vicrop_engine.images.tiling import TilePlan, plan_tiles, published_tiles, worth_tiles
from vicrop_engine.model.answers.greedy import FREE, TokenRules
from vicrop_engine.model.kv_cache import roomy
from vicrop_engine.model.model import Model
from vicrop_engine.model.prompts import AskPrompts, Prompt
from vicrop_engine.model.token_pruning import with_fewer
from vicrop_engine.vicrop.localizer_choice import looks_for_target
from vicrop_engine.vicrop.localizers.heatmap_search import HeatmapLocalizer
from vicrop_engine.vicrop.localizers.localizer import Localizer
from vicrop_engine.vicrop.localizers.methods import NONE
from vicrop_engine.vicrop.params import ALL
from vicrop_engine.vicrop.targets import ASKED, TARGET_TOKENS, Target, from_reply

LEAST_ANSWER = 20  # tokens that an answer is usually given: where as many fit, the question is no trouble


@dataclass(frozen=True)
class Request:
    """What an ask will do. Without a localizer there is no crop and the first answer is the final one.

    Prompts and the room they take are known once the picture's layout is, see `prompted`. `picture_way` and
    `crop_way` are how the family is to see the two; `auto_side` is the longer side above which high-res
    "auto" takes tiles. With a `threshold` the crop is made only where it is worth as much; `method` is the
    localizer's name, `side_by_side` whether both answers lie in one prefix's buffers. `target` is the thing
    to look for; None where the localizer looks for none, or the model is to be asked which. `asked` is the
    question without the `history` before it; `rules` take the tokens of answers of this `form`, and `notices`
    say what was left out of the request.
    """

    asked: str
    localize: str | None
    localizer: Localizer | None
    first_answer: bool
    compat: bool
    box: Box | None
    high_res: str
    max_new_tokens: int
    crop_tokens: str | int
    picture_way: Way
    crop_way: Way
    auto_side: int
    side_by_side: bool
    method: str = NONE
    threshold: float | None = None
    target: Target | None = None
    history: tuple[str, ...] = ()
    form: AnswerForm = PLAIN
    rules: TokenRules = FREE
    notices: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """What stands in the prompts: the earlier turns and what is asked."""
        return "\n".join((*self.history, self.asked))

    @property
    def reads_answer(self) -> bool:
        """Whether the pass over the picture is for an answer: to give it, or to know how sure it is."""
        return self.first_answer or self.threshold is not None

    @property
    def gradients(self) -> bool:
        """Whether the localizer's rows come with gradients."""
        return isinstance(self.localizer, HeatmapLocalizer) and self.localizer.targets_of_tile.gradients

    @property
    def of_target(self) -> bool:
        """Whether the localizer looks for a thing."""
        return looks_for_target(self.localizer)

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
        if self.high_res == "auto" and (self.compat or not worth_tiles(size, self.auto_side)):
            return None
        return published_tiles(size) if self.compat else plan_tiles(size)

    def prompted(self, model: Model, picture: Layout) -> tuple[AskPrompts, int]:
        """The prompts on a picture of this layout, and how many tokens the KV buffers have to hold.

        Raises QuestionError and SettingError where they do not fit the model's context.
        """
        prompts = self._prompts(model, picture)
        if self.localizer is None:
            _check_context([prompts.question], self.max_new_tokens, model)
            return prompts, self._rows(prompts, None)
        smallest, longest = self._crop_prompts(model, picture)
        together = [prompts.question, prompts.looked_with, prompts.general, smallest]
        if prompts.target_question is not None:
            _check_context([prompts.target_question], TARGET_TOKENS, model)
        _check_context(together, self.max_new_tokens, model)
        if may_be_one(model, self.crop_way):  # and is, where more does not fit
            fitting = model.manifest.decoder.context_length - self.max_new_tokens
            longest = max(len(smallest), min(longest, fitting))
        return prompts, self._rows(prompts, longest)

    def prompt_tokens(self, model: Model, picture: Layout | None) -> tuple[int, int]:
        """Tokens of the longest prompt with the smallest crop and with the largest; None for text alone."""
        if picture is None:
            return (len(model.prompts.text_alone(self.question)),) * 2
        prompts = self._prompts(model, picture)
        if self.localizer is None:
            return (len(prompts.question),) * 2
        smallest, longest = self._crop_prompts(model, picture)
        least = max(len(each) for each in (prompts.question, prompts.looked_with, prompts.general, smallest))
        return least, max(least, longest)

    def check_text(self, model: Model) -> None:
        """Raises QuestionError and SettingError where text alone does not fit the model's context."""
        _check_context([model.prompts.text_alone(self.question)], self.max_new_tokens, model)

    def _crop_prompts(self, model: Model, picture: Layout) -> tuple[Prompt, int]:
        """The prompt with the smallest crop, and the tokens of that with the largest."""
        least, most = model.family.layouts(self.crop_way)
        if may_be_one(model, self.crop_way):
            least, _ = model.family.layouts(replace(self.crop_way, one=True))
        smallest = self.crop_prompt(model, picture, least)
        return smallest, len(smallest if most is least else self.crop_prompt(model, picture, most))

    def crop_prompt(self, model: Model, picture: Layout, crop: Layout) -> Prompt:
        """The prompt on picture and crop, the crop with as many tokens as wanted."""
        prompt = model.prompts.two_images(self.question, picture, crop)
        if self.crop_tokens == ALL or int(self.crop_tokens) >= crop.tokens:
            return prompt
        suffix = with_fewer(prompt.suffix, model.manifest.tokens.image, int(self.crop_tokens))
        return replace(prompt, suffix=suffix)

    def fits(self, model: Model, prompt: Prompt) -> bool:
        """Whether the model's context holds the prompt and the longest answer."""
        return len(prompt) + self.max_new_tokens <= model.manifest.decoder.context_length

    def _prompts(self, model: Model, picture: Layout) -> AskPrompts:
        builder = model.prompts
        text = self.question if self.localize is None else self.localize
        question, general = builder.one_image(self.question, picture), builder.general(picture)
        if self.of_target:
            sought = builder.up_to((self.target or from_reply("", text)).prompt, picture)
            asking = builder.one_image(ASKED.format(question=text), picture) if self.target is None else None
            return AskPrompts(question, sought, general, text, asking)
        looked_with = None if self.localize is None else builder.one_image(self.localize, picture)
        return AskPrompts(question, looked_with, general, text)

    def _rows(self, prompts: AskPrompts, with_crop: int | None) -> int:
        """Those for the prompts that share a pass, and for the answers, which may lie side by side.

        `with_crop` are the tokens of the longest prompt on picture and crop.
        """
        answers = len(prompts.question) + self.max_new_tokens
        if with_crop is not None and self.side_by_side:
            answers += with_crop - len(prompts.question.prefix) + self.max_new_tokens
        elif with_crop is not None:
            answers = max(answers, with_crop + self.max_new_tokens)
        shared, asking = prompts.shared_tokens(looks=with_crop is not None), prompts.target_question
        if asking is not None:
            shared += TARGET_TOKENS
            answers = max(answers, len(asking) + TARGET_TOKENS)
        return roomy(max(shared, answers))


def may_be_one(model: Model, way: Way) -> bool:
    """Whether a picture seen `way` could be a single input instead of several."""
    return family_type(model.manifest).in_several_inputs and not way.one


def _check_context(prompts: Sequence[Prompt], max_new_tokens: int, model: Model) -> None:
    context = model.manifest.decoder.context_length
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
