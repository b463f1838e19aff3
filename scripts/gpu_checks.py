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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.gpu_report import Outcome

ROOT = Path(__file__).resolve().parent.parent
KERNEL_TESTS = "tests_gpu/test_kernel.py"
SANITIZER, SANITIZER_PLACES = "compute-sanitizer", ("/usr/local/cuda/bin", "/opt/cuda/bin")
ERRORS_FOUND = 99  # exit status that the sanitizer is told to give
MOST_SECONDS = 3600
TAIL = 4000  # characters of output that go into the report


@dataclass(frozen=True)
class Place:
    """Where checks write what they make, and the number of the GPU they run on."""

    folder: Path
    device: int


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


def gpu_tests(name: str, place: Place) -> Outcome:
    """Everything in tests_gpu; a test that was skipped counts as failed."""
    results = place.folder / "tests.xml"
    results.unlink(missing_ok=True)
    command = [*_pytest(), "tests_gpu", f"--junitxml={results}"]
    return tests_outcome(name, run(command, place, "tests"), results)


def tests_outcome(name: str, ran: Ran, results: Path) -> Outcome:
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
    results = place.folder / f"agreement-{target}.json"
    results.unlink(missing_ok=True)
    script = [sys.executable, "scripts/engine_agreement.py", "--target", target]
    options = ["--device", str(place.device), "--json", str(results)]
    ran = run([*script, *options], place, f"agreement-{target}")
    if not results.is_file():
        return Outcome(name, "failed", f"no figures, {ran.ended}", output=ran.output)
    figures = json.loads(results.read_text(encoding="utf-8"))
    good = ran.status == 0
    summary = "within its limits" if good else f"not within its limits, {ran.ended}"
    return Outcome(name, "passed" if good else "failed", summary, figures, "" if good else ran.output)


def sanitizer(tool: str, name: str, place: Place) -> Outcome:
    """The kernel's tests under one of compute-sanitizer's tools."""
    program = find_sanitizer()
    if program is None:
        reason = f"{SANITIZER} was not found; install the CUDA toolkit or pip install nvidia-cuda-sanitizer-api"
        return Outcome(name, "not run", reason)
    watched = [program, "--tool", tool, "--error-exitcode", str(ERRORS_FOUND), "--target-processes", "all"]
    # torch's own allocator hands out one large block: accesses past a tensor would stay inside of it.
    ran = run([*watched, *_pytest(), KERNEL_TESTS], place, tool, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
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
    ran = run([sys.executable, script, *options, "--device", str(place.device)], place, Path(script).stem)
    good = ran.status == 0
    return Outcome(name, "passed" if good else "failed", ran.ended, output=ran.output)


CHECKS: Mapping[str, Check] = {
    "GPU tests": gpu_tests,
    "cuda against cpu": partial(numerics, "cuda"),
    "memcheck of the heatmap kernel": partial(sanitizer, "memcheck"),
    "racecheck of the heatmap kernel": partial(sanitizer, "racecheck"),
    "crop overhead": partial(benchmark, "benchmarks/method_costs.py", ("--target", "cuda")),
}


def run(command: Sequence[str], place: Place, log: str, more: Mapping[str, str] | None = None) -> Ran:
    """Run a command in the checkout; all it prints goes into a log of that name in the folder."""
    path = place.folder / f"{log}.log"
    numbers = {"VICROP_GPU": str(place.device), **(more or {})}
    with path.open("w+", encoding="utf-8", errors="replace") as file:
        try:
            status: int | None = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **numbers},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=MOST_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
    return Ran(status, path.read_text(encoding="utf-8", errors="replace")[-TAIL:])


def _pytest() -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"]
