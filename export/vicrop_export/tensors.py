"""A checkpoint's tensors by one name, whichever way the file spells it.

Reads safetensors only, one tensor at a time from memory-mapped files. Knows the naming schemes of LLaVA
checkpoints; not what the tensors are for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vicrop_engine.errors import CheckpointError
from vicrop_export.modules import LayerNorm, Projection
from vicrop_export.quiet import reason

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class _Place:
    path: Path
    name: str  # as the file spells it
    shape: tuple[int, ...]


def canonical_name(name: str) -> str:
    """The one name of a tensor.

    It begins with `vision_tower.`, `multi_modal_projector.`, `language_model.` or `lm_head.`. Published LLaVA
    checkpoints say `language_model.model.…` and `vision_tower.vision_model.…`, newer ones
    `model.language_model.…` and `model.vision_tower.…`.
    """
    name = name.removeprefix("model.")
    if name.startswith("language_model.lm_head."):
        return name.removeprefix("language_model.")
    name = name.replace("language_model.model.", "language_model.", 1)
    return name.replace("vision_tower.vision_model.", "vision_tower.", 1)


class CheckpointTensors:
    """Reads tensors by canonical name. Raises CheckpointError.

    A file is mapped into memory for one tensor at a time: what was read and let go takes no memory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._places = {
            canonical_name(name): _Place(path, name, shape)
            for path in weight_files(directory)
            for name, shape in _contents(path).items()
        }

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def names(self) -> list[str]:
        """The canonical names of all tensors."""
        return list(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, which is not read."""
        return self._place(name).shape

    def stored(self, name: str) -> Tensor:
        """One tensor as the file has it, mapped: keep it no longer than needed."""
        place = self._place(name)
        with _open(place.path) as file:
            tensor: Tensor = file.get_tensor(place.name)
        if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
            raise CheckpointError(
                f"{place.path}: tensor {place.name!r} is {tensor.dtype}; quantised checkpoints are not read, "
                "wanted float32, float16 or bfloat16"
            )
        return tensor

    def get(self, name: str) -> Tensor:
        """One tensor, converted to float32."""
        return self.stored(name).to(torch.float32)

    def projection(self, prefix: str, *, bias: bool) -> Projection:
        """The linear layer stored under `prefix`."""
        return Projection(self.get(f"{prefix}.weight"), self.get(f"{prefix}.bias") if bias else None)

    def layer_norm(self, prefix: str, eps: float) -> LayerNorm:
        """The layer norm stored under `prefix`."""
        return LayerNorm(self.get(f"{prefix}.weight"), self.get(f"{prefix}.bias"), eps)

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise CheckpointError(
                f"{self.directory}: no tensor {name!r} in its safetensors files; wanted a complete LLaVA "
                "checkpoint"
            )
        return self._places[name]


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the single file, which transformers prefers, or the shards."""
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if (directory / INDEX).is_file():
        return _shards(directory / INDEX)
    if list(directory.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{directory} holds its weights only as .bin pickles, which can run code when read; "
            "convert them with transformers' save_pretrained, which writes safetensors"
        )
    raise CheckpointError(f"{directory}: no {WEIGHTS} and no {INDEX}; wanted a checkpoint directory")


def _shards(index: Path) -> list[Path]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        paths = [index.parent / name for name in sorted(set(weight_map.values()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not a safetensors index; fetch the checkpoint again") from error
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise CheckpointError(
            f"{index.parent}: {INDEX} names {', '.join(missing) or 'no files'}, and nothing is there; "
            "fetch the checkpoint again"
        )
    return paths


def _contents(path: Path) -> dict[str, tuple[int, ...]]:
    with _open(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({reason(error)}); fetch it again"
        ) from error
