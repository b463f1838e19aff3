"""The shape of llava-signs, its checkpoint directory, and the throw-away head that teaches the tower."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from vocabulary import BOS, EOS, IMAGE, PAD, build_tokenizer, save_tokenizer
from world import COLOURS, DIGITS, SHAPES

INPUT_SIDE = 168
PATCH = 14
GRID = INPUT_SIDE // PATCH
VISION_WIDTH, TEXT_WIDTH = 192, 128
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
NUM_COLOURS, NUM_SHAPES, NUM_TEXTS = len(COLOURS) + 1, len(SHAPES) + 1, len(DIGITS) + 1  # last: none
FEATURES = NUM_COLOURS + NUM_SHAPES + NUM_TEXTS


def make_config() -> LlavaConfig:
    """A LLaVA-1.5 in small: CLIP tower, two-layer projector, Llama decoder; 3.0 million parameters."""
    vocab = build_tokenizer().get_vocab()
    vision = CLIPVisionConfig(
        hidden_size=VISION_WIDTH, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
        image_size=INPUT_SIDE, patch_size=PATCH, projection_dim=VISION_WIDTH,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=TEXT_WIDTH, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, vocab_size=len(vocab), max_position_embeddings=1024, initializer_range=0.05,
        bos_token_id=vocab[BOS], eos_token_id=vocab[EOS], pad_token_id=vocab[PAD],
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=vocab[IMAGE],
        vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=GRID * GRID,
        tie_word_embeddings=False,
    )  # fmt: skip


def make_model(seed: int) -> LlavaForConditionalGeneration:
    """A fresh model whose tower starts with what a small one is slow to find: frequencies and positions."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(make_config())
    embeddings = model.model.vision_tower.embeddings
    with torch.no_grad():
        embeddings.position_embedding.weight[1:] = _sines(GRID, embeddings.embed_dim)
        embeddings.patch_embedding.weight.copy_(_frequencies(PATCH, embeddings.embed_dim))
    return model


def _frequencies(patch: int, width: int) -> Tensor:
    """Patch filters [width, 3, patch, patch]: the lowest 2-D cosines of grey and of two colour differences.

    Each is scaled up with its frequency, as pictures have less of the high ones.
    """
    order = torch.arange(patch)
    cosines = torch.cos(torch.pi * order[:, None] * (order + 0.5) / patch) * (2 / patch) ** 0.5
    cosines[0] /= 2**0.5
    pairs = sorted(((int(u), int(v)) for u in order for v in order), key=lambda uv: uv[0] ** 2 + uv[1] ** 2)
    channels = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])
    channels = channels / channels.norm(dim=1, keepdim=True)
    counts = (width - 2 * (width // 6), width // 6, width // 6)
    filters = [
        (1 + (u * u + v * v) ** 0.5) / patch * channel[:, None, None] * cosines[u][:, None] * cosines[v]
        for channel, count in zip(channels, counts, strict=True)
        for u, v in pairs[:count]
    ]
    return torch.stack(filters)


def _sines(grid: int, width: int) -> Tensor:
    quarter = width // 4
    rates = 1.0 / 100.0 ** (torch.arange(quarter) / quarter)
    angles = torch.arange(grid)[:, None] * rates  # [grid, quarter]
    axis = torch.cat([angles.sin(), angles.cos()], 1)  # [grid, width / 2]
    rows = axis[:, None].expand(grid, grid, -1)
    cols = axis[None].expand(grid, grid, -1)
    return 0.3 * torch.cat([rows, cols], -1).reshape(grid * grid, width)


class PatchHead(nn.Module):
    """Colour, shape and text of the sign under each patch: [.., width] -> [.., FEATURES] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(VISION_WIDTH)
        self.linear = nn.Linear(VISION_WIDTH, FEATURES)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm(features))
        return logits


class SymbolMap(nn.Module):
    """What the decoder sees instead of a picture in the symbolic stage: [.., FEATURES] -> [.., hidden]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, TEXT_WIDTH, bias=False)

    def forward(self, symbols: Tensor) -> Tensor:
        embeds: Tensor = self.linear(symbols)
        return embeds


def encode_patches(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Tower features without the class token: [images, 3, side, side] -> [images, patches, width]."""
    features: Tensor = model.model.vision_tower(pixels).last_hidden_state[:, 1:]
    return features


def to_pixels(pictures: list[np.ndarray]) -> Tensor:
    """uint8 [side, side, 3] pictures -> normalised float32 [images, 3, side, side]."""
    stacked = np.stack(pictures).astype(np.float32) / 255.0
    normalised = (stacked - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
    return torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy())


def save_checkpoint(model: LlavaForConditionalGeneration, directory: Path) -> None:
    """Write the checkpoint as Hugging Face lays LLaVA out, weights in float16."""
    directory.mkdir(parents=True, exist_ok=True)
    save_tokenizer(directory)
    config = model.config.to_dict()
    config["dtype"] = "float16"
    config["architectures"] = ["LlavaForConditionalGeneration"]
    _write_json(directory / "config.json", config)
    _write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS, "pad_token": PAD,
         "unk_token": "<unk>", "add_bos_token": True, "model_max_length": 1024, "image_token": IMAGE},
    )  # fmt: skip
    _write_json(
        directory / "preprocessor_config.json",
        {"image_processor_type": "CLIPImageProcessor", "do_resize": True,
         "size": {"height": INPUT_SIDE, "width": INPUT_SIDE}, "resample": 3, "do_center_crop": False,
         "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": list(CLIP_MEAN),
         "image_std": list(CLIP_STD), "do_convert_rgb": True},
    )  # fmt: skip
    _write_json(
        directory / "processor_config.json",
        {"processor_class": "LlavaProcessor", "patch_size": PATCH, "num_additional_image_tokens": 1,
         "vision_feature_select_strategy": "default", "image_token": IMAGE},
    )  # fmt: skip
    state = {
        name: tensor.detach().to(torch.float16).contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
