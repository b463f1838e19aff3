"""One ask from its picture to its answer, on a model that is this ask's alone or shared with others.

Encode the picture, prefill the prompts, choose the crop, decode with it, assemble (arXiv 2502.17422).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vicrop_engine.counters import Counters
from vicrop_engine.errors import SchemaError
from vicrop_engine.images.cache import OpenedPicture, Source
from vicrop_engine.images.picture import Picture
from vicrop_engine.images.seen import Seen
from vicrop_engine.images.single_flight import Wait, wait_for
from vicrop_engine.model.answers.greedy import Generation, OnTokens
from vicrop_engine.model.model import Model
from vicrop_engine.model.prompts import TokenLogprob
from vicrop_engine.timing import Stopwatch
from vicrop_engine.vicrop.answer import Answer, EngineInfo, TokenCounts
from vicrop_engine.vicrop.answers import decode, decode_with
from vicrop_engine.vicrop.prefill import prefill
from vicrop_engine.vicrop.request import Request
from vicrop_engine.vicrop.request_state import PassTargets, RequestState
from vicrop_engine.vicrop.target_asking import name_target
from vicrop_engine.vicrop.when import CropDecision, choose_crop


def run_ask(
    model: Model,
    request: Request,
    opened: OpenedPicture,
    watch: Stopwatch,
    on_tokens: OnTokens = None,
) -> Answer:
    """The method, step by step; `on_tokens` is told the first answer's ids as they come.

    Raises ImageError where a picture cannot be looked at as asked for, and RunError.
    """
    before = model.tally.snapshot()
    with encode(model, request, opened, watch) as state:
        name_target(state, request)
        prefill(state)
        crop = choose_crop(state, request)
        first: Generation | None
        if crop.chosen is None:
            first = final = decode(state, request, on_tokens)
        else:
            first, final = decode_with(state, request, crop.chosen, on_tokens)
    return assemble(state, request, crop, first, final, before)


def opened_picture(
    model: Model, request: Request, source: Source, watch: Stopwatch, wait: Wait = wait_for
) -> OpenedPicture:
    """The picture decoded and as the vision tower takes it, from what is kept where its content is the same.

    `wait` is how to wait where somebody else opens it now. Raises ImageError, and BoxError for a box outside.
    """

    def check(picture: Picture) -> None:
        watch.enter("preprocess")
        request.check_picture(picture.size)
        request.tiles(picture.size)

    def prepare(picture: Picture) -> Seen:
        check(picture)
        return model.family.see(picture.image, request.picture_way)

    opened = model.pictures.open(source, prepare, request.picture_way, wait)
    check(opened.picture)
    return opened


@contextlib.contextmanager
def encode(model: Model, request: Request, opened: OpenedPicture, watch: Stopwatch) -> Iterator[RequestState]:
    """The state of this ask, its picture through the vision tower or from the caches.

    Its prefix is kept for the next ask, whatever becomes of this one. Raises QuestionError and SettingError
    where the prompts on a picture of this layout do not fit the context.
    """
    picture, seen = opened.picture, opened.seen
    prompts, capacity = request.prompted(model, seen.layout)
    tiles, targets = request.tiles(picture.size), _targets(model, request, picture)
    asked = seen.asked(prompts.question.instruction)
    key, prefix = model.prefix(asked, prompts.question.prefix, capacity, watch)
    with model.locked(prefix):
        state = RequestState(
            model, picture, prompts, prefix, watch, targets, seen, tiles, target=request.target
        )
        kept_key, state.kept = model.kept_of(seen, key, prefix)
        try:
            yield state
        finally:
            for each, kept in {kept_key: state.kept, key: prefix}.items():
                model.keep(each, kept)


def _targets(model: Model, request: Request, picture: Picture) -> PassTargets:
    """What the pass over the whole picture is for; where it is looked at in tiles, not for looking."""
    localizer, tiles = request.localizer, request.tiles(picture.size)
    in_tiles = tiles is not None and len(tiles.boxes) > 1
    looks = localizer is not None and not in_tiles
    layers = localizer.layers_read(picture.size, model.manifest.crop.window) if localizer and looks else ()
    return PassTargets(request.reads_answer, layers, request.gradients, request.of_target)


def assemble(
    state: RequestState,
    request: Request,
    crop: CropDecision,
    first: Generation | None,
    final: Generation,
    before: Counters,
) -> Answer:
    """The answer with all that is known of how it came about; `before` is what had been counted by then."""
    model, manifest, found = state.model, state.model.manifest, crop.found
    for made in (first, final):
        check_whole(made)
    target = state.target if found is not None and found.layers else None
    decoded = len(final.ids) + (len(first.ids) if first is not None and first is not final else 0)
    return Answer(
        answer=model.prompts.decode(final.ids, request.form),
        answer_without_crop=None if first is None else model.prompts.decode(first.ids, request.form),
        method=request.method if found is None else found.method,
        high_res=found is not None and bool(found.tiles),
        crop_box=crop.box,
        crop_parts=() if crop.chosen is None else crop.chosen.parts,
        image_size=state.picture.size,
        heatmap=None if found is None else found.heatmap,
        heatmap_box=None if found is None or found.heatmap is None else (found.grid or state.grid).box,
        tiles=() if found is None else found.tiles,
        layers=() if found is None else found.layers,
        confidence=final.confidence,
        tokens=_token_counts(state, decoded, before, model.tally.snapshot(), crops=crop.box is not None),
        engine=EngineInfo(manifest.model.name, manifest.precision, model.provider),
        token_ids=final.ids,
        first_token_ids=() if first is None else first.ids,
        notices=(*state.picture.notices, *request.notices, *state.notices),
        crop_skipped=request.threshold is not None and not crop.crops,
        crop_worth=crop.worth,
        target=None if target is None else target.text,
        target_from=None if target is None else target.source,
        timings=state.watch.finish(),
        spans=tuple(state.watch.spans),
        stopped=model.prompts.is_cut(final.ids, request.form),
        first_stopped=first is not None and model.prompts.is_cut(first.ids, request.form),
        logprobs=logprobs_of(model, request, final),
    )


def check_whole(made: Generation | None) -> None:
    """Raises SchemaError for an answer that could not be held to its schema to the end."""
    if made is not None and made.failure is not None:
        raise SchemaError(
            f"the answer could not be held to the JSON schema ({made.failure[:200]}); give a simpler one"
        )


def logprobs_of(model: Model, request: Request, made: Generation) -> tuple[TokenLogprob, ...] | None:
    """The answer's tokens with their log probabilities, where the request's form asks for them."""
    return None if request.form.top_logprobs is None else model.prompts.token_logprobs(made)


def _token_counts(
    state: RequestState, decoded: int, before: Counters, after: Counters, *, crops: bool
) -> TokenCounts:
    run = after.lower_tokens - before.lower_tokens - (after.decode_steps - before.decode_steps)
    crop = len(state.with_crop.suffix) if crops else 0
    return TokenCounts(prefill=run, reused=state.prompt_tokens - run, decoded=decoded, crop=crop)
