"""scripts/gpu_check on a machine without a GPU, its report, and its checks on commands that tests make up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import gpu_check, gpu_checks
from scripts.engine_agreement import LIMITS, figures, is_within
from scripts.gpu_check import run_checks, without_gpu
from scripts.gpu_checks import CHECKS, ROOT, Place, Ran, junit_outcome, numerics, run, sanitizer
from scripts.gpu_report import FAILED, NO_GPU, PASSED, Outcome, Report
from tests.runtime.fake_driver import FakeDriver, pretend_libraries
from vicrop_export.checks.agreement import Compared

ABLE = {"able": True, "reason": ""}
RUNS = {name: ABLE for name in ("cpu", "cuda", "tensorrt", "tensorrt-rtx", "triton")}
NO_TENSORRT = {**RUNS, "tensorrt": {"able": False, "reason": "TensorRT is not installed"}}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Report:
    """Of a machine with two GPUs, with nothing checked yet."""
    pretend_libraries(monkeypatch, FakeDriver())
    return Report("2026-01-01T00:00:00+00:00", "0" * 40, gpu_check.machine(), ())


def script(*arguments: str, hidden: Path) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, where no driver's library is found."""
    environment = {**os.environ, "PYTHON": sys.executable, "VICROP_HOME": str(hidden)}
    command = ["bash", str(ROOT / "scripts" / "gpu_check.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_a_gpu_it_says_so_and_reports_what_could_not_run(tmp_path: Path) -> None:
    ran = script("--out", str(tmp_path / "report"), "--device", "99", hidden=tmp_path)
    assert ran.returncode == NO_GPU
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("nothing was checked: ")
    assert "GPU" in ran.stderr
    document = json.loads((tmp_path / "report" / "gpu-report.json").read_text())
    assert document["status"] == NO_GPU
    assert [outcome["name"] for outcome in document["outcomes"]] == list(CHECKS)
    assert {outcome["state"] for outcome in document["outcomes"]} == {"not run"}
    assert "| crop overhead | not run |" in (tmp_path / "report" / "gpu-report.md").read_text()


def test_the_script_is_sound_shell_and_can_be_run() -> None:
    path = ROOT / "scripts" / "gpu_check.sh"
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert os.access(path, os.X_OK)


def test_a_gpu_is_found_by_its_number(report: Report) -> None:
    assert without_gpu(report.machine, 1) is None
    assert without_gpu(report.machine, 2) == "there is no GPU 2: this machine has 2, counted from 0"


def test_it_goes_on_after_checks_that_fail_and_ends_with_1(report: Report, tmp_path: Path) -> None:
    def broken(name: str, place: Place) -> Outcome:
        raise RuntimeError("the card fell out")

    def fine(name: str, place: Place) -> Outcome:
        return Outcome(name, "passed", "all well", {"same | answer": 1.0})

    done = run_checks(report, {"first": broken, "second": fine}, Place(tmp_path, 0))
    assert [outcome.state for outcome in done.outcomes] == ["failed", "passed"]
    assert done.status == FAILED
    text = (tmp_path / "gpu-report.md").read_text()
    assert "RuntimeError: the card fell out" in text
    assert "| second | passed | all well | same / answer 1 |" in text
    assert "Sample GPU B, 24.0 GiB" in text
    assert json.loads((tmp_path / "gpu-report.json").read_text())["status"] == FAILED


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (("passed", "passed"), PASSED),
        (("passed", "not run"), FAILED),
        (("failed", "passed"), FAILED),
        (("not run", "not run"), NO_GPU),
    ],
)
def test_the_status_is_0_only_when_every_check_passed(
    report: Report, states: tuple[str, ...], status: int
) -> None:
    outcomes = [Outcome("check", state, "") for state in states]  # type: ignore[arg-type]
    assert replace(report, outcomes=outcomes).status == status


def test_commands_see_one_gpu_and_their_output_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['MORE']); raise SystemExit(3)"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    ran = run([sys.executable, "-c", code], Place(tmp_path, 1), "log", {"MORE": "more"})
    assert ran == Ran(3, "6 more\n")
    assert (tmp_path / "log.log").read_text() == "6 more\n"
    assert ran.ended == "exit status 3"


def test_a_command_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks, "MOST_SECONDS", 0.2)
    ran = run([sys.executable, "-c", "import time; time.sleep(60)"], Place(tmp_path, 0), "log")
    assert ran.status is None


