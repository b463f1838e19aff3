"""Which operators each flavour's graphs are made of, as docs/tensorrt.md lists them, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.tensorrt_target.conftest import MODEL
from vicrop_engine.engine_dir.manifest import GRAPHS
from vicrop_export.checks.parity import open_whole
from vicrop_export.onnx_files.export import OPSET

DOCS = Path(__file__).parents[2] / "docs" / "tensorrt.md"
OPSETS = {"fp32": OPSET, "fp16": OPSET, "int8": OPSET, "int4": 21, "fp8": 19}
PRECISIONS = tuple(OPSETS)


def operators(directory: Path) -> set[str]:
    """Every operator of the three graphs, with its domain where that is not ONNX's own."""
    graphs = (onnx.load(directory / f"{name}.onnx", load_external_data=False).graph for name in GRAPHS)
    nodes = [node for graph in graphs for node in nodes_of(graph)]
    return {f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes}


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Its nodes, those in the branches of conditions included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from nodes_of(attribute.g)


def listed(flavour: str) -> set[str]:
    """The row of a flavour in the table of operators; `as` another one has those too."""
    row = re.search(
        rf"^\| `{flavour}` \| (?:as `(?P<base>[^`]+)`, and )?(?P<names>[^|]+) \|$", DOCS.read_text(), re.M
    )
    assert row is not None, f"docs/tensorrt.md has no row for {flavour}"
    base = listed(row["base"]) if row["base"] else set()
    return base | {name.strip() for name in row["names"].split(",")}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_has_just_the_operators_listed(written: dict[str, Path], precision: str) -> None:
    assert operators(written[precision]) == listed(f"tensorrt {precision}")


def test_the_cpu_flavour_has_just_the_operators_listed() -> None:
    assert operators(MODEL.shipped_engine) == listed("cpu fp32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_graphs_are_valid_and_of_one_opset(written: dict[str, Path], precision: str) -> None:
    for name in GRAPHS:
        path = written[precision] / f"{name}.onnx"
        onnx.checker.check_model(str(path), full_check=True)
        imports = onnx.load(path, load_external_data=False).opset_import
        assert {entry.domain: entry.version for entry in imports} == {"": OPSETS[precision]}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_keys_and_values_are_in_the_type_of_the_products(written: dict[str, Path], precision: str) -> None:
    lower = open_whole(written[precision] / "decoder_lower.onnx")
    kinds = {
        item.type
        for item in (*lower.get_inputs(), *lower.get_outputs())
        if item.name.endswith((".key", ".value"))
    }
    assert kinds == {"tensor(float)" if precision == "fp32" else "tensor(float16)"}
    others = {item.type for item in lower.get_outputs() if not item.name.startswith("present.")}
    assert others == {"tensor(float)"}


def test_the_tower_takes_one_picture(written: dict[str, Path]) -> None:
    tower = open_whole(written["fp16"] / "vision.onnx")
    (pixels,) = tower.get_inputs()
    assert pixels.shape[0] == 1
    assert all(isinstance(size, int) for size in pixels.shape)
    (embeds,) = tower.run(None, {pixels.name: np.zeros(pixels.shape, np.float32)})
    assert np.isfinite(embeds).all()
