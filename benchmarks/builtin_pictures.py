"""Draw the built-in pictures of signs, for comparing precisions and layers: `python builtin_pictures.py`.

Scenes of the signs world from a seed of their own, with a question, its answer and its box for every sign,
written into the package so that neither this folder nor the world is needed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.signs_eval import draw_cases, question_for
from vicrop_engine.examples import EXAMPLES, SIGNS

SEED, PICTURES, INPUT_SIDE, QUALITY = 20260, 48, 168, 75


def main() -> None:
    """Replace the folder's pictures and their list."""
    SIGNS.mkdir(exist_ok=True)
    examples = []
    for number, case in enumerate(draw_cases(SEED, PICTURES, INPUT_SIDE)):
        name = f"signs-{number:02d}.webp"
        case.picture.save(SIGNS / name, quality=QUALITY, method=6)
        others = [sign for sign in case.scene.signs if sign is not case.sign]
        for sign in (case.sign, *others):
            box = [round(side) for side in sign.box]
            question = question_for(case.scene, sign)
            examples.append({"image": name, "question": question, "answer": sign.text, "box": box})
    (SIGNS / EXAMPLES).write_text("[\n" + ",\n".join(map(json.dumps, examples)) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
