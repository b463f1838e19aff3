"""What can be built for which target, and with which graphs and layouts.

A target is where an engine runs. Knows settings; not how a graph is made or written.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from vicrop_engine.errors import SettingError
from vicrop_export.cuda_graphs import cuda_modules
from vicrop_export.graphs import graph_modules
from vicrop_export.onnx_export import GraphInterface
from vicrop_export.plan import Plan
from vicrop_export.precision import CUDA_PRECISIONS, PRECISIONS, Precision
from vicrop_export.tensors import CheckpointTensors

CUDA = "cuda"
BUILDABLE = {"cpu": ("fp32", "fp16", "int8", "int4"), CUDA: ("fp16", "int8", "int4")}


def check_target(target: str, precision: str, *, pure_grad: bool) -> None:
    """Raises SettingError for a target, or a precision of it, that this version does not build."""
    for kind, got, known in (
        ("target", target, tuple(BUILDABLE)),
        ("precision", precision, BUILDABLE.get(target, ())),
    ):
        if got not in known:
            place = f" for {target}" if target == CUDA else ""
            raise SettingError(
                f"{kind} {got!r} cannot be built{place} by this version; wanted {', '.join(known)}"
            )
    if pure_grad and target == CUDA:
        raise SettingError(
            "pure-grad is not in engines for cuda yet; build one for cpu, or without --pure-grad"
        )


def layouts_of(plan: Plan) -> Precision:
    """The layouts of the plan's precision on its target."""
    return (CUDA_PRECISIONS if plan.target == CUDA else PRECISIONS)[plan.precision]


def is_half(plan: Plan) -> bool:
    """Whether the graphs compute in float16; the float32 twin of an engine for cuda does not."""
    return plan.target == CUDA and plan.precision != "fp32"


def modules_of(plan: Plan, tensors: CheckpointTensors) -> Iterator[tuple[str, nn.Module, GraphInterface]]:
    """Name, module and interface of each graph, in the order they are written, each made when wanted."""
    lower, first = plan.decoder.num_lower_layers, min(plan.layers)
    if plan.target == CUDA:
        return cuda_modules(tensors, plan.facts, lower, first)
    return graph_modules(tensors, plan.facts, lower, in_place=plan.in_place, first_heatmap_layer=first)
