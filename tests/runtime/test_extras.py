"""Packages of an extra that are missing, too old or broken: one sentence with versions and the command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from vicrop_engine import builder
from vicrop_engine.engine_dir.registry import find_model
from vicrop_engine.errors import BuildError
from vicrop_engine.runtime import extras

Versions = Callable[[dict[str, str | None]], None]


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Versions:
    """Says that packages are installed in other versions than they are, or not at all."""

    def pretend(other: dict[str, str | None]) -> None:
        real = extras.package_version
        monkeypatch.setattr(extras, "package_version", lambda name: other.get(name, real(name)))

    return pretend


def test_the_floors_are_those_declared() -> None:
    for extra, names in (("build", {"torch", "transformers", "onnx-ir"}), ("serve", {"starlette", "h11"})):
        assert names <= set(extras.floors(extra))
    assert extras.floors("there-is-none") == {}
    assert extras.extra_problem("build", "building") is None


@pytest.mark.parametrize("old", ["5.0.0", "4.57.1", "5.9", "5.12.0.dev0", "5"])
def test_a_package_that_is_too_old_is_named_with_both_versions(old: str, versions: Versions) -> None:
    versions({"transformers": old})
    floor = extras.floors("build")["transformers"]
    assert extras.extra_problem("build", "building") == (
        f"building needs transformers {floor} or newer, and {old} is installed; "
        "run pip install -U 'vicrop-engine[cpu,build]'"
    )


@pytest.mark.parametrize("new", ["99", "5.100.0", "6.0.0rc1"])
def test_newer_ones_do(new: str, versions: Versions) -> None:
    versions({"transformers": new, "torch": f"{new}+cpu"})
    assert extras.extra_problem("build", "building") is None


@pytest.mark.parametrize("name", ["onnx", "safetensors"])
def test_a_missing_one_is_named(name: str, versions: Versions, tmp_path: Path) -> None:
    versions({name: None})
    with pytest.raises(BuildError, match=rf"needs {name}, which is not installed; run pip install 'vic"):
        builder.build_model(find_model("llava-signs"), tmp_path / "engine")
    assert list(tmp_path.iterdir()) == []


def build_with(code: str, tmp_path: Path) -> tuple[int, str]:
    """Status and standard error of a build in a process where `code` has run before."""
    arguments = ["build", "llava-signs", "-o", str(tmp_path / "e")]
    main = f"from vicrop_engine import cli; sys.exit(cli.main({arguments!r}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{main}"], capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("sys.modules['onnx_ir'] = None", "building needs onnx_ir, which is not installed"),
        ("import torch; del torch.export", "module 'torch' has no attribute 'export'"),
        ("import onnx; del onnx.helper; sys.modules['onnx.helper'] = None", "onnx"),
        (
            "import transformers; sys.modules['transformers.image_processing_backends'] = None",
            "transformers.image_processing_backends",
        ),
    ],
    ids=["missing", "without a function", "without a part", "without a part used late"],
)
def test_what_fails_inside_a_package_is_one_sentence(code: str, words: str, tmp_path: Path) -> None:
    status, said = build_with(code, tmp_path)
    *_, error = said.splitlines()
    assert status == 1
    assert "Traceback" not in said
    assert "unexpected" not in said
    assert error.startswith("error: building ")
    assert words in error
    assert "pip install " in error
    assert not (tmp_path / "e").exists()


def test_versions_that_pip_does_not_know_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: str) -> list[str]:
        raise metadata.PackageNotFoundError("vicrop-engine")

    monkeypatch.setattr(extras.metadata, "requires", unknown)
    assert extras.extra_problem("build", "building") is None
    assert "none that pip knows of" in extras.import_problem(ImportError("x"), "build", "building")
