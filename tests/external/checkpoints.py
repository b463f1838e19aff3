"""Small seeded checkpoints of CLIP, YOLOS and SAM in Hugging Face layout: real files, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedModel,
    SamConfig,
    SamModel,
    YolosConfig,
    YolosForObjectDetection,
)

from tests.checkpoints import CLIP_MEAN, CLIP_STD, CORPUS, write_json

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def write_clip(directory: Path, seed: int = 0, *, exact: bool = False) -> Path:
    """A CLIP of 32 pixels and 20 tokens; `exact` stretches pictures instead of cutting out the centre."""
    directory.mkdir(parents=True)
    tokenizer = clip_tokenizer()
    tokenizer.save_pretrained(directory)
    tower = {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 24,
        "max_position_embeddings": 20,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }
    vision = {"hidden_size": 32, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text | tower, vision_config=vision | tower, projection_dim=16)
    save_seeded(CLIPModel(config), directory, seed)
    square = {"height": 32, "width": 32}
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": square if exact else {"shortest_edge": 32},
        "resample": 3,
        "do_center_crop": not exact,
        "crop_size": square,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }
    write_json(directory / "preprocessor_config.json", processor)
    return directory


def write_yolos(directory: Path, seed: int = 0) -> Path:
    """A YOLOS with 12 queries and 5 classes that is sure of some of its boxes."""
    directory.mkdir(parents=True)
    config = YolosConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=[64, 96],
        patch_size=16,
        num_detection_tokens=12,
        num_labels=5,
    )
    doubt = torch.tensor([0.0] * 5 + [2.0])
    save_seeded(
        YolosForObjectDetection(config),
        directory,
        seed,
        class_labels_classifier__layers__2__bias=lambda value: value + doubt,
    )
    processor = {
        "feature_extractor_type": "YolosFeatureExtractor",  # as published
        "do_normalize": True,
        "do_resize": True,
        "size": 64,
        "max_size": 128,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    write_json(directory / "preprocessor_config.json", processor)
    return directory


def write_sam(directory: Path, seed: int = 0) -> Path:
    """A SAM of 64 pixels whose masks are stable and some of them thought good."""
    directory.mkdir(parents=True)
    side = {"image_size": 64, "patch_size": 8}
    vision = {
        "hidden_size": 32,
        "mlp_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "window_size": 3,
        "global_attn_indexes": [1],
        "output_channels": 32,
        "num_pos_feats": 16,
    }
    masks = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    config = SamConfig(
        vision_config=side | vision,
        prompt_encoder_config=side | {"hidden_size": 32, "mask_input_channels": 4},
        mask_decoder_config=masks,
    )
    save_seeded(
        SamModel(config),
        directory,
        seed,
        iou_prediction_head__proj_out__bias=lambda value: value + 1.6,
        upscale_conv2__weight=lambda value: 9 * value,
        **{f"mlps__{index}__proj_out__bias": lambda value: value - 2 for index in range(4)},
    )
    processor = {
        "image_processor_type": "SamImageProcessor",
        "size": {"longest_edge": 64},
        "pad_size": {"height": 64, "width": 64},
        "mask_size": {"longest_edge": 32},
        "mask_pad_size": {"height": 32, "width": 32},
        "resample": 2,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    write_json(directory / "preprocessor_config.json", processor)
    return directory


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's own kind of tokenizer, learned on a few sentences."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator([text.lower() for text in CORPUS], trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = dict.fromkeys([*learned["vocab"], *(f"{piece}</w>" for piece in alphabet), BEGIN, END])
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=[tuple(pair) for pair in learned["merges"]])


def save_seeded(model: PreTrainedModel, directory: Path, seed: int, **fixed: Any) -> None:
    """Fill a model with seeded noise and save it; tensors named in `fixed` (__ for .) are changed after."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() == 0:
            continue
        if value.dim() == 1:
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            value.copy_(centre + 0.1 * noise)
        elif "embed" in name and "patch" not in name:
            value.copy_(noise)
        else:
            value.copy_(1.5 * noise / value[0].numel() ** 0.5)
    for name, value in model.state_dict().items():
        for ending, change in fixed.items():
            if name.endswith(ending.replace("__", ".")):
                value.copy_(change(value))
    model.save_pretrained(directory)
