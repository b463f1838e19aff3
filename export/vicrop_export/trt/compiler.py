"""Compiles graphs of standard operators to TensorRT plans: for this machine's GPU, or ahead of time.

The only file that makes TensorRT's builder. Knows graphs, lengths and architectures; nothing of models.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx

from vicrop_engine.engine_dir.manifest import GRAPHS, Plans, plan_file
from vicrop_engine.errors import BuildError, SettingError, one_of
from vicrop_engine.runtime.cuda import this_gpu
from vicrop_export.trt.lengths import Lengths

AHEAD = "tensorrt_rtx"  # compiles for GPUs that are elsewhere
ARCHITECTURES = {"sm_80": "SM80", "sm_86": "SM86", "sm_89": "SM89", "sm_120": "SM120"}
FIRST_WITH_FLOAT8 = 89
INSTALL = {AHEAD: "rtx", "tensorrt": "tensorrt"}


@dataclass(frozen=True)
class Compiler:
    """TensorRT or TensorRT-RTX, by its Python package, and what it compiles for."""

    package: str
    architectures: tuple[str, ...]

    @property
    def module(self) -> Any:
        """The package. Raises BuildError when it is not installed."""
        try:
            return importlib.import_module(self.package)
        except ImportError as error:
            raise BuildError(
                f"compiling for target 'tensorrt' needs {self.package}, which is not installed; run "
                f"pip install 'vicrop-engine[{INSTALL[self.package]}]'"
            ) from error

    @property
    def plans(self) -> Plans:
        """What the manifest says of the plans."""
        return Plans(self.package, self.version, self.architectures)

    @property
    def version(self) -> str:
        """The package's version."""
        return str(self.module.__version__)

    def compile_all(
        self, directory: Path, profiles: Sequence[Lengths], report: Callable[[str, float], None]
    ) -> None:
        """Write the plans of an engine's graphs beside them. `report` hears what is done, and its share.

        Raises BuildError.
        """
        tasks = [(graph, name) for name in self.architectures for graph in GRAPHS]
        for index, (graph, name) in enumerate(tasks):
            report(f"compiling {graph} for {name}", index / len(tasks))
            self.compile(directory / f"{graph}.onnx", directory / plan_file(graph, name), name, profiles)

    def compile(self, graph: Path, plan: Path, architecture: str, profiles: Sequence[Lengths]) -> None:
        """Write the plan of the ONNX file `graph` for one architecture.

        Raises BuildError with the parser's or the builder's own words.
        """
        module, said = self.module, _words(self.module)
        said.errors.clear()
        builder = module.Builder(said)
        flag = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(flag)  # kept, for the parser only points to it
        parser = module.OnnxParser(network, said)
        if not parser.parse_from_file(str(graph)):
            found = [parser.get_error(index) for index in range(parser.num_errors)]
            errors = [f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in found]
            raise BuildError(f"{graph.name}: {self.package} cannot read the graph: {_one_line(errors)}")
        config = builder.create_builder_config()
        if self.package == AHEAD:
            config.num_compute_capabilities = 1
            capability = getattr(module.ComputeCapability, ARCHITECTURES[architecture])
            config.set_compute_capability(capability, 0)
        for shapes in _all_shapes(graph, profiles):
            profile = builder.create_optimization_profile()
            for name, sizes in shapes.items():
                profile.set_shape(name, *sizes)
            config.add_optimization_profile(profile)
        serialized = builder.build_serialized_network(network, config)
        if serialized is None:
            raise BuildError(
                f"{graph.name}: {self.package} {self.version} cannot compile the graph for {architecture}: "
                f"{_one_line(said.errors)}"
            )
        plan.write_bytes(serialized)


def choose_compiler(architectures: Sequence[str], precision: str) -> Compiler:
    """What compiles for these architectures, by default for this machine's GPU.

    Raises SettingError for an architecture that is not known, or that lacks the precision, and without both
    an architecture and a GPU.
    """
    wanted = f"--arch with one or more of {', '.join(ARCHITECTURES)}"
    gpu = None if architectures else this_gpu()
    if not architectures and gpu is None:
        raise SettingError(f"there is no GPU here to compile for; give {wanted}")
    chosen = tuple(dict.fromkeys(architectures)) or (str(gpu),)
    for name in chosen:
        if name not in ARCHITECTURES and name != gpu:
            raise SettingError(one_of("architecture", name, ARCHITECTURES))
        if precision == "fp8" and _number(name) < FIRST_WITH_FLOAT8:
            having = [other for other in ARCHITECTURES if _number(other) >= FIRST_WITH_FLOAT8]
            raise SettingError(
                f"architecture {name} has no float8; build fp8 for {' or '.join(having)}, or take int8"
            )
    return Compiler("tensorrt" if gpu else AHEAD, chosen)


def _number(architecture: str) -> int:
    return int(architecture.removeprefix("sm_"))


def _all_shapes(graph: Path, profiles: Sequence[Lengths]) -> list[dict[str, list[tuple[int, ...]]]]:
    """Least, usual and most shape of every input with a dynamic axis, for each profile that differs.

    None for a graph without such inputs.
    """
    found: list[dict[str, list[tuple[int, ...]]]] = []
    inputs = onnx.load(graph, load_external_data=False).graph.input
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in inputs
    }
    dynamic = {name: own for name, own in axes.items() if any(isinstance(axis, str) for axis in own)}
    for lengths in profiles:
        shapes = {
            name: list(zip(*(lengths.get(axis, (axis,) * 3) for axis in own), strict=True))
            for name, own in dynamic.items()
        }
        if shapes and shapes not in found:
            found.append(shapes)
    return found


@cache
def _words(module: Any) -> Any:
    """The one logger of a process: it keeps what the compiler calls errors."""

    class Words(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(module.ILogger.Severity.ERROR):
                self.errors.append(message)

    return Words()


def _one_line(errors: Iterable[str]) -> str:
    return " ".join(" ".join(errors).split()) or "no reason given"
