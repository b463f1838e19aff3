"""A checkpoint's tensors by one name, whichever way the file spells it.

Reads safetensors only, one tensor at a time from memory-mapped files. Naming schemes are a model family's to
know; what the tensors are for is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vicrop_engine.errors import CheckpointError
from vicrop_export.ops.layers import LayerNorm, Projection, RmsNorm
from vicrop_export.quiet import reason

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class _Place:
    path: Path
    name: str  # as the file spells it
    shape: tuple[int, ...]


class CheckpointTensors:
    """Reads tensors by canonical name, which `canonical_name` makes of a file's own. Raises CheckpointError.

    A file is mapped into memory for one tensor at a time: what was read and let go takes no memory.
    """

    def __init__(self, directory: Path, canonical_name: Callable[[str], str]) -> None:
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

    @contextmanager
    def naming(self, name: str, way_out: str) -> Iterator[None]:
        """Turn an OverflowError about this tensor into a CheckpointError that names it and what to do."""
        try:
            yield
        except OverflowError as error:
            raise CheckpointError(f"{self.directory}: tensor {name!r} {error}; {way_out}") from error

    def projection(self, prefix: str, *, biased: bool = False) -> Projection:
        """The linear layer stored under `prefix`, with a bias if one is stored, as it must be if `biased`."""
        return Projection(self.get(f"{prefix}.weight"), self.bias(prefix, biased=biased))

    def bias(self, prefix: str, *, biased: bool) -> Tensor | None:
        """The bias stored under `prefix`, if there is one. Raises CheckpointError where one has to be."""
        name = f"{prefix}.bias"
        return self.get(name) if biased or name in self else None

    def rms_norm(self, prefix: str, eps: float) -> RmsNorm:
        """The root-mean-square norm stored under `prefix`."""
        return RmsNorm(self.get(f"{prefix}.weight"), eps)

    def layer_norm(self, prefix: str, eps: float) -> LayerNorm:
        """The layer norm stored under `prefix`."""
        return LayerNorm(self.get(f"{prefix}.weight"), self.get(f"{prefix}.bias"), eps)

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise CheckpointError(
                f"{self.directory}: no tensor {name!r} in its safetensors files; wanted a complete checkpoint"
            )
        return self._places[name]


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the single file, which transformers prefers, or the shards.

    Raises CheckpointError where there are none, or not all.
    """
    demand_weights(file_names(directory), directory)
    names = weight_names(directory)
    missing = [name for name in names if not (directory / name).is_file()]
    if missing or not names:
        raise CheckpointError(
            f"{directory}: {INDEX} names {', '.join(missing) or 'no files'}, and nothing is there; "
            "fetch the checkpoint again"
        )
    return [directory / name for name in names]


def file_names(directory: Path) -> set[str]:
    """Names of the files of a directory."""
    return {path.name for path in directory.iterdir() if path.is_file()}


def demand_weights(names: Collection[str], place: Path | str) -> None:
    """Raise CheckpointError unless a checkpoint of these files, found at `place`, has safetensors weights."""
    if WEIGHTS in names or INDEX in names:
        return
    if any(name.startswith("pytorch_model") and name.endswith(".bin") for name in names):
        raise CheckpointError(
            f"{place} holds its weights only as .bin pickles, which can run code when read; "
            "convert them with transformers' save_pretrained, which writes safetensors"
        )
    raise CheckpointError(f"{place}: no {WEIGHTS} and no {INDEX}; wanted a checkpoint directory")


def weight_names(directory: Path) -> list[str]:
    """Names of the safetensors files, there or not: the index's unless the single file is there or no index.

    Raises CheckpointError for an index that is none.
    """
    index = directory / INDEX
    if (directory / WEIGHTS).is_file() or not index.is_file():
        return [WEIGHTS]
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
        return [str((directory / name).relative_to(directory)) for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not a safetensors index; fetch the checkpoint again") from error


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