def junit(path: Path, *, skipped: int = 0, tests: int = 3) -> Path:
    path.write_text(
        f'<testsuites><testsuite tests="{tests}" failures="0" errors="0" skipped="{skipped}"/></testsuites>'
    )
    return path


def test_tests_count_and_none_may_be_skipped(tmp_path: Path) -> None:
    fine = junit_outcome("tests", Ran(0, ""), junit(tmp_path / "a.xml"))
    assert (fine.state, fine.figures["tests"]) == ("passed", 3)
    for path, status in (
        (junit(tmp_path / "b.xml", skipped=1), 0),
        (junit(tmp_path / "c.xml", tests=0), 0),
        (junit(tmp_path / "d.xml"), 1),
        (tmp_path / "missing.xml", -11),
    ):
        assert junit_outcome("tests", Ran(status, "said"), path).output == "said"
        assert junit_outcome("tests", Ran(status, "said"), path).state == "failed"


def test_what_does_not_run_here_is_not_called_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = numerics("tensorrt", "tensorrt against cpu", Place(tmp_path, 0, NO_TENSORRT))
    assert (missing.state, missing.summary) == ("not run", "tensorrt: TensorRT is not installed")
    monkeypatch.setattr(gpu_checks, "find_sanitizer", lambda: None)
    found = sanitizer("memcheck", "memcheck", Place(tmp_path, 0, RUNS))
    assert found.state == "not run"
    assert "compute-sanitizer was not found; install" in found.summary


@pytest.mark.parametrize(("errors", "state"), [(0, "passed"), (2, "failed")])
def test_the_sanitizers_summary_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: int, state: str
) -> None:
    program = tmp_path / "compute-sanitizer"
    program.write_text(
        f"#!/bin/sh\necho \"$@\"\necho '===== ERROR SUMMARY: {errors} errors'\nexit {99 if errors else 0}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = sanitizer("racecheck", "racecheck", Place(tmp_path, 0, RUNS))
    assert (found.state, found.summary) == (state, f"ERROR SUMMARY: {errors} errors")
    said = (tmp_path / "racecheck.log").read_text()
    assert "--tool racecheck --error-exitcode 99" in said
    assert "tests_gpu/test_kernel.py" in said


def test_figures_come_from_the_comparison_and_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(command: list[str], place: Place, log: str, more: Mapping[str, str] | None = None) -> Ran:
        Path(command[command.index("--json") + 1]).write_text('{"fp16: same answer": 0.5}')
        return Ran(1, "said")

    monkeypatch.setattr(gpu_checks, "run", compared)
    found = numerics("cuda", "cuda against cpu", Place(tmp_path, 0, RUNS))
    assert (found.state, found.figures) == ("failed", {"fp16: same answer": 0.5})


def test_limits_of_a_comparison() -> None:
    good = [Compared(True, 1.0, 1e-4)] * 50
    assert is_within(good, LIMITS["fp16"])
    for worse in (Compared(False, 1.0, 1e-4), Compared(True, 0.4, 1e-4)):
        assert not is_within([*good[:49], worse], LIMITS["fp32"])
    assert not is_within([Compared(True, 1.0, 0.5)] * 50, LIMITS["int4"])
    found = figures("fp16", [*good[:49], Compared(False, 0.4, 0.2)])
    assert found["fp16: same answer"] == found["fp16: same box"] == 0.98
    assert found["fp16: heatmap rel-L2, largest"] == 0.2


def test_gpu_tests_fail_where_there_is_no_gpu_and_none_is_left_out(tmp_path: Path) -> None:
    """And plain pytest does not collect them."""
    environment = {**os.environ, "VICROP_GPU": "0", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests_gpu/test_kernel.py"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "needs an NVIDIA GPU and there is none here" in ran.stdout
    assert "passed" not in ran.stdout.splitlines()[-1]
    assert "skipped" not in ran.stdout


def test_gpu_tests_hold_on_a_processor_in_its_stead() -> None:
    """The kernel's under Triton's interpreter, the engine's by its stand-in."""
    environment = {**os.environ, "VICROP_GPU": "rehearsal"}
    chosen = ["tests_gpu", "-k", "not signs_are_read", "-W", "error"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "18 passed, 3 deselected" in ran.stdout
