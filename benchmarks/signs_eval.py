"""Accuracy of an engine on freshly drawn pictures of the signs world: the tables of the paper in miniature.

    python benchmarks/signs_eval.py --pictures 600          # no crop, true crop, rel-att, random crop; seed 1
    python benchmarks/signs_eval.py --methods rel-att grad-att pure-grad --pictures 600
    python benchmarks/signs_eval.py --large --high-res off on --pictures 300   # with and without tiles
    python benchmarks/signs_eval.py --layers --pictures 150 # which layer points best, on seed 2
    python benchmarks/signs_eval.py --when --crop-tokens all 36 --plot curve.png   # what --when auto keeps
    python benchmarks/signs_eval.py --signals --seed 11     # how to tell when a crop pays

Each picture asks for the text of one sign: a third of the pictures for one that is unreadable at the model's
input size, a third for one in between, a third for a readable one. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vicrop_engine import ViCropEngine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models" / "llava_signs"))

from questions import names_of
from world import Scene, Sign, make_scene, render

SIZES = ("small", "medium", "readable")
SMALL, READABLE = 4.0, 8.0  # text height in pixels at the model's input
AREAS = (("area < 0.005", 0.0, 0.005), ("0.005 to 0.05", 0.005, 0.05), ("area >= 0.05", 0.05, 1.0))
TEST_SEED, VALIDATION_SEED = 1, 2
LARGE_SIDES, LARGE_TEXT = (2400.0, 4000.0), (0.7, 12.0)  # of --large: pixels, and text at the model's input
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Case:
    """One picture, the sign asked for, and how large it is."""

    scene: Scene
    picture: Image.Image
    sign: Sign
    question: str
    size: str

    @property
    def area(self) -> float:
        """Share of the picture that the sign's box covers."""
        return self.sign.side**2 / (self.scene.width * self.scene.height)


@dataclass
class Tally:
    """Hits per flow and group, and what else is counted."""

    hits: dict[tuple[str, str], list[bool]] = field(default_factory=dict)

    def add(self, flow: str, groups: Iterable[str], hit: bool) -> None:
        for group in groups:
            self.hits.setdefault((flow, group), []).append(hit)

    def cell(self, flow: str, group: str) -> str:
        """Percentage with its 95 % interval."""
        values = self.hits.get((flow, group), [])
        if not values:
            return "-"
        low, high = wilson(sum(values), len(values))
        return f"{100 * sum(values) / len(values):.1f} ({100 * low:.0f} to {100 * high:.0f})"


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def draw_cases(seed: int, count: int, input_side: int, *, large: bool = False) -> Iterable[Case]:
    """Draw `count` cases, the three sizes in turn; the same for the same seed."""
    kind: dict[str, Any] = {"longest_side": LARGE_SIDES, "text_range": LARGE_TEXT} if large else {}
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        wanted = SIZES[number % len(SIZES)]
        while True:
            scene = make_scene(rng, input_side, **kind)
            signs = [sign for sign in scene.signs if size_of(scene, sign, input_side) == wanted]
            if signs and len(scene.signs) > 1:
                break
        sign = signs[int(rng.integers(len(signs)))]
        yield Case(scene, render(scene), sign, question_for(scene, sign), wanted)


def size_of(scene: Scene, sign: Sign, input_side: int) -> str:
    """Name of the sign's text height at the model's input."""
    height = sign.text_height_in(scene.window, input_side)
    return SIZES[0] if height < SMALL else SIZES[1] if height < READABLE else SIZES[2]


def question_for(scene: Scene, sign: Sign) -> str:
    """The question for one sign, by its colour and shape."""
    name = names_of(scene.signs, scene.signs.index(sign))[0]
    return f"What is written on the {name} sign?"


def true_box(case: Case, window: int) -> Box:
    """The smallest window of the crop search that holds the sign, centred on it and pushed inside."""
    side = min(max(window, round(case.sign.side * 1.1)), case.scene.width, case.scene.height)
    return placed_box(case.scene, case.sign.x, case.sign.y, side)


def placed_box(scene: Scene, x: float, y: float, side: int) -> Box:
    """A square of `side` centred on a point, pushed inside the picture."""
    left = min(max(0, round(x - side / 2)), scene.width - side)
    top = min(max(0, round(y - side / 2)), scene.height - side)
    return left, top, left + side, top + side


