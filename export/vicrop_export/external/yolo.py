"""A YOLO-family detector, YOLOS, as one graph for pictures of any size.

`yolo`: `pixel_values` [1, 3, height, width] to `logits` [1, queries, classes + 1], the last "no object", and
`boxes` [1, queries, 4]: centre, width and height in shares of the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.export import Dim
from transformers import YolosForObjectDetection
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

from vicrop_engine.errors import CheckpointError
from vicrop_engine.external.settings import YoloSettings
from vicrop_export.checkpoint.locate import CheckpointKind
from vicrop_export.external.exported import measure, noise, write_module
from vicrop_export.external.loading import demand_type, load_model, load_processor, pixel_settings
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.progress import Report

MODEL_TYPE = "yolos"
WANTED = CheckpointKind("YOLOS", "hustvl/yolos-small", tokenizer=False)
MULTIPLE = 16  # what YolosImageProcessor cuts sides down to, whatever the patch size
CONFIDENCE = 0.25  # the paper's, and the recommended one of the detector it used


class Detections(nn.Module):
    """Pixels to class logits and boxes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(pixel_values)
        return found.logits, found.pred_boxes


def export(checkpoint: Path, directory: Path, report: Report) -> tuple[dict[str, float], YoloSettings]:
    """Write the graph; returns parity figures and settings.

    Raises CheckpointError, BuildError and ParityError.
    """
    demand_type(checkpoint, MODEL_TYPE, WANTED.example)
    settings = read_settings(checkpoint)
    model = load_model(YolosForObjectDetection, checkpoint)
    patch = model.config.patch_size
    if MULTIPLE % patch:
        raise CheckpointError(f"{checkpoint}: the patch size is {patch}, wanted a divisor of {MULTIPLE}")
    report("exporting the detector", 0.2)
    module, interface = Detections(model), detector_interface(5 * MULTIPLE, 7 * MULTIPLE)
    write_module(module, interface, directory / "yolo.onnx")
    report("comparing with transformers", 0.7)
    own = tuple(length // MULTIPLE * MULTIPLE for length in model.config.image_size)
    sizes = own, (3 * MULTIPLE, 8 * MULTIPLE), (9 * MULTIPLE, MULTIPLE)
    probes = [[noise(1, 3, *size)] for size in sizes]
    return measure(directory / "yolo.onnx", module, interface, probes), settings


def read_settings(checkpoint: Path) -> YoloSettings:
    """The image processor's sizes. Raises CheckpointError for one that makes another kind of input."""
    processor = load_processor(checkpoint, YolosImageProcessorPil, "YolosImageProcessor")
    size = processor.size
    if not (processor.do_resize and size.shortest_edge and size.longest_edge):
        raise CheckpointError(
            f"{checkpoint}: the image processor resizes to {dict(size)}; wanted 'shortest_edge' and "
            "'longest_edge'"
        )
    return YoloSettings(
        pixels=pixel_settings(processor),
        shortest_edge=size.shortest_edge,
        longest_edge=size.longest_edge,
        multiple=MULTIPLE,
        confidence=CONFIDENCE,
    )


def detector_interface(height: int, width: int) -> GraphInterface:
    """One picture of any height and width that are multiples of the patch."""
    return GraphInterface(
        arguments=(noise(1, 3, height, width),),
        inputs=["pixel_values"],
        outputs=["logits", "boxes"],
        axes={"pixel_values": {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}},
        output_axes={},
    )
