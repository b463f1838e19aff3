"""TensorRT-RTX reads and compiles every graph on a machine without a GPU; what it cannot is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from benchmarks.true_size import Size, make_config, write_settings, write_weights
from tests.tensorrt_target.conftest import ARCHITECTURE, MODEL, plan_of
from vicrop_engine.cli.facts import engine_facts, engine_info
from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.manifest import GRAPHS, read_manifest
from vicrop_engine.errors import (
    BuildError,
    CheckpointError,
    EngineDamagedError,
    EngineDirectoryError,
    SettingError,
)
from vicrop_export.build import build_engine, write_graphs
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.locate import locate
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.modules.interfaces import graph_modules
from vicrop_export.onnx_files.exported import export_described
from vicrop_export.plan import make_plan
from vicrop_export.quiet import quiet
from vicrop_export.trt.compiler import ARCHITECTURES, Compiler, choose_compiler
from vicrop_export.trt.lengths import demand_aligned, plan_lengths

PRECISIONS = {"fp16": "sm_80", "int8": "sm_86", "int4": "sm_89", "fp8": "sm_120"}
SHALLOW = Size(hidden=4096, intermediate=11008, layers=2, heads=32, shards=1, vision_layers=2)


def compiled(directory: Path, compiler: Compiler, plan_file: Path, graph: str) -> int:
    """Bytes of the plan of one of the embedded model's graphs."""
    plan = plan_of("fp32")
    lengths = plan_lengths(plan.vision, plan.decoder)
    compiler.compile(directory / f"{graph}.onnx", plan_file, compiler.architectures[0], lengths)
    return plan_file.stat().st_size


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_compiles(written: dict[str, Path], tmp_path: Path, precision: str) -> None:
    compiler = choose_compiler([PRECISIONS[precision]], precision)
    for graph in GRAPHS:
        weights = (written[precision] / f"{graph}.onnx.data").stat().st_size
        assert compiled(written[precision], compiler, tmp_path / "plan", graph) > weights


def test_a_build_compiles_for_what_it_was_asked_and_says_so(directory: Path) -> None:
    manifest = read_manifest(directory)
    assert manifest.plans is not None
    assert manifest.plans.compiler == "tensorrt_rtx"
    assert manifest.plans.architectures == (ARCHITECTURE,)
    plans = {name for name in manifest.files if name.endswith(".plan")}
    assert plans == {f"{graph}.{ARCHITECTURE}.plan" for graph in GRAPHS}
    for name in plans:
        assert manifest.files[name] == hash_file(directory / name)
    facts = engine_facts(engine_info(directory, verify=True))
    assert facts["plans"] == f"for {ARCHITECTURE}, by tensorrt_rtx {manifest.plans.version}"
    assert "grad_att.onnx" not in manifest.files


def test_the_same_build_again_is_kept_and_other_architectures_are_another_engine(directory: Path) -> None:
    options = {"name": MODEL.name, "layers": MODEL.layers, "target": "tensorrt"}
    kept = build_engine(MODEL.checkpoint, directory, **options, architectures=[ARCHITECTURE])
    assert kept == read_manifest(directory)
    with pytest.raises(EngineDirectoryError, match=r"fp32 for tensorrt on sm_86.*--force"):
        build_engine(MODEL.checkpoint, directory, **options, architectures=["sm_89"])


def test_a_changed_plan_is_found(directory: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(directory, tmp_path / "engine"))
    plan = copy / f"vision.{ARCHITECTURE}.plan"
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)
    with pytest.raises(EngineDamagedError, match=r"vision\.sm_86\.plan: sha256 differs"):
        engine_info(copy, verify=True)


