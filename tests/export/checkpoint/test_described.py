"""Descriptions of weights: right in shape and name, never read, never taken for one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.checkpoints import CheckpointSpec, write_checkpoint
from tests.export.conftest import edit_weights
from vicrop_engine.errors import CheckpointError
from vicrop_export.build import write_graphs
from vicrop_export.checkpoint.described import DescribedTensors, sources
from vicrop_export.checkpoint.locate import locate
from vicrop_export.checks.parity import open_whole
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.modules.interfaces import graph_modules
from vicrop_export.onnx_files.exported import ExportedGraph, export_described
from vicrop_export.onnx_files.stacking import stacked_weights
from vicrop_export.onnx_files.writer import write_graph
from vicrop_export.plan import Plan, make_plan
from vicrop_export.precision.layouts import Layout
from vicrop_export.precision.rules import PRECISIONS
from vicrop_export.quiet import quiet

SPEC = CheckpointSpec(seed=3, hidden=32, layers=2, vision_hidden=16, vision_layers=2, image_size=56)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    directory = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), SPEC)
    with quiet():
        return make_plan(locate(directory), name="x", layers=(0,), precision="fp32", target="cpu")


@pytest.fixture(scope="module")
def tensors(plan: Plan) -> DescribedTensors:
    return DescribedTensors(plan.checkpoint.directory, plan.family.canonical_name)


@pytest.fixture(scope="module")
def upper(plan: Plan, tensors: DescribedTensors) -> ExportedGraph:
    with quiet():
        return next(
            export_described(*graph)
            for graph in graph_modules(tensors, plan.family, 1)
            if graph[0] == "decoder_upper"
        )


def test_a_described_projection_takes_no_memory(tensors: DescribedTensors) -> None:
    one, other = (tensors.projection(f"language_model.layers.{i}.mlp.up_proj") for i in (0, 1))
    assert one.weight.shape == (32, 64)
    assert one.weight.untyped_storage().nbytes() == 4
    assert one.weight[0, 0] != other.weight[0, 0]


def test_every_projection_of_a_graph_is_described_once(
    plan: Plan, tensors: DescribedTensors, upper: ExportedGraph
) -> None:
    module = next(m for name, m, _ in graph_modules(tensors, plan.family, 1) if name == "decoder_upper")
    assert upper.described == sources(module)
    assert len(set(upper.described.values())) == 8  # q, k, v, o, gate, up, down and the language head
    assert "lm_head.weight" in upper.described.values()


def test_the_exported_graph_is_small_whatever_the_model(upper: ExportedGraph) -> None:
    assert upper.proto.ByteSize() < 100_000


@pytest.mark.parametrize("precision", PRECISIONS)
def test_written_weights_are_the_checkpoints_own(
    precision: str, plan: Plan, tensors: DescribedTensors, upper: ExportedGraph, tmp_path: Path
) -> None:
    path, heard = tmp_path / "decoder_upper.onnx", []
    rules = PRECISIONS[precision]

    def layout_of(source: str) -> Layout:
        return rules.layout(source, num_lower_layers=1)

    write_graph(upper.model(), upper.described, tensors, layout_of, path, lambda name, _: heard.append(name))
    assert sorted(heard) == sorted(upper.described.values())
    assert open_whole(path).get_outputs()[0].name == "logits"
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
    stacks = stacked_weights(upper.model().graph, upper.described, layout_of)
    assert sum(map(len, stacks.values())) == len(upper.described)
    for parameter, stack in stacks.items():
        together = [upper.described[str(weight.name)] for weight in stack]
        encoded = [layout_of(source).encode(tensors.get(source)) for source in together]
        for ending in encoded[0]:
            wanted = np.concatenate([arrays[ending] for arrays in encoded])
            np.testing.assert_array_equal(stored[parameter + ending], wanted)


@pytest.mark.parametrize(
    ("stored", "name", "way_out"),
    [
        ("language_model.lm_head.weight", "lm_head.weight", "build with fp32 or int8"),
        ("language_model.model.embed_tokens.weight", "language_model.embed_tokens.weight", "build with fp32"),
    ],
)
def test_a_number_beyond_float16_is_refused_by_the_tensors_name(
    stored: str, name: str, way_out: str, upper: ExportedGraph, checkpoint: Path, tmp_path: Path
) -> None:
    edit_weights(checkpoint, lambda state: state[stored].view(-1)[7:8].fill_(1e5))
    tensors = DescribedTensors(checkpoint, canonical_name)
    with quiet():
        plan = make_plan(locate(checkpoint), name="x", layers=(0,), precision="fp16", target="cpu")
    with pytest.raises(CheckpointError) as caught:
        write_graphs(tmp_path, plan, [upper], tensors, lambda *_: None)
    words = f"tensor {name!r} holds a number beyond float16's largest, 65504; {way_out}"
    assert str(caught.value) == f"{checkpoint}: {words}"


def test_tied_embeddings_are_the_language_head(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, replace(SPEC, tie_word_embeddings=True))
    with quiet():
        plan = make_plan(locate(directory), name="x", layers=(1,), precision="fp32", target="cpu")
    modules = {
        name: module
        for name, module, _ in graph_modules(DescribedTensors(directory, canonical_name), plan.family, 2)
    }
    tied = {"vocabulary.weight": "language_model.embed_tokens.weight"}
    assert sources(modules["decoder_upper"]) == tied
    assert sources(modules["grad_att"]).items() > {f"head.{name}": tied[name] for name in tied}.items()
