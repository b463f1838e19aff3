"""What can be built for which target, and with which graphs and layouts.

A target is where an engine runs. Knows settings; not how a graph is made or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from torch import nn

from vicrop_engine.engine_dir.manifest import CPU, CUDA, TENSORRT
from vicrop_engine.errors import SettingError
from vicrop_engine.families.table import FAMILIES
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.modules.cuda import cuda_modules
from vicrop_export.modules.interfaces import graph_modules
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.onnx_files.exported import ExportedGraph
from vicrop_export.plan import Plan
from vicrop_export.precision.layouts import Layout
from vicrop_export.precision.prefill_products import num_own_bytes, plan_twins
from vicrop_export.precision.rules import CUDA_PRECISIONS, PRECISIONS, STANDARD_PRECISIONS, Precision
from vicrop_export.trt.compiler import Compiler, choose_compiler

LARGEST_COMPARED = 2 << 30  # bytes of float32 weights up to which a build asks a float32 engine and autograd
LAYOUTS = {CPU: PRECISIONS, CUDA: CUDA_PRECISIONS, TENSORRT: STANDARD_PRECISIONS}
BUILDABLE = {CPU: tuple(PRECISIONS), CUDA: ("fp16", "int8", "int4"), TENSORRT: tuple(STANDARD_PRECISIONS)}
OPSETS = {"int4": 21, "fp8": 19}  # what blocks of a few bits, and float8, came with; else onnx_export's


def check_target(target: str, precision: str, *, pure_grad: bool) -> None:
    """Raises SettingError for a target, or a precision of it, that this version does not build."""
    for kind, got, known in (
        ("target", target, tuple(BUILDABLE)),
        ("precision", precision, BUILDABLE.get(target, ())),
    ):
        if got not in known:
            place = f" for {target}" if kind == "precision" and target != CPU else ""
            raise SettingError(
                f"{kind} {got!r} cannot be built{place} by this version; wanted {', '.join(known)}"
            )
    if pure_grad and not has_gradients(target):
        raise SettingError(
            f"pure-grad is not in engines for {target}; build one for cpu, or without --pure-grad"
        )


def demand_buildable(plan: Plan) -> None:
    """Raises SettingError for a target, and for pure-grad, that the plan's family has nothing for."""
    name, known = plan.family.name, FAMILIES[plan.family.name].targets
    if plan.target not in known:
        raise SettingError(
            f"target {plan.target!r} cannot be built for models of the family {name!r} by this version; "
            f"wanted {', '.join(known)}"
        )
    if plan.pure_grad and not plan.family.has_pixel_gradients:
        raise SettingError(
            f"pure-grad cannot be built for models of the family {name!r}; build without --pure-grad and ask "
            "with rel-att or grad-att"
        )


def compiler_for(target: str, precision: str, architectures: Sequence[str]) -> Compiler | None:
    """What compiles the target's graphs, if anything does. Raises SettingError and BuildError."""
    if target != TENSORRT:
        if architectures:
            raise SettingError(
                f"architectures are for target {TENSORRT!r} and this is {target!r}; leave them out"
            )
        return None
    compiler = choose_compiler(architectures, precision)
    assert compiler.version, "asked for now, so that a missing package is known before any work"
    return compiler


def has_gradients(target: str) -> bool:
    """Whether engines for this target can hold graphs with a way back."""
    return target == CPU


def layouts_of(plan: Plan) -> Precision:
    """The layouts of the plan's precision on its target."""
    return LAYOUTS[plan.target][plan.precision]


def opset_of(plan: Plan) -> int | None:
    """The version of the operators that the layouts need where it is above the exporter's."""
    return OPSETS.get(plan.precision) if plan.target == TENSORRT else None


def is_half(plan: Plan) -> bool:
    """Whether all of the graphs is to be made float16; the float32 twin of an engine for cuda is not."""
    return plan.target == CUDA and plan.precision != "fp32"


def modules_of(plan: Plan, tensors: CheckpointTensors) -> Iterator[tuple[str, nn.Module, GraphInterface]]:
    """Name, module and interface of each graph, in the order they are written, each made when wanted."""
    lower, first = plan.decoder.num_lower_layers, min(plan.layers)
    if plan.target == CUDA:
        return cuda_modules(tensors, plan.family, lower, first)
    return graph_modules(
        tensors, plan.family, lower, in_place=plan.in_place, half=plan.half, first_heatmap_layer=first
    )


def fitted_precision(tensors: DescribedTensors, plan: Plan) -> Precision:
    """The layouts of the plan's precision for a model of this size."""
    shapes = {name: tensors.shape(name) for name in tensors.names()}
    return layouts_of(plan).fitted(shapes, plan.decoder.num_lower_layers)


def num_weight_bytes(tensors: DescribedTensors, plan: Plan) -> int:
    """What all tensors of the checkpoint together take in the engine."""
    rules, lower = fitted_precision(tensors, plan), plan.decoder.num_lower_layers
    return sum(rules.num_bytes(name, tensors.shape(name), lower) for name in tensors.names())


def num_build_bytes(tensors: DescribedTensors, plan: Plan) -> int:
    """What a build of the plan has on the disk at most: the engine, and the one it is compared with.

    Every plan holds the weights again.
    """
    twin = float32_twin(tensors, plan)
    copies = 1 if plan.compiler is None else 1 + len(plan.compiler.architectures)
    own = num_own_bytes(*_layouts(tensors, plan)) if plan.target == CPU else 0
    return copies * num_weight_bytes(tensors, plan) + own + (num_weight_bytes(tensors, twin) if twin else 0)


def float32_twin(tensors: DescribedTensors, plan: Plan) -> Plan | None:
    """The plan of the float32 engine whose answers the build compares; None where none is built."""
    twin = replace(plan, precision="fp32")
    if plan.precision == "fp32" or num_weight_bytes(tensors, twin) > LARGEST_COMPARED:
        return None
    return twin


def _layouts(
    tensors: DescribedTensors, plan: Plan
) -> tuple[dict[str, Sequence[int]], Callable[[str], Layout]]:
    """The shapes of all tensors, and the layout of each by its name."""
    rules, lower = fitted_precision(tensors, plan), plan.decoder.num_lower_layers
    shapes: dict[str, Sequence[int]] = {name: tensors.shape(name) for name in tensors.names()}
    return shapes, partial(rules.layout, num_lower_layers=lower)


def twins_of(tensors: DescribedTensors, plan: Plan, exported: Sequence[ExportedGraph]) -> dict[str, int]:
    """The further graphs for whole prompts, by name, and what each takes in memory."""
    if plan.target != CPU:
        return {}
    sources = {graph.name: set(graph.described.values()) for graph in exported}
    return plan_twins(sources, *_layouts(tensors, plan))
