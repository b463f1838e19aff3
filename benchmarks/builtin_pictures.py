"""Draw the pictures that `build` compares precisions on: `python benchmarks/builtin_pictures.py`.

Scenes of the signs world from a seed of their own, with a question for every sign, written into the build
package so that a build needs neither this folder nor the world.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.signs_eval import draw_cases, question_for  # noqa: E402

SEED, PICTURES, INPUT_SIDE, QUALITY = 20260, 48, 168, 75
FOLDER = ROOT / "export" / "vicrop_export" / "pictures"


def main() -> None:
    """Replace the folder's pictures and their questions."""
    FOLDER.mkdir(exist_ok=True)
    questions: dict[str, list[str]] = {}
    for number, case in enumerate(draw_cases(SEED, PICTURES, INPUT_SIDE)):
        name = f"signs-{number:02d}.webp"
        case.picture.save(FOLDER / name, quality=QUALITY, method=6)
        asked = [question_for(case.scene, sign) for sign in case.scene.signs]
        questions[name] = list(dict.fromkeys([case.question, *asked]))
    (FOLDER / "questions.json").write_text(json.dumps(questions, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
