"""TensorRT-RTX compiles the graphs of pictures of any size and of positions with axes, without a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.qwen_checkpoints import write_qwen_checkpoint
from tests.qwen_documents import QwenSpec
from vicrop_engine.engine_dir.manifest import GRAPHS
from vicrop_export.build import write_graphs
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.locate import locate
from vicrop_export.onnx_files.exported import export_described
from vicrop_export.plan import make_plan
from vicrop_export.quiet import quiet
from vicrop_export.targets import modules_of
from vicrop_export.trt.compiler import choose_compiler
from vicrop_export.trt.lengths import demand_aligned, plan_lengths, planned_context

ARCHITECTURES = ("sm_86", "sm_120")
SMALL = QwenSpec(hidden=128, heads=4, kv_heads=4, layers=2, vision_layers=2, full_layers=(1,))
SPECS = {
    "2.5": SMALL,
    "2": replace(SMALL, kind="qwen2_vl"),
    "3": replace(SMALL, kind="qwen3_vl", tapped_layers=(0, 1)),
}


@pytest.mark.parametrize(("kind", "precision"), [("2.5", "fp16"), ("3", "int8"), ("2", "fp32")])
def test_plans_compile_for_two_architectures(kind: str, precision: str, tmp_path: Path) -> None:
    checkpoint = locate(write_qwen_checkpoint(tmp_path / "checkpoint", SPECS[kind]))
    plan = make_plan(checkpoint, name="x", layers="1", precision=precision, target="tensorrt")
    plan = replace(plan, layers=(0,)) if not plan.decoder.added_embeds else plan
    tensors = DescribedTensors(checkpoint.directory, plan.family.canonical_name)
    demand_aligned(plan.decoder, 2 if plan.half else 4)
    with quiet():
        graphs = [export_described(*graph) for graph in modules_of(plan, tensors)]
    write_graphs(tmp_path, plan, graphs, tensors, lambda *_: None)
    lengths = plan_lengths(plan.vision, plan.decoder, plan.family.picture_axes)
    for architecture in ARCHITECTURES:
        compiler = choose_compiler([architecture], precision)
        for graph in GRAPHS:
            compiler.compile(tmp_path / f"{graph}.onnx", tmp_path / "plan", architecture, lengths)
            assert (tmp_path / "plan").stat().st_size > 0


def test_a_picture_has_the_same_lengths_in_every_profile(tmp_path: Path) -> None:
    checkpoint = locate(write_qwen_checkpoint(tmp_path, SPECS["2.5"]))
    plan = make_plan(checkpoint, name="x", layers="1", precision="fp32", target="tensorrt")
    for lengths in plan_lengths(plan.vision, plan.decoder, plan.family.picture_axes):
        assert lengths["patches"] == (4, 4 * 48, 4 * 48)
        assert lengths["windows"] == (1, 4, 12)


@pytest.mark.parametrize(
    ("context", "image_tokens", "planned"),
    [(4096, 576, 4096), (8192, 64, 8192), (128000, 1280, 8192), (262144, 4000, 10048)],
)
def test_plans_are_made_for_no_more_than_pictures_and_text_take(
    context: int, image_tokens: int, planned: int
) -> None:
    assert planned_context(context, image_tokens) == planned
