"""What a benchmark is: where it is, how its rows are read, how each harness words it, and what scores it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vicrop_engine.errors import SettingError
from vicrop_engine.evaluation.question import PictureFile, Question
from vicrop_engine.evaluation.scorers.scorer import EXACT, Scorer
from vicrop_engine.evaluation.sources.columns import Row, picture

Write = Callable[[Question], str]


@dataclass(frozen=True)
class Prompt:
    """How a harness words a question, `template` for people to read, and how long an answer may be.

    `look` is what to look for the crop with, where that is not the question. `note` says what the harness
    leaves open and was chosen here.
    """

    template: str
    write: Write
    max_new_tokens: int
    look: Write | None = None
    note: str = ""


@dataclass(frozen=True)
class Place:
    """A data set on the hub: ids to try in order, configuration, split, and the rows it is known to have."""

    ids: tuple[str, ...]
    config: str | None
    split: str
    rows: int


@dataclass(frozen=True)
class Benchmark:
    """A benchmark; `prompts` by harness, `scorers` in the order they are shown in.

    `joined` is a second data set with the pictures, by the columns (here, there) that name one.
    `boxes` is the benchmark whose questions say where the answer stands.
    """

    name: str
    place: Place
    read: Callable[[Row], Question]
    prompts: Mapping[str, Prompt]
    scorers: tuple[Scorer, ...]
    image: str = "image"
    joined: tuple[Place, tuple[str, str]] | None = None
    boxes: str = ""
    picture: Callable[[Row, str], PictureFile] = field(default=picture)

    def scored_by(self, name: str) -> tuple[Scorer, ...]:
        """The scorers of a harness, or that of questions that belong to none. Raises SettingError."""
        found = tuple(scorer for scorer in self.scorers if scorer.name in (name, EXACT))
        if not found:
            known = dict.fromkeys(scorer.name for scorer in self.scorers)
            raise SettingError(f"{self.name} is not scored by {name}; known: {', '.join(known)}")
        return found

    def worded_by(self, name: str) -> Prompt:
        """The prompt of a harness, of the only one where there is but one way. Raises SettingError."""
        if EXACT in self.prompts:
            return self.prompts[EXACT]
        if name not in self.prompts:
            raise SettingError(f"{self.name} has no prompt of {name}; known: {', '.join(self.prompts)}")
        return self.prompts[name]
