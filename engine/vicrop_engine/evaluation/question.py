"""A question of a benchmark and what would be right; knows nothing of where it stands or how it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vicrop_engine.images.geometry import Box

PictureFile = Path | bytes  # a file, or its content
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Question:
    """A row of a benchmark, in the words that all of them share.

    `text` is the question as it stands there, `answers` what is right: people's answers, or the letter of one
    of `options`. `category` and `cycle` are groups it belongs to ("" where there are none), `wording`
    is the whole prompt where a data set brings one. `boxes` are those of what is asked about, corners in
    pixels of the picture as its file lies there; none where they are not known.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()
    category: str = ""
    cycle: str = ""
    wording: str = ""
    boxes: tuple[Box, ...] = ()

    @property
    def lettered(self) -> dict[str, str]:
        """The options by letter."""
        return dict(zip(LETTERS, self.options, strict=False))


@dataclass(frozen=True)
class Origin:
    """Where questions are from: data set, its revision, configuration, split, and how many they are.

    It stands beside every number.
    """

    dataset: str
    revision: str
    config: str
    split: str
    rows: int