def random_box(rng: np.random.Generator, scene: Scene, like: Box) -> Box:
    """A window as large as `like` anywhere in the picture."""
    side = min(like[2] - like[0], scene.width, scene.height)
    left, top = (int(rng.integers(0, length - side + 1)) for length in (scene.width, scene.height))
    return left, top, left + side, top + side


def holds(box: Sequence[int], sign: Sign) -> bool:
    """Whether the sign's centre lies in the box."""
    return box[0] <= sign.x < box[2] and box[1] <= sign.y < box[3]


@dataclass(frozen=True)
class Flow:
    """A method, with or without the prepass in tiles, perhaps with a floor under its divisor."""

    method: str
    high_res: bool
    divisor_floor: float | None = None

    @property
    def name(self) -> str:
        """As it stands in the table."""
        name = f"{self.method}, in tiles" if self.high_res else self.method
        return name if self.divisor_floor is None else f"{name}, floor {self.divisor_floor}"

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the ask."""
        return {**vars(self), "high_res": "on" if self.high_res else "off"}


def evaluate(
    engine: ViCropEngine, cases: Iterable[Case], seed: int, flows: Sequence[Flow], compat: str | None
) -> Tally:
    """Ask every case in every flow; also count where the windows lie and whether questions matter at all."""
    window = engine.manifest.crop.window
    tally = Tally()
    for number, case in enumerate(cases):
        rng = np.random.default_rng((seed, number, 1))
        groups = ("all", case.size, area_group(case))
        pixels = np.asarray(case.picture)
        tally.add(
            "no crop", groups, engine.ask(pixels, case.question, method="none").answer == case.sign.text
        )
        like = true_box(case, window)
        for flow in flows:
            found = engine.ask(pixels, case.question, compat=compat, first_answer=False, **flow.settings)
            assert found.crop_box is not None, f"{flow.name} always finds a window"
            tally.add(flow.name, groups, found.answer == case.sign.text)
            tally.add(f"window of {flow.name} holds the sign", groups, holds(found.crop_box, case.sign))
            like = found.crop_box if flow == flows[0] else like
        elsewhere = random_box(rng, case.scene, like)
        for name, box in (("true crop", true_box(case, window)), ("random crop", elsewhere)):
            tally.add(name, groups, ask_with(engine, case, box, compat) == case.sign.text)
        tally.add("random window holds it", groups, holds(elsewhere, case.sign))
        if len({sign.text for sign in case.scene.signs}) > 1:
            tally.add("blind", ("all",), is_blind(engine, pixels, case.scene))
    return tally


def ask_with(engine: ViCropEngine, case: Case, box: Box, compat: str | None) -> str:
    """The answer with a given crop."""
    pixels = np.asarray(case.picture)
    return engine.ask(pixels, case.question, box=box, first_answer=False, compat=compat).answer


def area_group(case: Case) -> str:
    """The paper's classes of answer-box area."""
    return next(name for name, low, high in AREAS if low <= case.area < high)


def is_blind(engine: ViCropEngine, pixels: np.ndarray, scene: Scene) -> bool:
    """Whether the questions for all signs of a picture, whose texts differ, get one and the same answer."""
    questions = [question_for(scene, sign) for sign in scene.signs]
    return len({engine.ask(pixels, question, method="none").answer for question in questions}) == 1


def sweep_layers(engine: ViCropEngine, cases: Sequence[Case], num_layers: int, console: Console) -> Table:
    """How well each layer, and their mean, points: share of windows that hold the sign, and right answers."""
    table = Table("layers", *(f"{size}: holds" for size in SIZES), *(f"{size}: right" for size in SIZES))
    for layers in (*map(str, range(num_layers)), "all"):
        tally = Tally()
        for case in track(cases, description=f"layers {layers}", console=console, transient=True):
            found = engine.ask(
                np.asarray(case.picture), case.question, high_res="off", layers=layers, first_answer=False
            )
            assert found.crop_box is not None, "rel-att always finds a window"
            tally.add("holds", (case.size,), holds(found.crop_box, case.sign))
            tally.add("right", (case.size,), found.answer == case.sign.text)
        table.add_row(layers, *(tally.cell(what, size) for what in ("holds", "right") for size in SIZES))
    return table


