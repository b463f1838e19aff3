"""A picture's tiles, each read like a picture of its own: the high-resolution prepass.

Tiles are prepared and go through the vision tower several at a time, and through the decoder one by one, so
that the memory taken does not grow with their number. Knows nothing of what is read from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vicrop_engine.images.geometry import Grid, placed_grid, whole_grid
from vicrop_engine.images.picture import Picture
from vicrop_engine.images.preprocessing import ModelInput, fills_input, preprocess, preprocess_on_patches
from vicrop_engine.images.tiling import TilePlan
from vicrop_engine.model.kv_cache import roomy
from vicrop_engine.model.model import Model
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
    prompts = replace(state.prompts, question=state.prompts.looked_with, localize=None)
    ids, capacity = prompts.question.prefix, roomy(prompts.shared_tokens(looks=True))
    if not targets.reads:
        ids, capacity = (), 0
    for start in range(0, len(plan.boxes), VISION_BATCH):
        watch.enter("preprocess")
        pictures = [state.picture.crop(box) for box in plan.boxes[start : start + VISION_BATCH]]
        inputs = [prepare_tile(model, picture, plan) for picture in pictures]
        pixels = [seen.pixels for seen in inputs]
        prefixes = model.prefixes_of(pixels, ids, capacity, watch)
        for picture, seen, (key, prefix) in zip(pictures, inputs, prefixes, strict=True):
            grid = tile_grid(model, picture, seen, plan)
            tile = RequestState(model, picture, grid, prompts, prefix, watch, targets, seen)
            try:
                with model.locked(prefix):
                    prefill(tile)
                    yield tile
            finally:
                state.prompt_tokens += tile.prompt_tokens
                room = model.prefixes.capacity - state.prefix.nbytes
                if key in model.prefixes or prefix.nbytes * len(plan.boxes) <= room:
                    model.keep(key, prefix)


def prepare_tile(model: Model, tile: Picture, plan: TilePlan) -> ModelInput:
    """The tile as the tower takes it: on whole patches in its own shape, or as the published code does."""
    model.boundary()
    settings, vision = model.preprocessing, model.manifest.vision
    if plan.published:
        return preprocess(tile.image, settings, "processor")
    whole = vision.rows, vision.cols
    cells = whole if fills_input(settings) else plan.cells(*whole)
    return preprocess_on_patches(tile.image, settings, cells, vision.patch_size)


def tile_grid(model: Model, tile: Picture, seen: ModelInput, plan: TilePlan) -> Grid:
    """The patch grid on the tile; the cells that touch it fill it exactly."""
    vision = model.manifest.vision
    if plan.published:
        return whole_grid(vision.rows, vision.cols, tile.size)
    return placed_grid(vision.rows, vision.cols, vision.patch_size, seen.placement, tile.size)
