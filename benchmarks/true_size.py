"""Write a checkpoint of LLaVA-1.5's exact architecture, sizes, names, shards and files, with random weights.

    python benchmarks/true_size.py -o llava-7b                # 32 layers, 14 GB
    python benchmarks/true_size.py -o llava-13b --model 13b   # 40 layers, 27 GB
    python benchmarks/true_size.py -o short --layers 2        # the same widths, fewer layers
    python benchmarks/true_size.py -o mid --model mid         # 12 layers of hidden size 1024, for timings

The weights are float16, drawn from a seed and written one tensor at a time. The tokenizer is a stand-in of
the true size: it learned the prompts' words, and fillers make it up to 32,002 tokens. `mid` is no published
model.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from rich.progress import Progress
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

IMAGE, PAD, PIECES = 32000, 32001, 32000
SENTENCES = (
    "USER: What is written on the red sign? Answer the question using a single word or phrase. ASSISTANT:",
    "USER: Write a general description of the image. ASSISTANT: The image shows a street with many signs.",
    "How many people are there in the picture? What colour is the small car on the left? Is the door open?",
)


@dataclass(frozen=True)
class Size:
    """What distinguishes the models: decoder and vision tower sizes, and the number of files."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    shards: int
    vision_hidden: int = 1024
    vision_layers: int = 24


SIZES = {
    "7b": Size(4096, 11008, 32, 32, shards=3),
    "13b": Size(5120, 13824, 40, 40, shards=6),
    "mid": Size(1024, 2816, 12, 16, shards=1, vision_hidden=512, vision_layers=12),
}


def main() -> None:
    """Command line; progress on standard error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="a directory that does not exist yet"
    )
    parser.add_argument("--model", choices=SIZES, default="7b")
    parser.add_argument("--layers", type=int, help="decoder layers; else the model's own")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    size = SIZES[options.model]
    config = make_config(size, options.layers or size.layers)
    write_settings(options.output, config)
    write_weights(options.output, config, size.shards, options.seed)


def make_config(size: Size, layers: int) -> LlavaConfig:
    """The published configuration with these sizes."""
    text = LlamaConfig(
        vocab_size=32064,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=layers,
        num_attention_heads=size.heads,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
    )
    vision = CLIPVisionConfig(
        hidden_size=size.vision_hidden,
        intermediate_size=4 * size.vision_hidden,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_hidden // 64,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE,
        pad_token_id=PAD,  # type: ignore[call-arg]  # every configuration takes it, and only some declare it
    )


def tensor_shapes(config: LlavaConfig) -> dict[str, torch.Size]:
    """Every tensor by the name published checkpoints give it, layer after layer."""
    with torch.device("meta"):
        state = LlavaForConditionalGeneration(config).state_dict()
    return {published_name(name): value.shape for name, value in state.items()}


def published_name(name: str) -> str:
    """Transformers' name of a tensor as `llava-hf` checkpoints spell it."""
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    name = name.removeprefix("model.")
    name = name.replace("language_model.", "language_model.model.", 1)
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1)


def write_weights(directory: Path, config: LlavaConfig, num_shards: int, seed: int) -> None:
    """Write the safetensors files and, when there are several, their index."""
    shapes = tensor_shapes(config)
    generator = torch.Generator().manual_seed(seed)
    weight_map: dict[str, str] = {}
    total = sum(2 * math.prod(shape) for shape in shapes.values())
    with Progress() as progress:
        task = progress.add_task("writing weights", total=total)
        for number, names in enumerate(split(shapes, num_shards), start=1):
            file = f"model-{number:05d}-of-{num_shards:05d}.safetensors"
            path = directory / (file if num_shards > 1 else "model.safetensors")
            with path.open("wb") as out:
                for size in write_shard(out, {name: shapes[name] for name in names}, generator):
                    progress.advance(task, size)
            weight_map |= dict.fromkeys(names, path.name)
    if num_shards > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(directory / "model.safetensors.index.json", index)


def split(shapes: dict[str, torch.Size], num_shards: int) -> list[list[str]]:
    """The names in order, in files of about the same size."""
    limit = sum(math.prod(shape) for shape in shapes.values()) / num_shards
    shards: list[list[str]] = [[] for _ in range(num_shards)]
    done = 0
    for name, shape in shapes.items():
        shards[min(num_shards - 1, int(done / limit))].append(name)
        done += math.prod(shape)
    return shards


def write_shard(out: BinaryIO, shapes: dict[str, torch.Size], generator: torch.Generator) -> Iterator[int]:
    """One safetensors file, a tensor at a time; gives the bytes of each."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little") + text)
    for name, shape in shapes.items():
        out.write(random_tensor(name, shape, generator).numpy().data.cast("B"))
        yield 2 * math.prod(shape)


def random_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Float16 noise scaled so that activations stay within reason and attention is not flat."""
    noise = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        return (centre + 0.1 * noise).to(torch.float16)
    if "embed" in name and "patch" not in name:
        return noise.to(torch.float16)
    gain = 1.5 if "q_proj" in name or "k_proj" in name else 1.0
    return noise.mul_(gain / math.sqrt(math.prod(shape[1:]))).to(torch.float16)


def write_settings(directory: Path, config: LlavaConfig) -> None:
    """Configuration, tokenizer and processor files, as published beside each other."""
    write_json(directory / "config.json", json.loads(config.to_json_string(use_diff=False)))
    write_json(
        directory / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": PAD}
    )
    make_tokenizer().save(str(directory / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write_json(directory / "special_tokens_map.json", special)
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    write_json(directory / "tokenizer_config.json", {**tokenizer, **special})
    side = {"height": 336, "width": 336}
    image_processor = {
        "image_processor_type": "CLIPImageProcessor",
        **{"do_convert_rgb": True, "do_resize": True, "size": {"shortest_edge": 336}, "resample": 3},
        **{"do_center_crop": True, "crop_size": side, "do_rescale": True, "rescale_factor": 1 / 255},
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": "LlavaProcessor",
    }
    write_json(directory / "preprocessor_config.json", image_processor)
    processor = {
        **{"image_token": "<image>", "patch_size": 14, "processor_class": "LlavaProcessor"},
        **{"num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"},
    }
    write_json(directory / "processor_config.json", processor)


def make_tokenizer() -> Tokenizer:
    """A Llama-style byte-fallback BPE of 32,002 tokens: bytes, a few words, fillers, image and padding."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    learner.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=600, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    pieces += [f"▁filler{number}" for number in range(PIECES - len(pieces))]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    special = ("<unk>", "<s>", "</s>", "<image>", "<pad>")
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    return tokenizer


def write_json(path: Path, document: object) -> None:
    """Write one JSON document."""
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
