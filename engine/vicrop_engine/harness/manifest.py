"""What lmms-eval reads of its entry point: under which name, and where, the model is."""

from __future__ import annotations

from lmms_eval.models.registry_v2 import ModelManifest

NAME = "vicrop"


def manifest() -> ModelManifest:
    """The model as lmms-eval 0.7 registers one; a chat model, as all new ones are."""
    return ModelManifest(model_id=NAME, chat_class_path="vicrop_engine.harness.lmms_model.ViCrop")