def accuracy_table(tally: Tally, flows: Sequence[Flow]) -> Table:
    """Rows: flows; columns: sizes at the model's input, the paper's areas, and all."""
    groups = [*SIZES, *(name for name, _, _ in AREAS), "all"]
    table = Table("% right (95 % interval)", *groups)
    named = [flow.name for flow in flows]
    held = [f"window of {name} holds the sign" for name in named]
    for row in ("no crop", "random crop", *named, "true crop", *held, "random window holds it"):
        table.add_row(row, *(tally.cell(row, group) for group in groups))
    table.add_row("one answer for all signs", *("" for _ in groups[:-1]), tally.cell("blind", "all"))
    return table


def compare_when(
    engine: ViCropEngine, options: argparse.Namespace, seed: int, progress: Console, wide: Console
) -> None:
    """The tables of signs_when.py, and with `--plot` the curve of the first method."""
    from benchmarks.signs_when import draw, measure, signal_table, when_table

    for method in options.methods:
        cases = draw_cases(seed, options.pictures, engine.manifest.vision.image_size)
        shown = track(cases, description=f"asking {method}", total=options.pictures, console=progress)
        examples = ((case.picture, case.question, case.sign.text) for case in shown)
        if options.signals:
            wide.print(signal_table(engine, examples))
            return
        measured = measure(engine, examples, method, options.crop_tokens)
        wide.print(when_table(measured))
        if options.plot is not None and method == options.methods[0]:
            draw(measured, options.plot, f"{options.pictures} pictures of seed {seed}")


def main() -> None:
    """Command line; progress on standard error, the table on standard output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="llava-signs", help="engine directory or model name")
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--seed", type=int, help=f"default {TEST_SEED}, with --layers {VALIDATION_SEED}")
    parser.add_argument("--layers", action="store_true", help="compare heatmap layers instead")
    parser.add_argument("--methods", nargs="+", default=["rel-att"], help="rel-att, grad-att, pure-grad …")
    parser.add_argument("--large", action="store_true", help="pictures of 2400 to 4000 pixels")
    parser.add_argument(
        "--high-res", nargs="+", choices=["off", "on"], default=["off"], help="look in tiles as well"
    )
    parser.add_argument("--divisor-floor", type=float, help="rel-att once more, with this floor")
    parser.add_argument("--compat", choices=["mllms-know"], help="the published code's own geometry")
    parser.add_argument("--when", action="store_true", help="compare no crop, always and auto")
    parser.add_argument("--crop-tokens", nargs="+", default=["all"], help="with --when: of each crop")
    parser.add_argument("--plot", type=Path, help="with --when: draw accuracy against cost as a PNG")
    parser.add_argument("--signals", action="store_true", help="compare what could tell when a crop pays")
    parser.add_argument("--save", type=Path, help="write the raw hits as JSON")
    options = parser.parse_args()
    seed = options.seed
    if seed is None:
        seed = VALIDATION_SEED if options.layers else TEST_SEED
    engine = ViCropEngine.load(options.engine, cache_bytes=0 if options.when else None)
    manifest = engine.manifest
    progress, wide = Console(stderr=True), Console(width=170)
    cases = draw_cases(seed, options.pictures, manifest.vision.image_size, large=options.large)
    if options.when or options.signals:
        compare_when(engine, options, seed, progress, wide)
        return
    if options.layers:
        wide.print(sweep_layers(engine, list(cases), manifest.decoder.num_layers, progress))
        return
    shown = track(cases, description="asking", total=options.pictures, console=progress)
    flows = [Flow(method, mode == "on") for method in options.methods for mode in options.high_res]
    flows += [Flow("rel-att", False, floor) for floor in [options.divisor_floor] if floor is not None]
    tally = evaluate(engine, shown, seed, flows, options.compat)
    wide.print(accuracy_table(tally, flows))
    if options.save:
        raw = {f"{flow} / {group}": values for (flow, group), values in tally.hits.items()}
        options.save.write_text(json.dumps(raw) + "\n")


if __name__ == "__main__":
    main()
