"""The names that LLaVA-1.5 checkpoints and transformers give tensors."""

from __future__ import annotations


def canonical_name(name: str) -> str:
    """The one name of a tensor.

    Published checkpoints say `language_model.model.…` and `vision_tower.vision_model.…`, newer ones
    `model.language_model.…` and `model.vision_tower.…`.
    """
    name = name.removeprefix("model.")
    if name.startswith("language_model.lm_head."):
        return name.removeprefix("language_model.")
    name = name.replace("language_model.model.", "language_model.", 1)
    return name.replace("vision_tower.vision_model.", "vision_tower.", 1)
