"""What the documents of Qwen2-VL's, Qwen2.5-VL's and Qwen3-VL's checkpoints say, as they are published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from tokenizers import Tokenizer

from tests.checkpoints import CLIP_MEAN, CLIP_STD

Kind = Literal["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
CLASSES = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}
PATCH = {"qwen2_vl": 14, "qwen2_5_vl": 14, "qwen3_vl": 16}


@dataclass(frozen=True)
class QwenSpec:
    """What kind of checkpoint to write; sizes not named here are small constants.

    `naming` "plain" is `visual.…` and `model.layers.…`, as Qwen2-VL and Qwen2.5-VL were published, with the
    decoder's settings beside the others in config.json; Qwen3-VL's leaves out the first `model.`. "model" is
    `model.visual.…` and `model.language_model.…`.
    """

    kind: Kind = "qwen2_5_vl"
    seed: int = 0
    hidden: int = 64
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int | None = None  # hidden / heads when None; Qwen3-VL alone may have another
    intermediate: int | None = None  # twice `hidden` when None
    vocabulary: int | None = None  # rows of the embeddings, 20 more than tokens when None
    context_length: int = 8192
    rope_theta: float = 10000.0
    tied: bool = False
    naming: Literal["model", "plain"] = "model"
    shards: int = 1
    dtype: torch.dtype = torch.float32
    vision_hidden: int = 32
    vision_heads: int = 2
    vision_layers: int = 4
    vision_intermediate: int | None = None  # twice `vision_hidden` when None; Qwen2-VL: a multiple of it
    window: int = 112  # pixels, Qwen2.5-VL
    full_layers: tuple[int, ...] = (1, 3)  # Qwen2.5-VL: the layers without windows
    tapped_layers: tuple[int, ...] = (0, 1, 2)  # Qwen3-VL: the layers that deepstack takes from
    table: int = 8  # side of Qwen3-VL's table of positions
    least_cells: int = 4  # of a picture, each of 2 x 2 patches
    most_cells: int = 48
    special_tokens: tuple[str, ...] = SPECIALS

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return PATCH[self.kind]

    @property
    def dim(self) -> int:
        """Dimensions of a head of the decoder."""
        return self.head_dim or self.hidden // self.heads

    @property
    def section(self) -> list[int]:
        """How many angles turn by time, row and column."""
        half = self.dim // 2
        each = half * 5 // 16 if self.kind == "qwen3_vl" else (half - half // 4) // 2
        return [half - 2 * each, each, each]


QWEN2_5_VL_3B = QwenSpec(
    hidden=2048,
    layers=36,
    heads=16,
    kv_heads=2,
    intermediate=11008,
    vocabulary=151936,
    context_length=128000,
    rope_theta=1000000.0,
    tied=True,
    naming="plain",
    shards=8,
    dtype=torch.bfloat16,
    vision_hidden=1280,
    vision_heads=16,
    vision_layers=32,
    vision_intermediate=3420,
    full_layers=(7, 15, 23, 31),
    most_cells=16384,
)
"""The published sizes of Qwen2.5-VL-3B; the tokenizer stays small."""

QWEN3_VL_2B = QwenSpec(
    kind="qwen3_vl",
    hidden=2048,
    layers=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    intermediate=6144,
    vocabulary=151936,
    context_length=262144,
    rope_theta=5000000.0,
    tied=True,
    shards=8,
    dtype=torch.bfloat16,
    vision_hidden=1024,
    vision_heads=16,
    vision_layers=24,
    vision_intermediate=4096,
    tapped_layers=(5, 11, 17),
    table=48,
    least_cells=64,
    most_cells=16384,
)
"""The published sizes of Qwen3-VL-2B; the tokenizer stays small."""


def config_document(spec: QwenSpec, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json as these models are published."""
    ids = {f"{name}_token_id": f"<|{text}|>" for name, text in _NAMED_TOKENS.items()}
    common = {
        "architectures": [f"{CLASSES[spec.kind]}ForConditionalGeneration"],
        "model_type": spec.kind,
        **{name: tokenizer.token_to_id(text) or 0 for name, text in ids.items()},
        "tie_word_embeddings": spec.tied,
        "vision_config": _vision_document(spec),
    }
    text = _text_document(spec, tokenizer)
    if spec.naming == "plain" and spec.kind != "qwen3_vl":
        return {**text, **common}
    return {**common, "text_config": {**text, "model_type": f"{spec.kind}_text"}}


_NAMED_TOKENS = {
    "image": "image_pad",
    "video": "video_pad",
    "vision_start": "vision_start",
    "vision_end": "vision_end",
}


def _text_document(spec: QwenSpec, tokenizer: Tokenizer) -> dict[str, Any]:
    document: dict[str, Any] = {
        "vocab_size": spec.vocabulary or tokenizer.get_vocab_size() + 20,
        "hidden_size": spec.hidden,
        "intermediate_size": spec.intermediate or 2 * spec.hidden,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": spec.context_length,
        "rms_norm_eps": 1e-6,
        "rope_theta": spec.rope_theta,
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
    }
    if spec.kind == "qwen3_vl":
        rope = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": spec.section}
        return document | {"head_dim": spec.dim, "attention_bias": False, "rope_scaling": rope}
    window = {"use_sliding_window": False, "sliding_window": 32768, "max_window_layers": spec.layers}
    return document | window | {"rope_scaling": {"type": "mrope", "mrope_section": spec.section}}


def _vision_document(spec: QwenSpec) -> dict[str, Any]:
    width = spec.vision_intermediate or 2 * spec.vision_hidden
    common = {
        "depth": spec.vision_layers,
        "num_heads": spec.vision_heads,
        "patch_size": spec.patch,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    if spec.kind == "qwen2_vl":
        own = {"embed_dim": spec.vision_hidden, "mlp_ratio": width // spec.vision_hidden}
        return common | own | {"hidden_size": spec.hidden, "in_chans": 3, "spatial_patch_size": spec.patch}
    common |= {
        "hidden_size": spec.vision_hidden,
        "intermediate_size": width,
        "out_hidden_size": spec.hidden,
    }
    if spec.kind == "qwen2_5_vl":
        layers = {"window_size": spec.window, "fullatt_block_indexes": list(spec.full_layers)}
        return common | layers | {"hidden_act": "silu", "in_chans": 3, "tokens_per_second": 2}
    return common | {
        "hidden_act": "gelu_pytorch_tanh",
        "in_channels": 3,
        "num_position_embeddings": spec.table**2,
        "deepstack_visual_indexes": list(spec.tapped_layers),
        "model_type": "qwen3_vl",
    }


def processor_document(spec: QwenSpec) -> dict[str, Any]:
    """The image processor's file as it is published."""
    area = (2 * spec.patch) ** 2
    least, most = spec.least_cells * area, spec.most_cells * area
    common = {"patch_size": spec.patch, "temporal_patch_size": 2, "merge_size": 2}
    if spec.kind == "qwen3_vl":
        return {
            **common,
            "size": {"longest_edge": most, "shortest_edge": least},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "Qwen3VLProcessor",
            "image_processor_type": "Qwen2VLImageProcessorFast",
        }
    return {
        **common,
        "min_pixels": least,
        "max_pixels": most,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": f"{CLASSES[spec.kind]}Processor",
    }
