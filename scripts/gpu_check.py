"""Every check that needs a GPU, one after the other, and a report of them to attach to an issue.

    scripts/gpu_check.sh                       # on the first GPU; the report goes into gpu-report/
    scripts/gpu_check.sh --device 1 --out DIR

Runs the tests of tests_gpu and, on the GPU, those of the heatmap operator; compares engines for cuda and
tensorrt with the shipped one for processors on the built-in questions; watches the heatmap kernel with
compute-sanitizer; times what finding the crop adds. Goes on after a check that fails. Exit status: 0 all
passed, 1 some did not, 2 there is no such GPU. Wants the checkout and pip install -e ".[gpu,build,dev]".
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.gpu_checks import CHECKS, Check, Place
from scripts.gpu_report import MARKDOWN, NO_GPU, Outcome, Report
from vicrop_engine.cli.facts import machine_info

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Check what can be checked, write the report, and return the exit status."""
    options = _options()
    report = Report(datetime.now(UTC).isoformat(timespec="seconds"), checkout(), machine(), ())
    problem = without_gpu(report.machine, options.device)
    if problem is not None:
        outcomes = tuple(Outcome(name, "not run", problem) for name in CHECKS)
        replace(report, outcomes=outcomes).write(options.out)
        where = options.out / MARKDOWN
        print(f"nothing was checked: {problem}; {where} says what could not run", file=sys.stderr)
        return NO_GPU
    options.out.mkdir(parents=True, exist_ok=True)
    report = run_checks(report, CHECKS, Place(options.out, options.device, report.machine["runs"]))
    print(f"{options.out / MARKDOWN} is the report", file=sys.stderr)
    return report.status


def run_checks(report: Report, checks: Mapping[str, Check], place: Place) -> Report:
    """Every check in order, whatever came of those before; the report is written after each."""
    for name, check in checks.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        outcome = _guarded(name, check, place)
        print(f"{name}: {outcome.state}, {outcome.summary}", file=sys.stderr, flush=True)
        report = replace(report, outcomes=(*report.outcomes, outcome))
        report.write(place.folder)
    return report


def without_gpu(facts: Mapping[str, Any], device: int) -> str | None:
    """Why there is no such GPU here, or None."""
    nvidia = facts["nvidia"]
    if nvidia["problem"] is not None:
        return f"this machine has no usable GPU ({nvidia['problem']})"
    count = len(nvidia["devices"])
    return None if device < count else f"there is no GPU {device}: this machine has {count}, counted from 0"


def machine() -> dict[str, Any]:
    """What `vicrop-engine info` knows, the operating system and the driver's own version."""
    facts = {key: value for key, value in machine_info().items() if key not in ("cache", "models", "tools")}
    return {**facts, "system": platform.platform(), "driver": _driver_version()}


def checkout() -> str:
    """The commit, and whether files differ from it."""
    commit, changed = _said("git", "rev-parse", "HEAD"), _said("git", "status", "--porcelain")
    return f"{commit or 'unknown'}{' with changes' if changed else ''}"


def _driver_version() -> str | None:
    path = Path("/proc/driver/nvidia/version")
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[0]
    return _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _guarded(name: str, check: Check, place: Place) -> Outcome:
    try:
        return check(name, place)
    except Exception as error:
        return Outcome(name, "failed", f"{type(error).__name__}: {error}", output=traceback.format_exc())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("gpu-report"), help="folder of report and logs")
    parser.add_argument("--device", type=int, default=0, help="number of the GPU, as the driver counts")
    options = parser.parse_args()
    options.out = options.out.absolute()
    return options


if __name__ == "__main__":
    sys.exit(main())
