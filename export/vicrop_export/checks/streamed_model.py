"""Transformers' own model with its weights read when a part of it runs, and let go after that.

Each part with weights of its own (a linear layer, a norm, an embedding) holds them only while it is at work,
so that a model far larger than memory can be run, slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vicrop_engine.errors import BuildError, CheckpointError
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.interfaces import ExportFamily
from vicrop_export.quiet import reason

TIED = {"lm_head.weight": "language_model.embed_tokens.weight"}


def streamed_model(tensors: CheckpointTensors, family: ExportFamily) -> Any:
    """The checkpoint as transformers' own class of its family, in float32 with eager attention.

    Raises CheckpointError when transformers refuses the configuration, or when a tensor is missing or of
    another shape.
    """
    made: Any = family.reference
    try:
        config: Any = made.config_class.from_pretrained(
            tensors.directory, local_files_only=True, attn_implementation="eager", dtype=torch.float32
        )
        with torch.device("meta"):
            model: Any = made(config)
    except Exception as error:  # transformers raises many types for a damaged configuration
        raise CheckpointError(
            f"{tensors.directory}: transformers cannot make the model: {reason(error)}"
        ) from error
    _fill_buffers(model)
    name_of = partial(stored_name, family)
    _demand_tensors(model, name_of, tensors)
    for path, part in model.named_modules():
        names = {key: name_of(f"{path}.{key}" if path else key) for key in _own(part)}
        if part is model:  # which is never called as a whole; what it has itself is small
            _load(part, names, tensors)
        elif names:
            _stream(part, names, tensors)
    return model.eval()


def stored_name(family: ExportFamily, parameter: str) -> str:
    """The checkpoint's name of one of transformers' parameters."""
    name = family.canonical_name(parameter)
    return TIED.get(name, name) if family.text.tied_embeddings else name


def _own(part: nn.Module) -> list[str]:
    return [key for key, _ in part.named_parameters(recurse=False)]


def _load(part: nn.Module, names: dict[str, str], tensors: CheckpointTensors) -> None:
    for key, name in names.items():
        setattr(part, key, nn.Parameter(tensors.get(name), requires_grad=False))


def _stream(part: nn.Module, names: dict[str, str], tensors: CheckpointTensors) -> None:
    empty = dict(part.named_parameters(recurse=False))

    def load(module: nn.Module, _inputs: object) -> None:
        _load(module, names, tensors)

    def let_go(module: nn.Module, _inputs: object, _outputs: object) -> None:
        for key, value in empty.items():
            setattr(module, key, value)

    part.register_forward_pre_hook(load)
    part.register_forward_hook(let_go)


def _demand_tensors(model: nn.Module, name_of: Callable[[str], str], tensors: CheckpointTensors) -> None:
    """Before any of it runs: a checkpoint of the wrong files is told in seconds, not at its last layer."""
    wanted = {name_of(path): tuple(value.shape) for path, value in model.named_parameters()}
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise CheckpointError(
            f"{tensors.directory}: {len(missing)} tensors are missing, the first is {missing[0]!r}; "
            "wanted a complete checkpoint"
        )
    for name, shape in wanted.items():
        if tensors.shape(name) != shape:
            raise CheckpointError(
                f"{tensors.directory}: tensor {name!r} is {tensors.shape(name)} and config.json makes it "
                f"{shape}; the files are not from one checkpoint"
            )


def _fill_buffers(model: Any) -> None:
    """Compute the few tensors no checkpoint holds."""
    for part in model.modules():
        for name, buffer in part.named_buffers(recurse=False):
            value = _buffer(part, name, buffer)
            if value is None:
                raise BuildError(
                    f"transformers' {type(part).__name__} has a buffer {name!r} this version does not know; "
                    "install transformers 5.23 to build"
                )
            part.register_buffer(name, value, persistent=False)


def _buffer(part: Any, name: str, empty: Tensor) -> Tensor | None:
    if name == "position_ids":
        return torch.arange(empty.shape[-1]).expand(empty.shape)
    if name in ("inv_freq", "original_inv_freq"):
        made: Tensor = getattr(type(part)(part.config), name)
        return made
    return None
