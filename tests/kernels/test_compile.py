"""The kernel compiled ahead of time, with no GPU: by its command, in a process without the interpreter."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ARCHITECTURES = ("sm_80", "sm_89", "sm_90")


def run(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "vicrop_kernels.compile", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**kept, **extra})


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("kernels")
    done = run("--arch", ",".join(ARCHITECTURES), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out, json.loads((out / "kernels.json").read_text(encoding="utf-8"))


def test_every_variant_is_compiled(compiled: tuple[Path, list[dict[str, Any]]]) -> None:
    out, kernels = compiled
    variants = {(one["architecture"], one["rows"], one["mode"]) for one in kernels}
    modes, types = ("relative", "gradient"), ("fp16", "fp32")
    assert variants == {(arch, rows, mode) for arch in ARCHITECTURES for rows in types for mode in modes}
    assert len({one["cubin_sha256"] for one in kernels}) == len(variants)
    for one in kernels:
        cubin, ptx = (out / one["cubin"]).read_bytes(), (out / one["ptx"]).read_text(encoding="utf-8")
        assert cubin[:4] == b"\x7fELF"
        assert hashlib.sha256(cubin).hexdigest() == one["cubin_sha256"]
        assert f".target {one['architecture']}" in ptx
        assert f".version {one['ptx_version']}" in ptx
        assert f".visible .entry {one['name']}(" in ptx


def test_nothing_is_spilled(compiled: tuple[Path, list[dict[str, Any]]]) -> None:
    for one in compiled[1]:
        assert one["spill_stores"] == one["spill_loads"] == one["stack"] == 0, one
        assert 0 < one["registers"] <= 128
        assert 0 < one["shared"] <= 48 * 1024
        assert one["threads"] == 256


def test_no_product_is_added_unrounded(compiled: tuple[Path, list[dict[str, Any]]]) -> None:
    """A fused multiply-add would round a box's edge otherwise than the processor does."""
    out, kernels = compiled
    for one in kernels:
        ptx = (out / one["ptx"]).read_text(encoding="utf-8")
        assert "mul.f64" in ptx or "mul.rn.f64" in ptx
        assert "fma.rn" not in ptx
        assert "div.rn.f32" in ptx
        assert "div.rn.f64" in ptx


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--arch", "sm_12"), "got architecture 'sm_12', wanted one of sm_80, "),
        (("--rows", "fp64"), "got row type 'fp64', wanted one of fp16, "),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, words: tuple[str, str], message: str) -> None:
    done = run(*words, "--out", str(tmp_path))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_interpreter_is_refused(tmp_path: Path) -> None:
    done = run("--arch", "sm_80", "--out", str(tmp_path), TRITON_INTERPRET="1")
    assert done.returncode == 2
    assert "unset TRITON_INTERPRET" in done.stderr
    assert "Traceback" not in done.stderr
