"""Put a trained checkpoint into the package: copies, builds, calibrates, draws the demo.

    python embed.py CHECKPOINT

The demo picture is the first of a seed to show the point of the method: a sign too small to read, answered
wrongly without the crop and rightly with it, whose text no other sign of the picture has. What happens on
pictures nobody picked is in the card.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from questions import READ_QUESTIONS, names_of
from world import Scene, make_scene, render

from vicrop_engine import ViCropEngine
from vicrop_engine.builder import build_model
from vicrop_engine.engine_dir.manifest import add_calibration
from vicrop_engine.engine_dir.registry import find_model
from vicrop_engine.examples import DEMO_MODEL
from vicrop_engine.measure.calibration import calibrated, try_examples

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.signs_eval import draw_cases

CALIBRATED, KEPT = ("rel-att", "grad-att"), 0.95  # methods, and the share of the crop's gain to keep
CALIBRATION_SEED, CALIBRATION_PICTURES = 3, 1800
SMALL_TEXT, SEED = 3.4, 7  # text height at the model's input; of the pictures to choose from


def main() -> None:
    """Fill the package's folder of the embedded model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    options = parser.parse_args()
    model = find_model(DEMO_MODEL)
    if not (model.checkpoint.exists() and options.checkpoint.samefile(model.checkpoint)):
        shutil.rmtree(model.checkpoint, ignore_errors=True)
        shutil.copytree(options.checkpoint, model.checkpoint)
    build_model(model, model.shipped_engine, pure_grad=True, force=True)
    calibrate(model.shipped_engine)
    print(write_demo(model.home, ViCropEngine.load(model.shipped_engine)))


def calibrate(directory: Path) -> None:
    """Measure for `--when auto` on pictures drawn like the evaluation's, of another seed."""
    engine = ViCropEngine.load(directory, cache_bytes=0)
    for method in CALIBRATED:
        cases = draw_cases(CALIBRATION_SEED, CALIBRATION_PICTURES, engine.manifest.vision.image_size)
        examples = ((case.picture, case.question, case.sign.text) for case in cases)
        found = calibrated(method, list(try_examples(engine, examples, method)), KEPT)
        add_calibration(directory, found)
        print(f"{method}: crop from worth {found.threshold:.4f}, {found.auto:.1%} right at {found.cost:.1%}")


def write_demo(home: Path, engine: ViCropEngine) -> str:
    """Write demo.png and demo.json; says which picture of the seed was taken."""
    for number in range(200):
        scene = make_scene(np.random.default_rng((SEED, number)), engine.manifest.vision.image_size)
        index = smallest_sign(scene, engine.manifest.vision.image_size)
        if index is None:
            continue
        picture, sign = render(scene), scene.signs[index]
        question = READ_QUESTIONS[0].format(name=names_of(scene.signs, index)[0])
        answer = engine.ask(picture, question)
        if answer.answer == sign.text != answer.answer_without_crop:
            picture.save(home / "demo.png", optimize=True)
            box = [round(side) for side in sign.box]
            document = {"question": question, "answer": sign.text, "box": box}
            (home / "demo.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            return f"demo: picture {number} of seed {SEED}, {question} {sign.text}"
    raise SystemExit(f"no picture of seed {SEED} is answered rightly with the crop alone; train on")


def smallest_sign(scene: Scene, input_side: int) -> int | None:
    """The sign with the smallest text if it is unreadable, and there are others, none with the same text."""
    heights = [sign.text_height_in(scene.window, input_side) for sign in scene.signs]
    if len(heights) < 3 or min(heights) > SMALL_TEXT:
        return None
    smallest = heights.index(min(heights))
    alone = [sign.text for sign in scene.signs].count(scene.signs[smallest].text) == 1
    return smallest if alone else None


if __name__ == "__main__":
    main()
