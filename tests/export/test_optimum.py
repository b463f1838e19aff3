"""`optimum-cli export vicrop` through optimum's own command line: the same build, words and statuses."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import optimum.commands.base
import pytest
from optimum.commands import optimum_cli

from tests.engines import STRETCH_168, Built, built
from vicrop_engine import builder, cli
from vicrop_engine.engine_dir.manifest import read_manifest
from vicrop_engine.engine_dir.registry import find_model, model_of
from vicrop_export.checks import agreement

ROOT = Path(__file__).parents[2]


class Call(Protocol):
    """Call a command line; gives its exit status, standard output and standard error."""

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]: ...


@pytest.fixture(scope="module")
def made() -> Built:
    """The engine of the tests; never change it."""
    return built(STRETCH_168)


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    logger = logging.getLogger("vicrop_engine")
    handlers, propagate = logger.handlers, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`optimum-cli export vicrop`."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", "vicrop", *map(str, arguments)])
        status: str | int | None = 0
        try:
            optimum_cli.main()
        except SystemExit as stop:
            status = stop.code
        assert isinstance(status, int)
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def build(capsys: pytest.CaptureFixture[str]) -> Call:
    """`vicrop-engine build llava-1.5`."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli.main(["build", "llava-1.5", *map(str, arguments)]), *capsys.readouterr()

    return call


@pytest.mark.usefixtures("quick_export")
def test_it_builds_what_vicrop_engine_builds_and_says_the_same(
    export: Call, build: Call, made: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "MOST", 1)  # question is enough here
    output, options = tmp_path / "engine", ("--precision", "fp16", "--layers", "1-1")
    status, out, err = export("--model", made.checkpoint, *options, output)
    assert status == 0
    manifest = read_manifest(output)
    assert (manifest.model.name, manifest.precision) == ("llava-1.5", "fp16")
    assert manifest.crop.layers == (1,)
    assert err.splitlines()[0] == "  0%  reading the checkpoint"
    assert err.splitlines()[-1] == "100%  done"
    again = build("--checkpoint", made.checkpoint, *options, "-o", output)
    assert again == (0, out, "  0%  reading the checkpoint\n100%  already built\n")
    assert f"engine      {output}" in out


@pytest.mark.parametrize(
    ("model", "options", "status"),
    [
        (".", ("--precision", "int3"), 2),
        (".", ("--target", "npu"), 2),
        (".", ("--layers", "9"), 2),
        ("config.json", (), 2),
        ("nowhere", (), 2),
        (".", ("--force",), 2),  # where somebody's files are
    ],
)
def test_refusals_are_those_of_vicrop_engine(
    model: str,
    options: tuple[str, ...],
    status: int,
    export: Call,
    build: Call,
    made: Built,
    tmp_path: Path,
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    checkpoint = made.checkpoint / model
    wanted = build("--checkpoint", checkpoint, *options, "-o", tmp_path)
    assert (wanted[0], wanted[1]) == (status, "")
    assert export("--model", checkpoint, *options, tmp_path) == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "full"), ValueError("odd")])
def test_failures_have_the_words_and_status_of_vicrop_engine(
    error: BaseException,
    export: Call,
    build: Call,
    made: Built,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(builder, "build_model", fail)
    status, out, err = export("--model", made.checkpoint, tmp_path)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert (status, out, err) == build("--checkpoint", made.checkpoint, "-o", tmp_path)
    traced = export("--model", made.checkpoint, "--debug", tmp_path)[2]
    assert traced.startswith("Traceback")
    assert traced.endswith(err)


def test_its_help_lists_it_and_wrong_usage_is_optimums(export: Call, tmp_path: Path) -> None:
    status, _, err = export(tmp_path)
    assert (status, "required: -m/--model" in err) == (2, True)
    status, out, _ = export("--help")
    assert status == 0
    for option in ("--precision", "--layers", "--target", "--force", "OUT"):
        assert option in out


def test_the_model_is_known_by_its_name_hub_id_or_shipped_directory(
    made: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs, large = find_model("llava-signs"), find_model("llava-1.5-13b")
    assert model_of("llava-signs") == (signs, None)
    assert model_of(str(signs.checkpoint)) == (signs, None)
    assert model_of("llava-1.5-13b") == model_of("llava-hf/llava-1.5-13b-hf") == (large, None)
    other = find_model("llava-1.5")
    for checkpoint in (str(made.checkpoint), "some-one/some-llava", "llava_signs", str(tmp_path)):
        assert model_of(checkpoint) == (other, checkpoint)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llava-signs").mkdir()
    assert model_of("llava-signs") == (other, "llava-signs")  # what is there goes before a name


def test_optimum_finds_it_in_a_namespace_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from optimum.commands.register.register_vicrop import REGISTER_COMMANDS; "
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'numpy', 'vicrop_engine'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    place = ROOT / "engine" / "optimum"
    assert [path.name for path in place.rglob("*.py")] == ["register_vicrop.py"]  # no __init__.py: PEP 420


def test_without_optimum_nothing_misses_it(tmp_path: Path) -> None:
    """The namespace alone is there then."""
    packages = Path(optimum.commands.base.__file__).parents[2]
    for path in packages.iterdir():
        if not path.name.startswith("optimum"):
            (tmp_path / path.name).symlink_to(path)
    ours = [str(ROOT / folder) for folder in ("engine", "export", "kernels")]
    paths = os.pathsep.join([*ours, str(tmp_path)])
    program = (
        "import importlib.util, sys, transformers, vicrop_export.build; from vicrop_engine.cli import main; "
        "print(importlib.util.find_spec('optimum.commands.base')); sys.exit(main(['--version']))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "None"
    assert done.stdout.splitlines()[1].startswith("vicrop-engine ")
