"""Wrong usage: one sentence that says what to do, exit status 2, nothing on standard output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("Missing command", "--help")),
        (("bild", "llava-signs"), ("bild", "did you mean 'build'")),
        (("ask",), ("ENGINE", "vicrop-engine ask --help")),
        (("ask", "llava-signs", "picture.png"), ("QUESTION",)),
        (("ask", "llava-signs", "p.png", "q", "--methode", "none"), ("--methode", "--method")),
        (("ask", "llava-signs", "p.png", "q", "--max-new-tokens", "many"), ("--max-new-tokens",)),
        (("ask", "llava-signs", "p.png", "q", "--box", "1,2,3"), ("--box", "1,2,3", "x0,y0,x1,y1")),
        (("ask", "llava-signs", "p.png", "q", "--overlay", "seen.jpg"), ("seen.jpg", ".png")),
        (("ask", "llava-signs", "p.png", "q", "--overlay", "no/such/seen.png"), ("no/such",)),
        (("ask", "llava-signs", "p.png", "q", "--threads", "two"), ("--threads", "integer")),
        (("info", "--verify"), ("ENGINE",)),
        (("bench",), ("ENGINE_OR_URL", "vicrop-engine bench --help")),
        (("evaluate", "llava-signs"), ("evaluate",)),
    ],
)
def test_wrong_usage_is_one_sentence(run: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(run(*arguments), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("build", "llava-sings"), ("llava-sings", "did you mean 'llava-signs'", "llava-1.5-13b")),
        (("build", "blip-2"), ("blip-2", "known: llava-signs, llava-1.5, llava-1.5-13b")),
        (("build", "llava-signs", "--precision", "int2"), ("int2", "known: fp32, fp16, int8, int4")),
        (("build", "llava-signs", "--target", "cudo"), ("cudo", "known: cpu, cuda", "did you mean 'cuda'")),
        (("build", "llava-signs", "--checkpoint", "./no-such-checkpoint"), ("no-such-checkpoint",)),
        (("info", "lava-1.5"), ("lava-1.5", "did you mean 'llava-1.5'")),
        (("info", "./nothing-here"), ("nothing-here", "does not exist", "vicrop-engine build")),
        (("info", "llava-1.5"), ("never built", "vicrop-engine build llava-1.5")),
    ],
)
def test_unknown_names_list_what_is_known(
    run: Run, own_cache: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(run(*arguments), *words)
    assert not own_cache.exists()


def test_a_directory_that_is_no_engine_is_refused(run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "pictures"
    directory.mkdir()
    refused(run("info", directory), "not an engine directory", "manifest.json")
    assert list(directory.iterdir()) == []


def test_help_goes_to_standard_output(run: Run) -> None:
    ran = run("--help")
    assert (ran.status, ran.err) == (0, "")
    for command in ("build", "ask", "demo", "info"):
        assert f"\n  {command} " in ran.out


def test_debug_shows_the_traceback_and_keeps_the_status(run: Run) -> None:
    ran = run("info", "./nothing-here", "--debug")
    assert ran.status == 2
    assert "Traceback" in ran.err
    assert "EngineDirectoryError" in ran.err
    assert ran.err.splitlines()[-1].startswith("error: ")


def test_an_unexpected_error_is_a_sentence_with_status_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the roof is gone")

    monkeypatch.setattr("vicrop_engine.cli.facts.machine_info", fail)
    ran = run("info")
    assert (ran.status, ran.out) == (1, "")
    assert "RuntimeError" in ran.err
    assert "--debug" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "overlay.png"), "no space left"),
        (PermissionError(13, "Permission denied", "cache"), "cache: Permission denied"),
        (KeyboardInterrupt(), "stopped"),
        (MemoryError(), "not enough memory for this; give a smaller picture"),
        (OSError(12, "Cannot allocate memory"), "not enough memory"),
        (RuntimeError("can't start new thread"), "not enough memory"),
        (Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory"), "not enough"),
    ],
)
def test_failures_of_the_machine_have_status_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, words: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("vicrop_engine.cli.facts.machine_info", fail)
    ran = run("info")
    assert (ran.status, ran.out) == (1, "")
    assert words in ran.err
    assert ran.err.count("\n") == 1


def test_the_installed_command_answers_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vicrop_engine.cli", "ask", "llava-signs", "missing.png", "What?"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "VICROP_HOME": str(tmp_path / "c")},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: missing.png does not exist; give the path of a picture\n"
    assert list(tmp_path.iterdir()) == []


def test_help_loads_neither_numpy_nor_the_runtime(tmp_path: Path) -> None:
    program = (
        "import sys; from vicrop_engine import cli; cli.main(['ask', '--help']); "
        "print(sorted({'numpy', 'PIL', 'onnxruntime', 'tokenizers', 'rich', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
