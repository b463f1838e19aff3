"""What checks on a GPU gave, as one Markdown and one JSON file to attach to an issue.

Knows outcomes and the machine; not how anything is checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["passed", "failed", "not run"]
MARKDOWN, JSON = "gpu-report.md", "gpu-report.json"
PASSED, FAILED, NO_GPU = 0, 1, 2


@dataclass(frozen=True)
class Outcome:
    """One check: how it ended, in a sentence what it found, its figures by name, the end of its output."""

    name: str
    state: State
    summary: str
    figures: Mapping[str, float | str] = field(default_factory=dict)
    output: str = ""


@dataclass(frozen=True)
class Report:
    """All outcomes so far on one machine; `checkout` is the commit, `begun` when the checks were started."""

    begun: str
    checkout: str
    machine: Mapping[str, Any]
    outcomes: Sequence[Outcome]

    @property
    def status(self) -> int:
        """The exit status: PASSED when every check passed, NO_GPU when none could run, else FAILED."""
        states = {outcome.state for outcome in self.outcomes}
        if states == {"not run"}:
            return NO_GPU
        return PASSED if states == {"passed"} else FAILED

    def write(self, folder: Path) -> None:
        """Both files into the folder, over those of an earlier run."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKDOWN).write_text(self.to_markdown(), encoding="utf-8")
        document = {**asdict(self), "status": self.status}
        (folder / JSON).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    def to_markdown(self) -> str:
        """Machine, a table of outcomes with their figures, and the output of what did not pass."""
        parts = ["# GPU check of vicrop-engine", _facts(self), _table(self.outcomes)]
        parts += [_section(outcome) for outcome in self.outcomes if outcome.output]
        return "\n\n".join(parts) + "\n"


def _facts(report: Report) -> str:
    machine, nvidia = report.machine, report.machine["nvidia"]
    devices = [
        f"{device['name']}, {device['memory'] / 2**30:.1f} GiB, compute capability {device['capability']}"
        for device in nvidia["devices"]
    ]
    cuda = "none" if nvidia["cuda"] is None else "CUDA {}.{}".format(*nvidia["cuda"])
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    facts = {
        "begun": report.begun,
        "commit": report.checkout,
        "devices": "; ".join(devices) or "none",
        "driver": nvidia["problem"] or f"{cuda}, version {machine['driver']}",
        "system": f"{machine['system']}, Python {machine['python']}",
        "packages": packages,
    }
    runs = {
        f"runs {name}": f"{'yes' if ability['able'] else 'no'}: {ability['reason']}"
        for name, ability in machine["runs"].items()
    }
    return "\n".join(f"- {name}: {value}" for name, value in (facts | runs).items())


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = ["| check | state | what it found | figures |", "|---|---|---|---|"]
    for outcome in outcomes:
        figures = ", ".join(f"{name} {_number(value)}" for name, value in outcome.figures.items())
        cells = (outcome.name, outcome.state, outcome.summary, figures)
        rows.append(f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |")
    return "\n".join(rows)


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _section(outcome: Outcome) -> str:
    return f"## {outcome.name}: {outcome.state}\n\n```\n{outcome.output.strip().replace('```', '` ` `')}\n```"
