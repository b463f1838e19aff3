"""The names that checkpoints of this family and transformers give tensors."""

from __future__ import annotations

PLACES = {
    "vision_model.": "vision_tower.",
    "qformer.": "multi_modal_projector.qformer.",
    "query_tokens": "multi_modal_projector.query_tokens",
    "language_projection.": "multi_modal_projector.language_projection.",
    "language_model.lm_head.": "lm_head.",
    "language_model.model.": "language_model.",
}


def canonical_name(name: str) -> str:
    """The one name of a tensor; files and transformers spell them alike."""
    for stored, own in PLACES.items():
        if name.startswith(stored):
            return own + name.removeprefix(stored)
    return name
