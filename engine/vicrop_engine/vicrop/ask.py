"""One ask from its picture to its answer, on a model that is this ask's alone or shared with others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vicrop_engine.counters import Counters
from vicrop_engine.images.cache import OpenedPicture
from vicrop_engine.images.geometry import placed_grid, whole_grid
from vicrop_engine.images.picture import ImageInput, Picture
from vicrop_engine.images.preprocessing import ModelInput, preprocess
from vicrop_engine.model.greedy import Generation, OnTokens
from vicrop_engine.model.model import Model
from vicrop_engine.timing import Stopwatch
from vicrop_engine.vicrop.answer import Answer, EngineInfo, TokenCounts
from vicrop_engine.vicrop.request import Request
from vicrop_engine.vicrop.request_state import PassTargets, RequestState
from vicrop_engine.vicrop.when import CropDecision, choose_crop


def answered(
    model: Model,
    request: Request,
    picture: Picture,
    watch: Stopwatch,
    on_tokens: OnTokens | None = None,
    seen: ModelInput | None = None,
) -> Answer:
    """Look, crop if that is worth it, and answer; `on_tokens` is told the first answer's ids as they come.

    `seen` is the picture as the vision tower takes it, where that is known already. Raises ImageError where a
    picture cannot be looked at as asked for.
    """
    before = model.tally.snapshot()
    with reading_of(model, request, picture, watch, seen) as state:
        first: Generation | None = None
        found = choose_crop(request.localizer, state, request.threshold)
        if found.box is None:
            first = final = state.first_answer(request.max_new_tokens, on_tokens)
        else:
            watch.enter("crop_vision")
            crop = seen_picture(model, picture.crop(found.box), request)
            if request.first_answer:
                first, final = state.both_answers(crop, request.max_new_tokens, on_tokens)
            else:
                final = state.answer_with(crop, request.max_new_tokens)
    return _answer(state, request, before, found, first, final)


@contextlib.contextmanager
def reading_of(
    model: Model,
    request: Request,
    picture: Picture,
    watch: Stopwatch,
    seen: ModelInput | None = None,
) -> Iterator[RequestState]:
    """The reading of this ask; its prefix is held for the next one, whatever becomes of this one."""
    vision, crop = model.manifest.vision, model.manifest.crop
    tiles = request.tiles(picture.size)
    seen = seen or seen_picture(model, picture, request)
    grid = (
        whole_grid(vision.rows, vision.cols, picture.size)
        if request.compat
        else placed_grid(vision.rows, vision.cols, vision.patch_size, seen.placement, picture.size)
    )
    looker = request.localizer
    in_tiles = tiles is not None and len(tiles.boxes) > 1
    layers = () if looker is None or in_tiles else looker.layers_read(picture.size, crop.window)
    wanted = PassTargets(request.reads_answer, layers, request.gradients)
    key, prefix = model.prefix(seen.pixels, request.prompts.question.prefix, request.capacity, watch)
    try:
        yield RequestState(model, picture, grid, request.prompts, prefix, watch, wanted, seen, tiles)
    finally:
        model.keep(key, prefix)


def opened_picture(model: Model, request: Request, image: ImageInput, watch: Stopwatch) -> OpenedPicture:
    """The picture decoded and as the vision tower takes it, from what is kept where its bytes are the same.

    The watch has a span for each of the two. Raises ImageError, and BoxError for a box outside of it.
    """

    def check(picture: Picture) -> None:
        watch.enter("preprocess")
        request.check_picture(picture.size)
        request.tiles(picture.size)

    def prepare(picture: Picture) -> ModelInput:
        return seen_picture(model, picture, request)

    return model.pictures.open(image, check, prepare, request.compat)


def seen_picture(model: Model, picture: Picture, request: Request) -> ModelInput:
    """The picture as the vision tower takes it."""
    return preprocess(picture.image, model.preprocessing, "processor" if request.compat else None)


def _answer(
    state: RequestState,
    request: Request,
    before: Counters,
    seen: CropDecision,
    first: Generation | None,
    final: Generation,
) -> Answer:
    model, manifest, found = state.model, state.model.manifest, seen.found
    decoded = len(final.ids) + (len(first.ids) if first is not None and first is not final else 0)
    return Answer(
        answer=model.prompts.decode(final.ids),
        answer_without_crop=None if first is None else model.prompts.decode(first.ids),
        method=request.method if found is None else found.method,
        high_res=found is not None and bool(found.tiles),
        crop_box=seen.box,
        image_size=state.picture.size,
        heatmap=None if found is None else found.heatmap,
        heatmap_box=None if found is None or found.heatmap is None else (found.grid or state.grid).box,
        tiles=() if found is None else found.tiles,
        layers=() if found is None else found.layers,
        confidence=final.confidence,
        tokens=_token_counts(state, decoded, before, model.tally.snapshot(), crops=seen.box is not None),
        engine=EngineInfo(manifest.model.name, manifest.precision, model.provider),
        token_ids=final.ids,
        first_token_ids=() if first is None else first.ids,
        notices=state.picture.notices,
        crop_skipped=request.threshold is not None and not seen.crops,
        crop_worth=seen.worth,
        timings=state.watch.finish(),
        spans=tuple(state.watch.spans),
    )


def _token_counts(
    state: RequestState, decoded: int, before: Counters, after: Counters, *, crops: bool
) -> TokenCounts:
    run = after.lower_tokens - before.lower_tokens - (after.decode_steps - before.decode_steps)
    crop = len(state.prompts.two_images.suffix) if crops else 0
    return TokenCounts(prefill=run, reused=state.prompt_tokens - run, decoded=decoded, crop=crop)
