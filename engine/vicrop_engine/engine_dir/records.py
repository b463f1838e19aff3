"""The records of an engine directory's documents: geometry, prompts, preprocessing, what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Resize = Literal["shortest_edge", "exact", "none"]

Fit = Literal["processor", "pad", "stretch"]

LayerSource = Literal["published", "measured", "scaled, not measured", "chosen at build"]


@dataclass(frozen=True)
class ModelSource:
    """Which checkpoint an engine was built from."""

    name: str
    source: str
    revision: str | None


@dataclass(frozen=True)
class FamilyRecord:
    """The model family of an engine and its own settings, which that family reads strictly.

    `most_inputs` is how many inputs of the vision tower a picture is at most. `most_tokens` is how many
    tokens picture and crop take each at most; None where it is those of its inputs, and a crop is one.
    """

    name: str
    settings: dict[str, Any]
    most_inputs: int = 1
    most_tokens: int | None = None


@dataclass(frozen=True)
class VisionGeometry:
    """One input of the vision tower: side in pixels, patch grid, tokens handed to the decoder.

    `rows` and `cols` are those of the cells that tokens stand for, each of `patch_size` pixels.
    `patch_offset` is the index of the first patch among an input's tokens: 1 when the class token is kept,
    else 0.
    """

    image_size: int
    patch_size: int
    rows: int
    cols: int
    image_tokens: int
    patch_offset: int


@dataclass(frozen=True)
class InstructionReader:
    """The second stage of a vision part that reads the prompt's text beside the picture.

    Its ids are below `vocab_size`, and it takes `most_tokens` of them at most. Of its layers that attend to
    the picture, counted from 0, it gives the attention of number `layer`, which makes cells of tokens.
    """

    vocab_size: int
    most_tokens: int
    layer: int


@dataclass(frozen=True)
class DecoderGeometry:
    """Sizes of the language model; `num_lower_layers` of its layers are in `decoder_lower`.

    A token's position has `position_axes` numbers, and its embedding `added_embeds` further slices: slice
    number i + 1 is added to the states after layer i.
    """

    num_layers: int
    num_lower_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    hidden_size: int
    vocab_size: int
    context_length: int
    position_axes: int = 1
    added_embeds: int = 0


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids with a meaning of their own; generation stops at any of `eos`."""

    bos: int | None
    eos: tuple[int, ...]
    image: int


@dataclass(frozen=True)
class Prompts:
    """Prompt templates (holding `{question}` once) and the text that stands for one image in them.

    With `pictures_first` the sign that every text begins with comes after the pictures.
    """

    question: str
    two_image_question: str
    general_question: str
    image_placeholder: str
    pictures_first: bool = False


@dataclass(frozen=True)
class CropSettings:
    """Side of the smallest crop window in original pixels, heatmap layers, and window ratios in order.

    `source` says where the layers are from.
    """

    window: int
    layers: tuple[int, ...]
    ratios: tuple[float, ...] = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
    source: LayerSource = "scaled, not measured"


@dataclass(frozen=True)
class Parity:
    """Relative L2 distance to transformers in float32, measured at build time.

    `gradient` is grad-att's, against autograd; None for models too large to hold for that.
    """

    image_embeds: float
    attention: float
    logits: float
    gradient: float | None = None


@dataclass(frozen=True)
class Probed:
    """Where an engine's graphs gave what its probe holds, and how far from that they may be elsewhere.

    `processor` are the instruction sets. `tolerances` are by output, in units of its root mean square: some
    multiple (`probe.SLACK`) of how far the engine's own outputs moved when its input did by a millionth, and
    when other kernels multiplied.
    """

    processor: str
    onnxruntime: str
    tolerances: dict[str, float]


@dataclass(frozen=True)
class Agreement:
    """What an engine in low precision keeps of float32, measured at build time on `compared`.

    Shares, 0 to 1, of the same answer texts and of crop boxes whose intersection is at least half their
    union; `heatmaps` is the median relative L2 distance.
    """

    compared: str
    answers: float
    boxes: float
    heatmaps: float


@dataclass(frozen=True)
class CurvePoint:
    """What a threshold gives: accuracy, and its cost beyond a plain answer, 1 being every crop's."""

    threshold: float
    cost: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """What a crop found with `method` has to be worth, and the `curve` that number was read from.

    `first` and `always` are the accuracies without and with every crop on so many `examples`; at `threshold`,
    which keeps the share `keeps` of the gain with 95 % confidence, there is accuracy `auto` at `cost`.
    """

    method: str
    threshold: float
    keeps: float
    examples: int
    first: float
    always: float
    auto: float
    cost: float
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Preprocessing:
    """The checkpoint's image processor as data, and how the default path fits a picture in (`fit`).

    `resize` "shortest_edge" scales the shorter side to `height`; "exact" scales to `height` by `width`.
    `resample` is Pillow's code. Without rescaling `rescale_factor` is 1; without normalising `mean` is 0 and
    `std` 1. `pad_to_square` is the LLaVA processor's own padding before the resize. `fit`: "processor" does
    just what the checkpoint's processor does; "pad" and "stretch" replace its resize and centre crop so that
    nothing is cut off.
    """

    resize: Resize
    height: int
    width: int
    resample: int
    center_crop: bool
    crop_height: int
    crop_width: int
    rescale_factor: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Fit = "processor"
    pad_to_square: bool = False


def default_layer(num_layers: int) -> int:
    """The heatmap layer for this depth: index 14 of 32 (the paper's LLaVA-1.5), scaled."""
    return int((14 + 0.5) * num_layers / 32)
