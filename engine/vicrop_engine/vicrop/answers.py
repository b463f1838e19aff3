"""The answers: on the picture alone, and on picture and crop, continued from the same image prefix."""

from __future__ import annotations

from dataclasses import replace

from vicrop_engine.images.seen import Seen
from vicrop_engine.model.answers.greedy import Generation, OnTokens
from vicrop_engine.model.states import ImageEmbeds
from vicrop_engine.model.token_pruning import most_distinct
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request import Request, may_be_one
from vicrop_engine.vicrop.request_state import RequestState


def decode(state: RequestState, request: Request, on_tokens: OnTokens = None) -> Generation:
    """The answer on the picture alone; `on_tokens` is told its ids whenever there is one more."""
    state.watch.enter("decode")
    return state.model.decoder.decode(
        state.demand_pass().output, request.max_new_tokens, on_tokens, request.rules
    )


def decode_with(
    state: RequestState, request: Request, found: Localization, on_tokens: OnTokens = None
) -> tuple[Generation | None, Generation]:
    """The answer on the picture alone, None where it is not asked for, and that with the crop `found`.

    `on_tokens` is told the first one's ids whenever there is one more.
    """
    if not request.first_answer:
        return None, _final_alone(state, request, found)
    state.watch.enter("decode")
    answers = state.model.decoder.begin_both(
        state.demand_pass().output,
        state.prefix,
        state.prompts.question.suffix,
        request.max_new_tokens,
        on_tokens,
        request.rules,
    )
    embeds = encode_crop(state, request, found)
    with state.model.alone_on(state.prefix):
        answers.begin_final(state.with_crop.suffix, [embeds])
    state.watch.enter("decode")
    return answers.finish()


def encode_crop(state: RequestState, request: Request, found: Localization) -> ImageEmbeds:
    """Image embeds of the crop, and its prompt in the state; what comes next is its prefill."""
    state.watch.enter("crop_vision")
    crop = see_crop(state, request, found)
    [embeds] = state.model.image_embeds([crop.asked(state.prompts.question.instruction)])
    state.watch.enter("crop_prefill")
    state.prompt_tokens += len(state.with_crop)
    number = state.with_crop.suffix.count(state.model.manifest.tokens.image)
    return embeds if number >= crop.layout.tokens else most_distinct(embeds, number)


def see_crop(state: RequestState, request: Request, found: Localization) -> Seen:
    """The crop as the tower takes it, and its prompt in the state: one input where more do not fit."""
    model, image, way = state.model, state.picture.crop(found.box, found.parts).image, request.crop_way
    crop = model.family.see(image, way)
    state.crop_prompt = request.crop_prompt(model, state.seen.layout, crop.layout)
    if request.fits(model, state.with_crop) or not may_be_one(model, way):
        return crop
    one = model.family.see(image, replace(way, one=True))
    state.notices += (
        f"the crop is seen as one input, in {one.layout.tokens} tokens: {crop.layout.tokens} beside the "
        f"picture's {state.seen.layout.tokens} do not fit the model's context of "
        f"{model.manifest.decoder.context_length}",
    )
    state.crop_prompt = request.crop_prompt(model, state.seen.layout, one.layout)
    return one


def _final_alone(state: RequestState, request: Request, found: Localization) -> Generation:
    embeds, decoder = encode_crop(state, request, found), state.model.decoder
    with state.model.alone_on(state.prefix):
        output = decoder.prefill(state.prefix, [state.with_crop.suffix], [embeds])
    state.watch.enter("decode")
    return decoder.decode(output, request.max_new_tokens, rules=request.rules)
