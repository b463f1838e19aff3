"""Questions with known answers and places: the built-in pictures of signs, or a list of the user's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.registry import find_model
from vicrop_engine.errors import ExamplesError
from vicrop_engine.images.picture import picture_size, read_picture
from vicrop_engine.user_text import read_text

SIGNS = Path(__file__).parent / "signs"

EXAMPLES = "examples.json"


@dataclass(frozen=True)
class Example:
    """A question about a picture, the box (x0, y0, x1, y1 in its pixels) of what it is about, and its answer.

    A relative `image` is one beside the list it stands in.
    """

    image: str
    question: str
    box: tuple[int, int, int, int]
    answer: str | None = None


def read_examples(path: Path) -> list[tuple[Path, Example]]:
    """The pictures and examples of a JSON list of objects with the keys of Example.

    Raises ExamplesError when the list cannot be read, is empty or names no picture that is there.
    """
    try:
        document = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise ExamplesError(f"{path} cannot be read as JSON ({error}); wanted {_WANTED}") from error
    if not isinstance(document, list) or not document:
        raise ExamplesError(f"{path} holds no list of examples; wanted {_WANTED}")
    examples = []
    sizes: dict[Path, tuple[int, int]] = {}
    for number, item in enumerate(document):
        example = parse(Example, item, f"{path}, example {number}")
        image = path.parent / example.image
        if not image.is_file():
            raise ExamplesError(f"{path}, example {number}: there is no picture {image}; mend its path")
        if image not in sizes:
            sizes[image] = picture_size(read_picture(image), name=str(image))
        _check_box(example, sizes[image], f"{path}, example {number}")
        examples.append((image, example))
    return examples


def _check_box(example: Example, size: tuple[int, int], where: str) -> None:
    """Raises ExamplesError for corners that are none, as a box of x, y, width and height usually is.

    The size (width, height) is the file's: a photograph that lies on its side may be asked about upright.
    """
    x0, y0, x1, y1 = example.box
    fits = any(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for width, height in (size, size[::-1]))
    if not fits:
        raise ExamplesError(
            f"{where}: the box {list(example.box)} is not x0, y0, x1, y1 with x0 < x1 and y0 < y1 inside the "
            f"picture of {size[0]} x {size[1]} pixels; give two corners, not a width and a height"
        )


def signs() -> list[tuple[Path, Example]]:
    """The built-in examples: signs with a digit, every sign of a picture asked for, one after the other."""
    return read_examples(SIGNS / EXAMPLES)


_WANTED = 'a list of objects with "image", "question" and "box", and with "answer" if it is known'

DEMO_MODEL = "llava-signs"


def demo_question() -> tuple[Path, dict[str, str]]:
    """The embedded picture's file, and its "question" with the right "answer"."""
    home = find_model(DEMO_MODEL).home
    return home / "demo.png", json.loads((home / "demo.json").read_text(encoding="utf-8"))
