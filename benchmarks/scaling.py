"""How the cost of an answer with a crop grows, measured beside what arithmetic alone says.

    python benchmarks/scaling.py                                  # float32, four tables
    python benchmarks/scaling.py --precision int8 --runs 5 --tables pictures answers

`pictures`: their sizes, as a whole and in tiles. `answers`: their length. `questions`: how many are asked
about one picture. `models`: sizes of the model. Both answers by rel-att, against plain answers to the same
questions, each on a new picture; the model is the mid-size one of setting.py but for `models`. Every cost is
taken in turn, and the least of the runs counts. The arithmetic is that of the graphs that ran, counted when
the engine was built. Answers that change from run to run end it with nothing reported. Writes OUT.json and
OUT.png.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bars import Bar, draw_bars
from benchmarks.setting import (
    MID_SIZE,
    QUESTION,
    add_options,
    demand_equal,
    mid_size,
    noise,
    setting,
    setting_line,
    took,
    write_json,
)
from vicrop_engine import Answer, ViCropEngine
from vicrop_engine.engine_dir.flops import num_flops

SIZES = ((512, 512), (1024, 768), (2048, 2048), (4096, 2048))
LENGTHS = (1, 5, 20, 60)
QUESTIONS = (1, 2, 4, 8)
MODELS = {
    "4 layers of 256": replace(MID_SIZE, hidden=256, intermediate=704, layers=4, heads=4, kv_heads=4),
    "8 layers of 512": replace(MID_SIZE, hidden=512, intermediate=1408, layers=8, heads=8, kv_heads=8),
    "12 layers of 1024": MID_SIZE,
}
Ask = Callable[[], Answer]


@dataclass(frozen=True)
class Row:
    """Least seconds of plain answers and of those with the crop, and their quotient by operations alone."""

    label: str
    plain: float
    cropped: float
    arithmetic: float

    @property
    def measured(self) -> float:
        """Cropped over plain."""
        return self.cropped / self.plain


class Scaling:
    """Measures rows on one engine after the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._directory = options.directory or Path(tempfile.mkdtemp(prefix="vicrop-scaling-"))
        self._clock = time.process_time if options.threads == 1 else time.perf_counter

    def pictures(self) -> list[Row]:
        """By the picture's size, as a whole and in tiles."""
        engine, rows = self._engine(), []
        for size in SIZES:
            picture = noise(1, size)
            for high_res in ("off", "on"):
                tiles = len(self._ask(engine, picture, high_res=high_res).tiles)
                if high_res == "on" and tiles < 2:
                    continue
                shown = f", {tiles} tiles" if tiles > 1 else ""
                label = f"{size[0]} x {size[1]}{shown}"
                rows.append(self._row(label, engine, picture, [QUESTION], high_res=high_res))
        return rows

    def answers(self) -> list[Row]:
        """By the answers' length in tokens, as long as the model goes on."""
        engine, picture = self._engine(), noise(2)
        rows = {}
        for length in LENGTHS:
            answer = self._ask(engine, picture, max_new_tokens=length)
            label = f"{len(answer.first_token_ids)} + {len(answer.token_ids)} tokens"
            if label not in rows:
                rows[label] = self._row(label, engine, picture, [QUESTION], max_new_tokens=length)
        return list(rows.values())

    def questions(self) -> list[Row]:
        """By how many questions there are about one picture; only the first one's first answer is wanted."""
        engine, picture = self._engine(), noise(3)
        asked = [f"{QUESTION[:-1]} number {number}?" for number in range(max(QUESTIONS))]
        return [
            self._row(f"{count} question{'s' if count > 1 else ''}", engine, picture, asked[:count])
            for count in QUESTIONS
        ]

    def models(self) -> list[Row]:
        """By the size of the model."""
        rows = []
        for name, spec in MODELS.items():
            own = self._directory if spec == MID_SIZE else self._directory / name.replace(" ", "-")
            _, path = mid_size(own, self._options.precision, spec)
            engine = ViCropEngine.load(path, threads=self._options.threads)
            rows.append(self._row(name, engine, noise(4), [QUESTION]))
        return rows

    def _engine(self) -> ViCropEngine:
        _, path = mid_size(self._directory, self._options.precision)
        return ViCropEngine.load(path, threads=self._options.threads)

    def _row(
        self, label: str, engine: ViCropEngine, picture: Image.Image, asked: Sequence[str], **keywords: object
    ) -> Row:
        """Plain answers, each on a new picture, and those with the crop on one, in turn."""

        def plain() -> list[Answer]:
            made = []
            for question in asked:
                engine.forget()
                length = {name: value for name, value in keywords.items() if name == "max_new_tokens"}
                made.append(self._ask(engine, picture, question, method="none", **length))
            return made

        def cropped() -> list[Answer]:
            engine.forget()
            first = [self._ask(engine, picture, asked[0], **keywords)]
            return first + [
                self._ask(engine, picture, question, first_answer=False, **keywords) for question in asked[1:]
            ]

        seconds: dict[str, list[float]] = {"plain": [], "cropped": []}
        operations: dict[str, int] = {}
        answers: dict[str, list[object]] = {"plain": [], "cropped": []}
        for _ in range(self._options.runs + 1):
            for name, flow in (("plain", plain), ("cropped", cropped)):
                with engine.tally.watching() as runs:
                    spent, made = took(self._clock, flow)
                counted = engine.manifest.multiply_adds or {}
                graphs = [(counted[graph], run.axes) for run in runs for graph in run.graphs]
                operations[name] = sum(num_flops(terms, axes) for terms, axes in graphs)
                seconds[name].append(spent)
                answers[name].append([(answer.token_ids, answer.crop_box) for answer in made])
        for name, taken in answers.items():
            demand_equal(f"{label}: answers ({name})", {f"run {run}": made for run, made in enumerate(taken)})
        least = {name: min(values[1:]) for name, values in seconds.items()}
        return Row(label, least["plain"], least["cropped"], operations["cropped"] / operations["plain"])

    def _ask(
        self, engine: ViCropEngine, picture: Image.Image, question: str = QUESTION, **keywords: Any
    ) -> Answer:
        settings: dict[str, Any] = {
            "high_res": "off",
            "max_new_tokens": self._options.new_tokens,
            **keywords,
        }
        if settings.get("method") == "none":
            settings["high_res"] = "auto"
        return engine.ask(picture, question, **settings)


