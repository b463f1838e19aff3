"""The names that checkpoints of this family and transformers give tensors."""

from __future__ import annotations

PLACES = {
    "vision_model.": "vision_tower.",
    "connector.modality_projection.": "multi_modal_projector.",
    "text_model.lm_head.": "lm_head.",
    "text_model.model.": "language_model.",
    "text_model.": "language_model.",
}


def canonical_name(name: str) -> str:
    """The one name of a tensor.

    Published checkpoints say `model.vision_model.…`, `model.connector.modality_projection.proj.…` and
    `model.text_model.…`; others leave out the first `model.`, or name the decoder's own once more.
    """
    name = name.removeprefix("model.")
    for stored, own in PLACES.items():
        if name.startswith(stored):
            return own + name.removeprefix(stored)
    return name
