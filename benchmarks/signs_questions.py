"""Every kind of question the embedded model was trained on, and a sign that is not there, on fresh pictures.

    python benchmarks/signs_questions.py [--pictures 900] [--method rel-att]
    python benchmarks/signs_questions.py --overlays 10 --out sheet.png   # the first small signs

benchmarks/signs_eval.py asks for the text of a sign alone. Each picture is asked one question of each kind,
without and with the crop; intervals are Wilson's, 95 %. The overlays are those of the first pictures whose
asked sign is small: nobody picked them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vicrop_engine import ViCropEngine
from vicrop_engine.drawing.overlay import Scene as Overlay
from vicrop_engine.drawing.overlay import render_overlay

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models" / "llava_signs"))

from questions import COUNT_QUESTION, PRESENCE_QUESTION, SHAPE_QUESTION, describe_question
from world import COLOUR_NAMES, SHAPES

from benchmarks.signs_eval import SIZES, TEST_SEED, Case, Tally, draw_cases, question_for

FLOWS = ("without crop", "with crop")
WITH_SIZES = ("text", "sign is there: yes", "shape")  # kinds whose answer depends on how large the sign is
NUMERALS = frozenset("0123456789")
COLUMNS, WIDTH = 2, 560  # of the sheet of overlays, and of one of them in pixels
COLOURS = 256  # so that the file is small


def questions(case: Case, rng: np.random.Generator) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Kind, question and the answers that count, for each kind that the picture allows."""
    signs, sign = case.scene.signs, case.sign
    colour, shape = COLOUR_NAMES[sign.colour], SHAPES[sign.shape]
    absent = [name for number, name in enumerate(COLOUR_NAMES) if all(one.colour != number for one in signs)]
    other = [name for name in SHAPES if name != shape]
    wrong, missing = other[rng.integers(len(other))], absent[rng.integers(len(absent))]
    anything = SHAPES[rng.integers(len(SHAPES))]
    yes, no = frozenset({"yes"}), frozenset({"no"})
    yield "text", question_for(case.scene, sign), frozenset({sign.text})
    yield "sign is there: yes", PRESENCE_QUESTION.format(name=f"{colour} {shape}"), yes
    yield "colour is absent: no", PRESENCE_QUESTION.format(name=f"{missing} {anything}"), no
    yield "colour is there but of another shape: no", PRESENCE_QUESTION.format(name=f"{colour} {wrong}"), no
    yield "shape", SHAPE_QUESTION.format(colour=colour), frozenset({shape})
    yield "count", COUNT_QUESTION, frozenset({str(len(signs))})
    described = describe_question(signs)
    yield "description", described.text, frozenset({described.answer})
    yield "text of an absent sign: a digit", f"What is written on the {missing} {anything} sign?", NUMERALS


def measure(engine: ViCropEngine, cases: Iterator[Case], method: str, seed: int) -> Tally:
    """Hits by flow, and by kind and the size of the asked sign."""
    tally = Tally()
    for number, case in enumerate(cases):
        pixels, rng = np.asarray(case.picture), np.random.default_rng((seed, number, 2))
        for kind, question, right in questions(case, rng):
            found = engine.ask(pixels, question, method=method, high_res="off")
            for flow, answer in zip(FLOWS, (found.answer_without_crop, found.answer), strict=True):
                tally.add(flow, (kind, f"{kind}, {case.size}"), answer in right)
    return tally


def table_of(tally: Tally) -> Table:
    """A row for each kind, and for each size where it matters."""
    table = Table("% (95 % interval)", *FLOWS)
    for kind in dict.fromkeys(group for _, group in tally.hits if not group.endswith(SIZES)):
        for group in [kind, *(f"{kind}, {size}" for size in SIZES if kind in WITH_SIZES)]:
            table.add_row(group, *(tally.cell(flow, group) for flow in FLOWS))
    return table


def overlay_sheet(engine: ViCropEngine, cases: Iterator[Case], method: str) -> Image.Image:
    """The overlays of these cases side by side, each with what is written there."""
    drawn = []
    for case in cases:
        found = engine.ask(np.asarray(case.picture), case.question, method=method)
        verdict = "right" if found.answer == case.sign.text else "wrong"
        overlay = render_overlay(
            Overlay(
                case.picture,
                case.question,
                found.answer,
                found.answer_without_crop,
                found.crop_box,
                found.heatmap,
                found.heatmap_box,
                caption=f"{verdict}: written there is {case.sign.text}.",
            )
        )
        drawn.append(overlay.resize((WIDTH, round(overlay.height * WIDTH / overlay.width))))
    rows = [drawn[start : start + COLUMNS] for start in range(0, len(drawn), COLUMNS)]
    heights = [max(one.height for one in row) for row in rows]
    sheet = Image.new("RGB", (COLUMNS * WIDTH, sum(heights)), "white")
    for number, row in enumerate(rows):
        for column, one in enumerate(row):
            sheet.paste(one, (column * WIDTH, sum(heights[:number])))
    return sheet


def main() -> None:
    """Command line; progress on standard error, the table on standard output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="llava-signs", help="engine directory or model name")
    parser.add_argument("--pictures", type=int, default=900)
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--method", default="rel-att")
    parser.add_argument("--overlays", type=int, help="draw so many small signs instead")
    parser.add_argument("--out", type=Path, default=Path("overlays.png"))
    options = parser.parse_args()
    engine = ViCropEngine.load(options.engine)
    side = engine.manifest.vision.image_size
    if options.overlays is not None:
        cases = draw_cases(options.seed, len(SIZES) * options.overlays, side)
        small = (case for case in cases if case.size == SIZES[0])
        sheet = overlay_sheet(engine, islice(small, options.overlays), options.method)
        sheet.quantize(COLOURS).save(options.out, optimize=True)
        return
    shown = track(
        draw_cases(options.seed, options.pictures, side),
        description="asking",
        total=options.pictures,
        console=Console(stderr=True),
    )
    Console(width=120).print(table_of(measure(engine, iter(shown), options.method, options.seed)))


if __name__ == "__main__":
    main()
