"""The checks that need a GPU: each a command in a process of its own, so that none takes the others along.

Knows what is run and how its result is read; not the report.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scripts.gpu_report import Outcome

ROOT = Path(__file__).resolve().parent.parent
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
KERNEL_TESTS = ("tests_gpu/test_kernel.py", "tests/kernels/test_triton_operator.py")
SANITIZER, SANITIZER_PLACES = "compute-sanitizer", ("/usr/local/cuda/bin", "/opt/cuda/bin")
ERRORS_FOUND = 99  # exit status that the sanitizer is told to give
MOST_SECONDS = 3600
TAIL = 4000  # characters of output that go into the report


@dataclass(frozen=True)
class Place:
    """Where checks write what they make, the number of their GPU, and what `info` says runs here."""

    folder: Path
    device: int
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def why_not(self, *names: str) -> str | None:
        """Why one of these does not run here, or None."""
        reasons = [f"{name}: {self.runs[name]['reason']}" for name in names if not self.runs[name]["able"]]
        return "; ".join(reasons) or None

    @property
    def visible(self) -> str:
        """CUDA_VISIBLE_DEVICES with the one GPU, which every command then calls the first."""
        shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return shown.split(",")[self.device] if shown else str(self.device)


@dataclass(frozen=True)
class Ran:
    """A command's exit status and the end of its output; a status of None ran past its time."""

    status: int | None
    output: str

    @property
    def ended(self) -> str:
        """In words how it ended."""
        if self.status is None:
            return f"stopped after {MOST_SECONDS} s"
        return f"killed by signal {-self.status}" if self.status < 0 else f"exit status {self.status}"


Check = Callable[[str, Place], Outcome]


def folder_tests(folder: str, name: str, place: Place) -> Outcome:
    """All tests of a folder; one that was skipped counts as failed."""
    log = folder.replace("/", "-")
    results = place.folder / f"{log}.xml"
    results.unlink(missing_ok=True)
    return junit_outcome(name, run([*PYTEST, folder, f"--junitxml={results}"], place, log), results)


def junit_outcome(name: str, ran: Ran, results: Path) -> Outcome:
    """What pytest's JUnit file says."""
    if not results.is_file():
        return Outcome(name, "failed", f"pytest gave no result, {ran.ended}", output=ran.output)
    suites = list(ElementTree.parse(results).getroot().iter("testsuite"))
    counts = {
        key: sum(int(suite.get(key, 0)) for suite in suites)
        for key in ("tests", "failures", "errors", "skipped")
    }
    good = ran.status == 0 and counts["tests"] > 0 and counts["skipped"] == 0
    summary = f"{counts['tests']} tests, {ran.ended}"
    return Outcome(name, "passed" if good else "failed", summary, counts, "" if good else ran.output)


def numerics(target: str, name: str, place: Place) -> Outcome:
    """Engines of a target against the shipped one for processors, on the built-in questions."""
    reason = place.why_not(target)
    if reason is not None:
        return Outcome(name, "not run", reason)
    results = place.folder / f"agreement-{target}.json"
    results.unlink(missing_ok=True)
    script = [sys.executable, "scripts/engine_agreement.py", "--target", target, "--json", str(results)]
    ran = run(script, place, f"agreement-{target}")
    if not results.is_file():
        return Outcome(name, "failed", f"no figures, {ran.ended}", output=ran.output)
    figures = json.loads(results.read_text(encoding="utf-8"))
    good = ran.status == 0
    summary = "within its limits" if good else f"not within its limits, {ran.ended}"
    return Outcome(name, "passed" if good else "failed", summary, figures, "" if good else ran.output)


def sanitizer(tool: str, name: str, place: Place) -> Outcome:
    """The kernel's tests under one of compute-sanitizer's tools.

    Its racecheck sees hazards in shared memory; for those between programs tests_gpu repeats launches.
    """
    program, reason = find_sanitizer(), place.why_not("triton")
    if program is None:
        reason = f"{SANITIZER} was not found; install the CUDA toolkit or nvidia-cuda-sanitizer-api"
    if program is None or reason is not None:
        return Outcome(name, "not run", str(reason))
    watched = [program, "--tool", tool, "--error-exitcode", str(ERRORS_FOUND), "--target-processes", "all"]
    # torch hands out parts of large blocks: an access past a tensor would stay inside of one.
    ran = run([*watched, *PYTEST, *KERNEL_TESTS], place, tool, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    summaries = [line.strip("= ") for line in ran.output.splitlines() if "SUMMARY" in line]
    good = ran.status == 0 and bool(summaries)
    summary = "; ".join(summaries) or f"no summary, {ran.ended}"
    return Outcome(name, "passed" if good else "failed", summary, output="" if good else ran.output)


def find_sanitizer() -> str | None:
    """compute-sanitizer on the path, of a CUDA toolkit, or of NVIDIA's Python package."""
    packaged = [str(folder) for entry in sys.path for folder in Path(entry).glob("nvidia/*/bin")]
    places = os.pathsep.join([os.environ.get("PATH", ""), *SANITIZER_PLACES, *packaged])
    return shutil.which(SANITIZER, path=places)


def benchmark(script: str, options: Sequence[str], name: str, place: Place) -> Outcome:
    """A benchmark's own output, as it stands."""
    reason = place.why_not("cuda", "triton")
    if reason is not None:
        return Outcome(name, "not run", reason)
    ran = run([sys.executable, script, *options], place, Path(script).stem)
    good = ran.status == 0
    return Outcome(name, "passed" if good else "failed", ran.ended, output=ran.output)


CHECKS: Mapping[str, Check] = {
    "tests of the GPU": partial(folder_tests, "tests_gpu"),
    "tests of the heatmap operator": partial(folder_tests, "tests/kernels"),
    "cuda against cpu": partial(numerics, "cuda"),
    "tensorrt against cpu": partial(numerics, "tensorrt"),
    "memcheck of the heatmap kernel": partial(sanitizer, "memcheck"),
    "racecheck of the heatmap kernel": partial(sanitizer, "racecheck"),
    "crop overhead": partial(benchmark, "benchmarks/method_costs.py", ("--target", "cuda")),
}


def run(command: Sequence[str], place: Place, log: str, more: Mapping[str, str] | None = None) -> Ran:
    """Run a command in the checkout; all it prints goes into a log of that name in the folder."""
    path = place.folder / f"{log}.log"
    only = {"CUDA_VISIBLE_DEVICES": place.visible, "VICROP_GPU": "0", **(more or {})}
    with path.open("w+", encoding="utf-8", errors="replace") as file:
        try:
            status: int | None = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **only},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=MOST_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
    return Ran(status, path.read_text(encoding="utf-8", errors="replace")[-TAIL:])
