"""A picture's tiles, each read like a picture of its own: the high-resolution prepass.

Tiles are prepared and go through the vision tower several at a time, and through the decoder one by one, so
that the memory taken does not grow with their number. Knows nothing of what is read from them.
"""

from __future__ import annotations

from collections.abc import Iterator

from vicrop_engine.images.picture import Picture
from vicrop_engine.images.seen import Seen
from vicrop_engine.images.tiling import TilePlan
from vicrop_engine.model.kv_cache import roomy
from vicrop_engine.model.model import Model
from vicrop_engine.model.prompts import AskPrompts
from vicrop_engine.vicrop.prefill import prefill
from vicrop_engine.vicrop.request_state import PassTargets, RequestState

VISION_BATCH = 4  # tiles in one run of the tower; more gain nothing on a processor and take memory


def tile_states(state: RequestState, plan: TilePlan, targets: PassTargets) -> Iterator[RequestState]:
    """The state of each tile in order, prefilled, on a prefix of its own; use it before asking for the next.

    The question is what to look with. Where there is nothing to read, neither decoder nor vision tower
    runs, and the prefix is empty. Prefixes are kept for the next question if the cache has room for all of
    them beside the picture's, else none is: they depend on the tile alone.
    """
    model, watch = state.model, state.watch
    for start in range(0, len(plan.boxes), VISION_BATCH):
        watch.enter("preprocess")
        pictures = [state.picture.crop(box) for box in plan.boxes[start : start + VISION_BATCH]]
        inputs = [prepare_tile(model, picture, plan) for picture in pictures]
        prompts = _prompts_on(state, inputs[0])
        ids, capacity = prompts.question.prefix, roomy(prompts.shared_tokens(looks=True))
        if not targets.reads:
            ids, capacity = (), 0
        asked = [seen.asked(prompts.question.instruction) for seen in inputs]
        prefixes = model.prefixes_of(asked, ids, capacity, watch)
        for picture, seen, (key, prefix) in zip(pictures, inputs, prefixes, strict=True):
            tile = RequestState(model, picture, prompts, prefix, watch, targets, seen)
            kept_key, tile.kept = model.kept_of(seen, key, prefix)
            try:
                with model.locked(prefix):
                    prefill(tile)
                    yield tile
            finally:
                state.prompt_tokens += tile.prompt_tokens
                room = model.prefixes.capacity - state.prefix.nbytes
                if key in model.prefixes or prefix.nbytes * len(plan.boxes) <= room:
                    for each, kept in {kept_key: tile.kept, key: prefix}.items():
                        model.keep(each, kept)


def prepare_tile(model: Model, tile: Picture, plan: TilePlan) -> Seen:
    """The tile as the tower takes it."""
    model.boundary()
    return model.family.see_tile(tile.image, plan)


def _prompts_on(state: RequestState, tile: Seen) -> AskPrompts:
    """The prompts on a tile, all of which have one layout: to look with, and the general one."""
    builder, text = state.model.prompts, state.prompts.text
    sought = None if state.target is None else builder.up_to(state.target.prompt, tile.layout)
    return AskPrompts(builder.one_image(text, tile.layout), sought, builder.general(tile.layout), text)