def main() -> None:
    """Measure, print, write and draw."""
    options = _options()
    scaling = Scaling(options)
    facts = {**setting(options.threads), "precision": options.precision}
    line = f"{options.precision}; {setting_line(facts)}"
    results: dict[str, list[Row]] = {}
    for name in options.tables:
        results[name] = getattr(scaling, name)()
        Console(width=110).print(_table(name, results[name]))
    print(line)
    documents = {
        name: [{**asdict(row), "measured": row.measured} for row in rows] for name, rows in results.items()
    }
    write_json(options.out, facts, documents)
    groups = [(name, [_bar(row) for row in rows]) for name, rows in results.items()]
    title = "An answer with the crop over a plain answer: how many times the cost"
    mark = "Black marks: what the operations alone say."
    draw_bars(options.out.with_suffix(".png"), title, line, groups, mark)


def _table(name: str, rows: Sequence[Row]) -> Table:
    table = Table(name, "plain s", "with the crop s", "÷ plain", "by operations alone")
    for row in rows:
        seconds = f"{row.plain:.3f}", f"{row.cropped:.3f}"
        table.add_row(row.label, *seconds, f"{row.measured:.3f}", f"{row.arithmetic:.3f}")
    return table


def _bar(row: Row) -> Bar:
    return Bar(row.label, row.measured, f"{row.measured:.2f} x ({row.cropped:.2f} s)", 0, row.arithmetic)


def _options() -> argparse.Namespace:
    tables = ("pictures", "answers", "questions", "models")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "int8", "int4"))
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    parser.add_argument("--new-tokens", type=int, default=5)
    add_options(parser, "scaling")
    return parser.parse_args()


if __name__ == "__main__":
    main()
