"""A server under thousands of malformed and hostile requests: python scripts/soak.py --requests 10000.

Starts `vicrop-engine serve llava-signs` on a free port of 127.0.0.1, attacks it in batches, asks it
something valid after each, and looks at what it takes. Prints a table and writes JSON; exit status 1 when
anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import urllib.error
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs as a file

from scripts.soak_attacks import attacks, chat, data_url
from scripts.soak_client import Outcome, attack
from scripts.soak_server import ServerProcess, Taken

CLIENTS = 24  # connections at a time
BATCH = 100
REST = 5  # batches after which the server has a rest, and what it takes is looked at
REST_SECONDS = 5.0
FLAT = 0.05  # by which resident memory may differ over the second half
ENOUGH = 2_000  # requests from which the second half says something of memory
MORE = 2  # threads, and files, by which the second half may exceed the first
QUIET_SECONDS = 20.0


@dataclass
class Report:
    """What came of it; `wrong` is empty when all is well."""

    requests: int
    seed: int
    results: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    samples: list[Taken] = field(default_factory=list)
    answered: int = 0
    seconds: float = 0.0

    def count(self, outcome: Outcome) -> None:
        """Add an attack."""
        self.results.setdefault(outcome.kind, Counter())[outcome.result] += 1
        if outcome.wrong is not None:
            self.wrong.append(f"{outcome.kind}: {outcome.wrong}")

    @property
    def growth(self) -> float | None:
        """By how much resident memory differs over the second half; None for runs too short to say."""
        half = [each.resident for each in self.samples[len(self.samples) // 2 :]]
        return max(half) / min(half) - 1 if self.requests >= ENOUGH else None

    def to_json(self) -> dict[str, Any]:
        """As a document."""
        results = {kind: dict(counts) for kind, counts in self.results.items()}
        samples = [vars(each) for each in self.samples]
        return {**vars(self), "results": results, "samples": samples, "growth": self.growth}


def soak(requests: int, seed: int) -> Report:
    """Attack a fresh server with so many requests."""
    report, started = Report(requests, seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "log") as server:
        question = valid_question()
        wanted = answer_of(server, question, report)
        makers = attacks(seed, requests)
        for start in range(0, requests, BATCH):
            asyncio.run(batch(server.port, makers[start : start + BATCH], report))
            if not server.is_running:
                report.wrong.append("the server ended")
                break
            if answer_of(server, question, report) != wanted:
                report.wrong.append(f"after {start + BATCH} requests the answer was another")
            wait_until_quiet(server, report)
            if start // BATCH % REST == REST - 1:
                time.sleep(REST_SECONDS)
                report.samples.append(server.taken())
        report.wrong += server.failures()
    if server.status != 0:
        report.wrong.append(f"the server ended with status {server.status}")
    check_taken(report)
    report.seconds = time.monotonic() - started
    return report


async def batch(port: int, makers: list[Any], report: Report) -> None:
    """Some attacks, CLIENTS at a time."""
    free = asyncio.Semaphore(CLIENTS)

    async def one(make: Any) -> None:
        async with free:
            report.count(await attack(port, make()))

    await asyncio.gather(*(one(make) for make in makers))


def valid_question() -> dict[str, Any]:
    """The demo's picture and question."""
    from vicrop_engine.examples import demo_question

    path, asked = demo_question()
    return chat(data_url(path.read_bytes()), asked["question"], max_tokens=20)


def answer_of(server: ServerProcess, question: dict[str, Any], report: Report) -> tuple[Any, ...]:
    """Answer, first answer and box; asked again while the server says that it is full."""
    until = time.monotonic() + QUIET_SECONDS
    while True:
        try:
            found = server.ask(question)["vicrop"]
            report.answered += 1
            return found["answer"], found["answer_without_crop"], found["crop_box"]
        except urllib.error.HTTPError as error:
            if error.code != 429 or time.monotonic() > until:
                return error.code, error.read()
            time.sleep(0.5)


def wait_until_quiet(server: ServerProcess, report: Report) -> None:
    """Until nothing runs or waits: what clients left behind is given up."""
    until = time.monotonic() + QUIET_SECONDS
    while (load := server.load()) != (0, 0):
        if time.monotonic() > until:
            report.wrong.append(f"{load[0]:g} requests still run and {load[1]:g} wait")
            return
        time.sleep(0.05)


def check_taken(report: Report) -> None:
    """Memory, threads and files over the second half."""
    if not report.samples:
        return
    if report.growth is not None and report.growth > FLAT:
        report.wrong.append(f"resident memory differs by {report.growth:.1%} over the second half")
    middle = len(report.samples) // 2
    for name in ("threads", "files"):
        values = [getattr(each, name) for each in report.samples]
        if middle and max(values[middle:]) > max(values[:middle]) + MORE:
            report.wrong.append(f"{max(values[:middle])} {name} became {max(values[middle:])}")


def table(report: Report) -> str:
    """The report for people."""
    lines = [f"{'kind':34} {'requests':>8}  results"]
    for kind, results in sorted(report.results.items()):
        shown = ", ".join(f"{count} × {result}" for result, count in results.most_common())
        lines.append(f"{kind:34} {results.total():8}  {shown}")
    total = sum(results.total() for results in report.results.values())
    lines.append(f"{'all':34} {total:8}  {report.answered} valid requests answered in between")
    if report.samples:
        first, middle, last = (report.samples[at] for at in (0, len(report.samples) // 2, -1))
        for name, unit in (("resident", 1 << 20), ("threads", 1), ("files", 1)):
            values = [getattr(each, name) // unit for each in (first, middle, last)]
            lines.append(
                f"{name}{' MiB' if unit > 1 else ''}: {values[0]}, halfway {values[1]}, then {values[2]}"
            )
    if report.growth is not None:
        lines.append(f"resident memory over the second half: {report.growth:.1%} between least and most")
    lines += [f"WRONG {each}" for each in report.wrong] or ["nothing wrong"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the report goes as JSON")
    options = parser.parse_args()
    report = soak(options.requests, options.seed)
    print(table(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_json(), indent=1), encoding="utf-8")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
