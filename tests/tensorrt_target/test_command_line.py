"""`build --target tensorrt` through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, refused, run
from tests.tensorrt_target.conftest import ARCHITECTURE, MODEL

__all__ = ["run"]
BUILD = ("build", "llava-signs", "--target", "tensorrt")


def test_unknown_architectures_precisions_and_targets_are_refused(run: Run, tmp_path: Path) -> None:
    known = "sm_80, sm_86, sm_89, sm_120"
    refused(run(*BUILD, "-o", tmp_path / "e", "--arch", "sm_85"), "unknown architecture 'sm_85'", known)
    refused(run(*BUILD, "--precision", "fp8", "--arch", "sm_86"), "sm_86 has no float8", "sm_89 or sm_120")
    refused(run("build", "llava-signs", "--precision", "fp8"), "unknown precision 'fp8'", "known: fp32")
    refused(run("build", "llava-signs", "--arch", "sm_86"), "this is 'cpu'")
    refused(run("build", "clip", "--arch", "sm_86"), "clip is built in fp32 for cpu")
    refused(run(*BUILD, "--arch", "sm_86", "--pure-grad"), "pure-grad is not in engines for tensorrt")
    refused(run("build", "llava-signs", "--target", "tensorr"), "did you mean 'tensorrt'")
    assert not (tmp_path / "e").exists()


def test_architectures_are_told_apart_by_commas(
    run: Run,
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def build_model(_model: object, output: Path, **options: Any) -> None:
        asked.update(options)
        output.symlink_to(directory)

    monkeypatch.setattr("vicrop_engine.builder.build_model", build_model)
    ran = run(*BUILD, "--precision", "fp8", "--arch", "sm_89,sm_120", "-o", tmp_path / "engine")
    assert ran.status == 0
    assert (asked["precision"], asked["architectures"]) == ("fp8", ("sm_89", "sm_120"))
    assert f"for {ARCHITECTURE}, by tensorrt_rtx" in ran.out


def test_without_a_gpu_an_engine_says_what_to_do(
    run: Run,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vicrop_engine.runtime.nvidia.LIBRARY", "libnosuch.so.1")
    ran = run("ask", directory, MODEL.home / "demo.png", "What is it?")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines()[-1].startswith("error: no NVIDIA driver is on this machine")