def test_two_layers_of_the_7b_shape_compile_in_half_precision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Hidden 4096, intermediate 11008, 32 heads, the whole vocabulary; a plan holds the weights once.

    The noise is the same in every row, which is quicker to draw.
    """
    monkeypatch.setattr("benchmarks.true_size.random_tensor", same_rows)
    checkpoint, directory = tmp_path / "checkpoint", tmp_path / "graphs"
    checkpoint.mkdir()
    directory.mkdir()
    config = make_config(SHALLOW, SHALLOW.layers)
    write_settings(checkpoint, config)
    write_weights(checkpoint, config, SHALLOW.shards, seed=0)
    plan = make_plan(locate(checkpoint), name="llava-1.5", layers="0", precision="fp16", target="tensorrt")
    tensors = DescribedTensors(checkpoint, canonical_name)
    with quiet():
        modules = graph_modules(tensors, plan.family, 1, in_place=False, half=True)
        graphs = [export_described(*graph) for graph in modules if graph[0] != "vision"]
    write_graphs(directory, plan, graphs, tensors, lambda *_: None)
    compiler = choose_compiler([ARCHITECTURE], "fp16")
    lengths = plan_lengths(plan.vision, plan.decoder)
    for name, matrices in (("decoder_lower", 0), ("decoder_upper", 32064 * 4096)):
        matrices += 4 * 4096 * 4096 + 3 * 4096 * 11008
        path = directory / f"{name}.plan"
        compiler.compile(directory / f"{name}.onnx", path, ARCHITECTURE, lengths)
        assert 2 * matrices < path.stat().st_size < 2.1 * matrices
        path.unlink()


def same_rows(_name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """A float16 tensor made of one row of noise."""
    row = torch.randn(shape[-1:], generator=generator).mul_(shape[-1] ** -0.5)
    return row.to(torch.float16).expand(shape).contiguous()


def test_lengths_are_those_of_decode_suffix_and_prefill() -> None:
    plan = plan_of("fp32")
    decode, suffix, prefill = plan_lengths(plan.vision, plan.decoder)
    context, image = plan.decoder.context_length, plan.vision.image_tokens
    assert (decode["seq"].least, decode["seq"].usual) == (1, 1)
    assert prefill["past"] == (0, 0, 0)
    assert suffix["past"].least == 1
    for lengths in (decode, suffix):
        assert lengths["past"].most == context - 1
    for lengths in (suffix, prefill):
        assert lengths["seq"].most >= 2 * image
    for lengths in (decode, suffix, prefill):
        sums = [new + past for new, past in zip(lengths["seq"], lengths["past"], strict=True)]
        assert list(lengths["total"]) == sums


def test_architectures_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicrop_export.trt.compiler.this_gpu", lambda: None)
    known = ", ".join(ARCHITECTURES)
    with pytest.raises(SettingError, match=f"no GPU here to compile for; give --arch .*{known}"):
        choose_compiler([], "fp16")
    with pytest.raises(SettingError, match=f"unknown architecture 'sm_98'; known: {known}; did you mean"):
        choose_compiler(["sm_98"], "fp16")
    for name in ("sm_80", "sm_86"):
        with pytest.raises(SettingError, match=f"{name} has no float8; build fp8 for sm_89 or sm_120"):
            choose_compiler(["sm_89", name], "fp8")
    assert choose_compiler(["sm_89", "sm_120", "sm_89"], "fp8").architectures == ("sm_89", "sm_120")


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    options = {"name": MODEL.name, "architectures": ["sm_86"]}
    with pytest.raises(SettingError, match="architectures are for target 'tensorrt' and this is 'cpu'"):
        build_engine(MODEL.checkpoint, tmp_path / "engine", **options)
    with pytest.raises(SettingError, match="pure-grad is not in engines for tensorrt"):
        build_engine(MODEL.checkpoint, tmp_path / "engine", **options, target="tensorrt", pure_grad=True)
    with pytest.raises(SettingError, match="precision 'fp8' cannot be built"):
        build_engine(MODEL.checkpoint, tmp_path / "engine", name=MODEL.name, precision="fp8")
    assert not list(tmp_path.iterdir())


def test_tokens_have_to_begin_where_a_plan_may_write() -> None:
    decoder = plan_of("fp32").decoder
    row = decoder.num_kv_heads * decoder.head_dim
    assert row % 128 == 0
    demand_aligned(decoder, 2)
    with pytest.raises(CheckpointError, match=f"keys take {row} bytes, wanted a multiple of 256"):
        demand_aligned(decoder, 1)


def test_a_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(BuildError, match=r"pip install 'vicrop-engine\[rtx\]'"):
        build_engine(
            MODEL.checkpoint, tmp_path / "engine", name="x", target="tensorrt", architectures=["sm_86"]
        )
    with pytest.raises(BuildError, match=r"pip install 'vicrop-engine\[tensorrt\]'"):
        _ = Compiler("tensorrt", ("sm_90",)).version
    assert not list(tmp_path.iterdir())


def test_the_gpu_here_is_compiled_for_with_tensorrt_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicrop_export.trt.compiler.this_gpu", lambda: "sm_90")
    assert choose_compiler([], "fp8") == Compiler("tensorrt", ("sm_90",))
    assert choose_compiler(["sm_89"], "fp8") == Compiler("tensorrt_rtx", ("sm_89",))


def write_graph(path: Path, kind: str, domain: str = "") -> Path:
    """A graph of one operator of two matrices."""
    axes = [8, 8]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in "xyz"]
    node = helper.make_node(kind, ["x", "y"], ["z"], domain=domain)
    graph = helper.make_graph([node], "one", values[:2], values[2:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_what_the_parser_refuses_is_said(tmp_path: Path) -> None:
    compiler = choose_compiler([ARCHITECTURE], "fp32")
    path = write_graph(tmp_path / "strange.onnx", "Unheard", "com.microsoft")
    with pytest.raises(BuildError, match=r"strange\.onnx: tensorrt_rtx cannot read the graph: .*Unheard"):
        compiler.compile(path, tmp_path / "plan", ARCHITECTURE, [])
    assert not (tmp_path / "plan").exists()


def test_what_the_builder_refuses_is_said(written: dict[str, Path], tmp_path: Path) -> None:
    """Float8 on an architecture without it, past the check that names it first."""
    compiler = Compiler("tensorrt_rtx", ("sm_80",))
    with pytest.raises(BuildError, match=r"cannot compile the graph for sm_80: .*fp8"):
        compiled(written["fp8"], compiler, tmp_path / "plan", "decoder_upper")


def test_a_manifest_without_plans_still_loads() -> None:
    document = json.loads((MODEL.shipped_engine / "manifest.json").read_text())
    document.pop("plans", None)
    assert type(read_manifest(MODEL.shipped_engine)).from_dict(document).plans is None
