"""What storing weights otherwise does to `llava-signs`: answers, crop boxes and heatmaps against float32.

    python benchmarks/agreement.py                   # every row of docs/precision.md, on built-in questions
    python benchmarks/agreement.py --pictures 96     # and on as many pictures of other seeds

An engine of each kind is written from one export and asked the 201 built-in questions, and every sign of
fresh pictures. Shares of the same answers, of boxes whose intersection is at least half their union, and the
median relative L2 distance of the heatmaps are printed. Kernels are those of this processor.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models" / "llava_signs"))

from questions import READ_QUESTIONS, names_of
from world import make_scene, render

from benchmarks.setting import setting, setting_line
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.files import FileEntry
from vicrop_engine.engine_dir.registry import find_model
from vicrop_engine.examples import signs
from vicrop_engine.model.opening import open_model
from vicrop_engine.vicrop.answer import Answer
from vicrop_export import build
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.locate import locate
from vicrop_export.checks.agreement import MAX_NEW_TOKENS, SAME_BOX, compare
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.plan import make_plan
from vicrop_export.precision import rules as precision
from vicrop_export.precision.block_layout import Blocks
from vicrop_export.precision.layouts import Bytes, Whole
from vicrop_export.precision.rules import PRECISIONS, Precision
from vicrop_export.quiet import quiet

MODEL, SEEDS = "llava-signs", (31, 32)
BYTE, FINE = Bytes(), Bytes(fine_tokens=True)
HEAD = Blocks(8)
KINDS: dict[str, Precision] = {
    "int8": PRECISIONS["int8"],
    "int4": PRECISIONS["int4"],
    "int4 with 4 bits below the heatmap as well": replace(PRECISIONS["int4"], below=Blocks(4)),
    "bytes everywhere": Precision(BYTE, BYTE, BYTE, BYTE, HEAD, np.float16),
    "bytes everywhere, tokens of two": Precision(FINE, FINE, FINE, FINE, HEAD, np.float16),
    "bytes below the heatmap but for what looks": replace(PRECISIONS["int8"], below=BYTE),
    "float32 in what looks, bytes elsewhere": Precision(Whole(), Whole(), BYTE, BYTE, HEAD, np.float16),
}
Question = tuple[Any, str]


def main() -> None:
    """Write, ask, compare and print."""
    options = _options()
    built_in: list[Question] = [(picture, example.question) for picture, example in signs()]
    fresh = list(_fresh(options.pictures // len(SEEDS)))
    table = Table("layouts", f"the {len(built_in)} built in", f"{len(fresh)} of other seeds")
    with tempfile.TemporaryDirectory(prefix="vicrop-agreement-") as folder, quiet():
        writer = _Writer(Path(folder))
        wanted = _asked(writer.engine("fp32", PRECISIONS["fp32"]), [*built_in, *fresh])
        for name, rules in KINDS.items():
            got = _asked(writer.engine(name, rules), [*built_in, *fresh])
            pairs = list(zip(got, wanted, strict=True))
            table.add_row(name, _figures(pairs[: len(built_in)]), _figures(pairs[len(built_in) :]))
    table.caption = setting_line(setting(threads=2))
    Console(width=110).print(table)


class _Writer:
    """Engines of one checkpoint, all from one export."""

    def __init__(self, folder: Path) -> None:
        model = find_model(MODEL)
        self._folder = folder
        self._plan = make_plan(
            locate(model.checkpoint), name=MODEL, layers=model.layers, precision="fp32", target="cpu"
        )
        self._tensors = DescribedTensors(model.checkpoint, canonical_name)
        self._exported = build._export(self._plan, self._tensors, lambda _stage, _share: None)

    def engine(self, name: str, rules: Precision) -> ViCropEngine:
        """An engine with these layouts, without the checks of a build."""
        directory = self._folder / name.replace(" ", "-")
        directory.mkdir()
        precision.PRECISIONS[name] = rules
        plan = replace(self._plan, precision=name)
        build.write_graphs(directory, plan, self._exported, self._tensors, lambda _stage, _share: None)
        shipped = ViCropEngine.load(find_model(MODEL).shipped_engine).manifest
        files = {path.name: FileEntry(0, "") for path in directory.iterdir()}
        (directory / "manifest.json").write_text("{}", encoding="utf-8")
        return ViCropEngine(open_model(directory, replace(shipped, precision=name, files=files)))


def _fresh(count: int) -> list[Question]:
    """Every sign of `count` pictures of each seed."""
    asked: list[Question] = []
    for seed in SEEDS:
        for number in range(count):
            scene = make_scene(np.random.default_rng((seed, number)), 168)
            picture = render(scene)
            names = (names_of(scene.signs, index)[0] for index in range(len(scene.signs)))
            asked += [(picture, READ_QUESTIONS[0].format(name=name)) for name in names]
    return asked


def _asked(engine: ViCropEngine, questions: Sequence[Question]) -> list[Answer]:
    shown = track(questions, "asking", console=Console(stderr=True), transient=True)
    return [engine.ask(picture, question, max_new_tokens=MAX_NEW_TOKENS) for picture, question in shown]


def _figures(pairs: Sequence[tuple[Answer, Answer]]) -> str:
    if not pairs:
        return ""
    found = [compare(*pair) for pair in pairs]
    answers = float(np.mean([each.same_answer for each in found]))
    boxes = float(np.mean([each.overlap >= SAME_BOX for each in found]))
    return f"{answers:.1%}, {boxes:.1%}, {np.median([each.heatmap for each in found]):.2g}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=0, help="of other seeds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
