"""CLIP as two graphs: crops to embeddings and a text to its embedding, both of length one.

`clip_image`: `pixel_values` [images, 3, side, side] to `image_embeds` [images, dim]. `clip_text`: `input_ids`
[1, tokens] to `text_embeds` [1, dim].
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from vicrop_engine.engine_dir.manifest import TOKENIZER
from vicrop_engine.external.settings import ClipSettings
from vicrop_export.checkpoint.locate import CheckpointKind
from vicrop_export.checkpoint.processor import read_preprocessing
from vicrop_export.checkpoint.tokenizer import load_tokenizer
from vicrop_export.external.exported import measure, noise, write_module
from vicrop_export.external.loading import demand_type, load_model
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.progress import Report

MODEL_TYPE = "clip"
WANTED = CheckpointKind("CLIP", "openai/clip-vit-base-patch16")
IMAGES = 3  # neither 0 nor 1, so that the axis is not taken for fixed


class ImageEncoder(nn.Module):
    """Pixels to embeddings of length one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return nn.functional.normalize(self.model.get_image_features(pixel_values).pooler_output, dim=-1)


class TextEncoder(nn.Module):
    """Token ids to an embedding of length one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return nn.functional.normalize(self.model.get_text_features(input_ids).pooler_output, dim=-1)


def export(checkpoint: Path, directory: Path, report: Report) -> tuple[dict[str, float], ClipSettings]:
    """Write both graphs and the tokenizer; returns parity figures and settings.

    Raises CheckpointError, BuildError and ParityError.
    """
    demand_type(checkpoint, MODEL_TYPE, WANTED.example)
    tokenizer = load_tokenizer(checkpoint)
    model = load_model(CLIPModel, checkpoint)
    side, length = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
    preprocessing = replace(read_preprocessing(checkpoint, side), fit="processor")
    ids = torch.tensor([tokenizer.encode("What is written on the red sign?").ids[:length]])
    report("exporting the image encoder", 0.2)
    image, image_side = ImageEncoder(model), image_interface(side)
    write_module(image, image_side, directory / "clip_image.onnx")
    report("exporting the text encoder", 0.5)
    text, text_side = TextEncoder(model), text_interface(ids)
    write_module(text, text_side, directory / "clip_text.onnx")
    report("comparing with transformers", 0.8)
    crops = [[noise(count, 3, side, side, seed=count)] for count in (1, 5)]
    longest = torch.cat((ids[:, :1].expand(1, length - 2), ids[:, -2:]), dim=1)
    parity = measure(directory / "clip_image.onnx", image, image_side, crops)
    parity |= measure(directory / "clip_text.onnx", text, text_side, [[ids], [longest]])
    tokenizer.save(str(directory / TOKENIZER))
    return parity, ClipSettings(preprocessing, length)


def image_interface(side: int) -> GraphInterface:
    """Any number of pictures of `side` pixels."""
    return GraphInterface(
        arguments=(noise(IMAGES, 3, side, side),),
        inputs=["pixel_values"],
        outputs=["image_embeds"],
        axes={"pixel_values": {0: "images"}},
        output_axes={"image_embeds": {0: "images"}},
    )


def text_interface(ids: Tensor) -> GraphInterface:
    """One text of any length."""
    return GraphInterface(
        arguments=(ids,),
        inputs=["input_ids"],
        outputs=["text_embeds"],
        axes={"input_ids": {1: "tokens"}},
        output_axes={},
    )
