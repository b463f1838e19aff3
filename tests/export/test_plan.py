"""What a plan refuses before any work is done, and what the target decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.checkpoints import write_checkpoint
from tests.export.conftest import SMALL
from vicrop_engine.errors import CheckpointError
from vicrop_export.build import build_engine
from vicrop_export.checkpoint.locate import locate
from vicrop_export.ops.attention import HEAD_DIM_MULTIPLE
from vicrop_export.plan import make_plan

ODD = replace(SMALL, hidden=48)  # four heads of 12


def test_heads_the_attention_lacks_are_refused_before_any_work(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", ODD)
    stages: list[str] = []
    with pytest.raises(CheckpointError, match=r"head_dim is 12, wanted a multiple of 8: .* choose another"):
        build_engine(
            checkpoint, tmp_path / "engine", name="x", progress=lambda stage, _: stages.append(stage)
        )
    assert stages == ["reading the checkpoint"]
    assert list(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parametrize(("target", "in_place"), [("cpu", True), ("cuda", True), ("tensorrt", False)])
def test_the_target_decides_whether_buffers_are_written_in_place(
    target: str, in_place: bool, checkpoint: Path
) -> None:
    plan = make_plan(locate(checkpoint), name="x", layers=None, precision="fp32", target=target)
    assert plan.in_place == in_place


def test_where_nothing_is_written_in_place_heads_may_have_any_size(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, ODD)
    plan = make_plan(locate(checkpoint), name="x", layers=None, precision="fp32", target="tensorrt")
    assert plan.decoder.head_dim % HEAD_DIM_MULTIPLE
