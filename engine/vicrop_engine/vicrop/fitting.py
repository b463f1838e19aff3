"""What of a request is left out where the model's context does not hold all of it, if it may be."""

from __future__ import annotations

from dataclasses import replace

from vicrop_engine.images.seen import Layout
from vicrop_engine.model.model import Model
from vicrop_engine.vicrop.request import LEAST_ANSWER, Request

ANSWER_SHARE = 4  # earlier turns leave one part in so many of the context for the answer, if it wants that
LONGEST_TOKEN = 128  # characters: a text of more than so many for each token of the context never fits


def fitted(model: Model, request: Request, picture: Layout | None) -> Request:
    """The request with what does not fit left out: the oldest turns first, then the end of the answer.

    `picture` is how the picture's tokens lie, None for text alone. The same request where its form does not
    let it be fitted; what cannot be made to fit is refused when its prompts are made.
    """
    if not request.form.fits:
        return request
    context = model.manifest.decoder.context_length
    answer = min(request.max_new_tokens, max(LEAST_ANSWER, context // ANSWER_SHARE))
    request = _without_oldest(model, request, picture, context - answer)
    least, most = request.prompt_tokens(model, picture)
    room = context - most if context - most >= min(LEAST_ANSWER, request.max_new_tokens) else context - least
    if request.max_new_tokens <= room or room < 1:
        return request
    told = (
        f"an answer of {request.max_new_tokens} tokens was asked for, and after the prompts {room} fit the "
        f"model's context of {context}",
    )
    return replace(request, max_new_tokens=room, notices=request.notices + told)


def _without_oldest(model: Model, request: Request, picture: Layout | None, room: int) -> Request:
    """With as many of the latest turns as fit into `room` tokens beside the question."""
    if not request.history:
        return request
    alone = replace(request, history=())
    left = room - alone.prompt_tokens(model, picture)[0]
    kept: tuple[str, ...] = ()
    for turn in reversed(request.history):
        if len(turn) > LONGEST_TOKEN * max(0, left) or (left := left - model.prompts.count(f"{turn}\n")) < 0:
            break
        kept = (turn, *kept)
    gone = len(request.history) - len(kept)
    if not gone:
        return request
    turns = "turn does" if gone == 1 else "turns do"
    told = (f"the {gone} oldest {turns} not fit the model's context and were left out",)
    return replace(request, history=kept, notices=request.notices + told)
