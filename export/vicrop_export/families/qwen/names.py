"""The names that checkpoints of these families and transformers give tensors."""

from __future__ import annotations

PLACES = {
    "visual.merger.": "multi_modal_projector.",
    "visual.deepstack_merger_list.": "multi_modal_projector.deepstack.",
    "visual.pos_embed.": "vision_tower.position_embedding.",
    "visual.": "vision_tower.",
    "layers.": "language_model.layers.",
    "embed_tokens.": "language_model.embed_tokens.",
    "norm.": "language_model.norm.",
}


def canonical_name(name: str) -> str:
    """The one name of a tensor.

    Newer checkpoints say `model.visual.…` and `model.language_model.…`, the first ones `visual.…` and
    `model.layers.…`; some leave out the first `model.`.
    """
    name = name.removeprefix("model.")
    for stored, own in PLACES.items():
        if name.startswith(stored):
            return own + name.removeprefix(stored)
    return name
