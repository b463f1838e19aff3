"""The embedded model built for TensorRT, once, and its graphs in every precision."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from vicrop_engine import ViCropEngine
from vicrop_engine.builder import build_model
from vicrop_engine.engine_dir.registry import find_model
from vicrop_export import build
from vicrop_export.build import write_graphs
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.locate import locate
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.modules.interfaces import graph_modules
from vicrop_export.onnx_files.exported import ExportedGraph, export_described
from vicrop_export.plan import Plan, make_plan
from vicrop_export.quiet import quiet

MODEL = find_model("llava-signs")
ARCHITECTURE = "sm_86"


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VICROP_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's engine for target tensorrt, float32, with plans for one architecture."""
    directory = tmp_path_factory.mktemp("tensorrt") / "engine"
    ready = {graph.name: graph for graph in exported(half=False)}
    with pytest.MonkeyPatch.context() as patch:  # exported once for all tests; all else of the build is real
        patch.setattr(build, "export_described", lambda name, *_: ready[name])
        build_model(MODEL, directory, target="tensorrt", architectures=[ARCHITECTURE])
    return directory


@pytest.fixture(scope="session")
def on_cpu(directory: Path) -> ViCropEngine:
    """That engine on ONNX Runtime."""
    return ViCropEngine.load(directory, provider="cpu")


@cache
def plan_of(precision: str) -> Plan:
    """What building the embedded model for TensorRT would do."""
    checkpoint = locate(MODEL.checkpoint)
    return make_plan(checkpoint, name=MODEL.name, layers=MODEL.layers, precision=precision, target="tensorrt")


@cache
def exported(*, half: bool) -> list[ExportedGraph]:
    """The embedded model's graphs of standard operators."""
    plan, tensors = plan_of("fp16" if half else "fp32"), DescribedTensors(MODEL.checkpoint, canonical_name)
    lower = plan.decoder.num_lower_layers
    with quiet():
        modules = graph_modules(tensors, plan.family, lower, in_place=False, half=half)
        return [export_described(*graph) for graph in modules]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories with the embedded model's graphs by precision, as a build writes them."""
    root, directories = tmp_path_factory.mktemp("precisions"), {}
    for precision in ("fp32", "fp16", "int8", "int4", "fp8"):
        plan, directories[precision] = plan_of(precision), root / precision
        directories[precision].mkdir()
        tensors = DescribedTensors(MODEL.checkpoint, canonical_name)
        write_graphs(directories[precision], plan, exported(half=plan.half), tensors, lambda *_: None)
    return directories
