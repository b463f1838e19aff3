"""The names that SmolVLM and Idefics3 checkpoints and transformers give tensors."""

from __future__ import annotations

PARTS = {
    "vision_model.": "vision_tower.",
    "connector.modality_projection.": "multi_modal_projector.",
    "text_model.lm_head.": "lm_head.",
    "text_model.model.": "language_model.",
    "text_model.": "language_model.",
}


def canonical_name(name: str) -> str:
    """The one name of a tensor, which files write with a `model.` in front, or two, or without."""
    while name.startswith("model."):
        name = name.removeprefix("model.")
    for own, common in PARTS.items():
        if name.startswith(own):
            return common + name.removeprefix(own)
    return name
