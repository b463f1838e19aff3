"""What is asked: questions about pictures, so many to a picture, in the order in which users would ask.

Drawn from a seed. Knows pictures and questions, not who answers them.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vicrop_engine.errors import ExamplesError, SettingError
from vicrop_engine.examples import Example
from vicrop_engine.images.picture import open_picture

SHORT, HIGH_RES = "short", "high-res"
QUALITY = 90


@dataclass(frozen=True)
class Workload:
    """How much is asked, and how it is mixed.

    Every picture gets `images_reuse` questions, asked by a user of its own; `users` of them are there at a
    time. A share of `high_res_share` of the pictures is looked at in tiles.
    """

    requests: int = 64
    images_reuse: int = 4
    users: int = 8
    high_res_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("requests", "images_reuse", "users"):
            if getattr(self, name) < 1:
                raise SettingError(f"got {name} {getattr(self, name)}, wanted a whole number from 1 up")
        if not 0 <= self.high_res_share <= 1:
            raise SettingError(f"got high_res_share {self.high_res_share:g}, wanted a share from 0 to 1")


@dataclass(frozen=True)
class Query:
    """One question about a picture, whose file is `image`; `picture` is the picture's number."""

    number: int
    picture: int
    question: str
    high_res: str
    image: bytes = field(repr=False)

    @property
    def kind(self) -> str:
        """SHORT or HIGH_RES."""
        return HIGH_RES if self.high_res == "on" else SHORT


def draw_queries(
    workload: Workload, examples: Sequence[tuple[Path, Example]], *, fresh: int = 0
) -> tuple[Query, ...]:
    """The queries in the order in which they are asked.

    When the list has been gone through, its pictures come again with their outermost pixels cut off, so that
    nothing kept of them serves. With `fresh` 1, 2 and so on, the same questions are about pictures cut
    further than any before.
    Raises ExamplesError when no picture has as many questions as asked for, and ImageError.
    """
    random = np.random.default_rng(workload.seed)
    asked = _questions(examples, workload.images_reuse)
    files = [path for path in asked if len(asked[path]) >= workload.images_reuse]
    order = random.permutation(len(files))
    count = -(-workload.requests // workload.images_reuse)
    cut = fresh * -(-count // len(files))
    tiled = _spread(count, workload.high_res_share)
    groups = []
    for picture in range(count):
        path = files[order[picture % len(files)]]
        image = _cut(path, cut + picture // len(files))
        picked = random.permutation(len(asked[path]))[: workload.images_reuse]
        high_res = "on" if tiled[picture] else "off"
        groups.append([(picture, asked[path][at], high_res, image) for at in picked])
    turns = [turn for first in range(0, count, workload.users) for turn in _in_turn(groups, first, workload)]
    return tuple(Query(number, *turn) for number, turn in enumerate(turns[: workload.requests]))


Turn = tuple[int, str, str, bytes]


def _questions(examples: Sequence[tuple[Path, Example]], wanted: int) -> dict[Path, list[str]]:
    found: defaultdict[Path, list[str]] = defaultdict(list)
    for path, example in examples:
        if example.question not in found[path]:
            found[path].append(example.question)
    most = max(map(len, found.values()))
    if most < wanted:
        raise ExamplesError(
            f"no picture of the list has {wanted} questions, the most is {most}; take --images-reuse {most}, "
            "or --examples with a list that asks more about a picture"
        )
    return found


def _in_turn(groups: Sequence[Sequence[Turn]], first: int, workload: Workload) -> list[Turn]:
    """The users from number `first` on that are there together: each asks its first question, then..."""
    there = groups[first : first + workload.users]
    return [group[turn] for turn in range(workload.images_reuse) for group in there]


def _spread(count: int, share: float) -> list[bool]:
    """`count` marks of which a share is true, as evenly as can be."""
    return [int((at + 1) * share + 1e-9) > int(at * share + 1e-9) for at in range(count)]


def _cut(path: Path, pixels: int) -> bytes:
    """The picture's file, or without so many pixels on every side, as JPEG."""
    if not pixels:
        return path.read_bytes()
    image = open_picture(path).image
    window = (pixels, pixels, image.width - pixels, image.height - pixels)
    if min(window[2] - pixels, window[3] - pixels) < 2:
        raise ExamplesError(
            f"{path.name} is too small to come {pixels} times; give a longer list of examples"
        )
    held = io.BytesIO()
    image.crop(window).save(held, format="JPEG", quality=QUALITY)
    return held.getvalue()
