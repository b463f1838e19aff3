"""Asking the model once which thing a question is about, where its words do not say."""

from __future__ import annotations

from dataclasses import replace

from vicrop_engine.errors import QuestionError
from vicrop_engine.vicrop.localizers.localizer import Localizer
from vicrop_engine.vicrop.request import Request
from vicrop_engine.vicrop.request_state import RequestState
from vicrop_engine.vicrop.targets import TARGET_TOKENS, Target, from_reply


def name_target(state: RequestState, request: Request) -> None:
    """Put the thing to look for, and the prompt to look for it with, into the state.

    Nothing where the localizer looks for none, or it is known already. The model's answer is decoded after
    the picture's prefix, which stays as it is; a reply that cannot be used leaves the question itself as the
    target. Raises RunError.
    """
    model, asking = state.model, state.prompts.target_question
    if asking is None or request.localizer is None or not _looks(state, request.localizer):
        return
    state.watch.enter("prefill")
    state.prompt_tokens += len(asking)
    with model.alone_on(state.prefix):
        generation = model.generate(state.prefix, asking.suffix, TARGET_TOKENS)
    target = from_reply(model.prompts.decode(generation.ids), state.text)
    sought = model.prompts.up_to(target.prompt, state.seen.layout)
    if target.source != "question" and not _usable(state, target, len(sought.suffix)):
        target = from_reply("", state.text)
        sought = model.prompts.up_to(target.prompt, state.seen.layout)
    state.target = target
    state.prompts = replace(state.prompts, localize=sought, target_question=None)


def _looks(state: RequestState, localizer: Localizer) -> bool:
    """Whether anything is looked for in this picture; one that is its own crop needs no target."""
    return bool(localizer.layers_read(state.picture.size, state.model.manifest.crop.window))


def _usable(state: RequestState, target: Target, tokens: int) -> bool:
    """Whether a reply can stand in a prompt, and takes no more tokens than there is room for."""
    longest = len(state.prompts.looked_with.suffix) + TARGET_TOKENS
    try:
        state.model.prompts.check(target.text, "target")
    except QuestionError:
        return False
    return tokens <= longest
