"""SAM as two graphs: a picture to its embeddings, once, and points on it to masks.

`sam_image`: `pixel_values` [1, 3, side, side] to `image_embeddings`. `sam_masks`: these and `input_points`
[1, points, 1, 2], x and y in input pixels, to `masks` [1, points, 3, low, low] and `scores` [1, points, 3].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SamModel
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from vicrop_engine.errors import CheckpointError
from vicrop_engine.external.settings import SamSettings
from vicrop_export.checkpoint.locate import CheckpointKind
from vicrop_export.external.exported import measure, noise, write_module
from vicrop_export.external.loading import demand_type, load_model, load_processor, pixel_settings
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.progress import Report

MODEL_TYPE = "sam"
WANTED = CheckpointKind("SAM", "facebook/sam-vit-base", tokenizer=False)
POINTS = 5  # neither 0 nor 1, so that the axis is not taken for fixed


class ImageEmbeddings(nn.Module):
    """Pixels to image embeddings."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        embeddings: Tensor = self.model.vision_encoder(pixel_values).last_hidden_state
        return embeddings


class PointMasks(nn.Module):
    """Three masks for each point, and how good each is predicted to be."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image_embeddings: Tensor, input_points: Tensor) -> tuple[Tensor, Tensor]:
        made = self.model(image_embeddings=image_embeddings, input_points=input_points)
        return made.pred_masks, made.iou_scores


def export(checkpoint: Path, directory: Path, report: Report) -> tuple[dict[str, float], SamSettings]:
    """Write both graphs; returns parity figures and settings.

    Raises CheckpointError, BuildError and ParityError.
    """
    demand_type(checkpoint, MODEL_TYPE, WANTED.example)
    model = load_model(SamModel, checkpoint)
    side = model.config.vision_config.image_size
    settings = read_settings(checkpoint, side)
    report("exporting the image encoder", 0.1)
    image, image_side = ImageEmbeddings(model), image_interface(side)
    write_module(image, image_side, directory / "sam_image.onnx")
    report("exporting the mask decoder", 0.5)
    with torch.no_grad():
        embeddings = image(noise(1, 3, side, side, seed=1))
    masks, masks_side = PointMasks(model), masks_interface(embeddings, side)
    write_module(masks, masks_side, directory / "sam_masks.onnx")
    report("comparing with transformers", 0.8)
    parity = measure(directory / "sam_image.onnx", image, image_side, [[noise(1, 3, side, side, seed=2)]])
    probes = [[embeddings, _points(count, side)] for count in (1, 9)]
    parity |= measure(directory / "sam_masks.onnx", masks, masks_side, probes)
    return parity, settings


def read_settings(checkpoint: Path, side: int) -> SamSettings:
    """The image processor and the mask generator's published defaults. Raises CheckpointError."""
    processor = load_processor(checkpoint, SamImageProcessorPil, "SamImageProcessor")
    size, pad = processor.size, processor.pad_size
    made = (size.longest_edge, pad.height, pad.width)
    if not processor.do_resize or not processor.do_pad or made != (side, side, side):
        raise CheckpointError(
            f"{checkpoint}: the image processor makes the longer side {made[0]} and pads to {made[2]} x "
            f"{made[1]}; the encoder of config.json takes {side} x {side}"
        )
    return SamSettings(
        pixels=pixel_settings(processor),
        side=side,
        points_per_side=32,
        predicted_iou=0.88,
        stability=0.95,
        stability_offset=1.0,
        overlap=0.7,
    )


def image_interface(side: int) -> GraphInterface:
    """One picture of `side` pixels."""
    return GraphInterface(
        arguments=(noise(1, 3, side, side),),
        inputs=["pixel_values"],
        outputs=["image_embeddings"],
        axes={"pixel_values": {}},
        output_axes={},
    )


def masks_interface(embeddings: Tensor, side: int) -> GraphInterface:
    """Any number of points on one picture."""
    return GraphInterface(
        arguments=(embeddings, _points(POINTS, side)),
        inputs=["image_embeddings", "input_points"],
        outputs=["masks", "scores"],
        axes={"image_embeddings": {}, "input_points": {1: "points"}},
        output_axes={},
    )


def _points(count: int, side: int) -> Tensor:
    return torch.rand(1, count, 1, 2, generator=torch.Generator().manual_seed(count)) * side
