"""What is to be asked of one benchmark: every question in every way, each with the key of its answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vicrop_engine.errors import DatasetError
from vicrop_engine.evaluation.benchmarks.benchmark import Benchmark, Prompt
from vicrop_engine.evaluation.question import PictureFile, Question
from vicrop_engine.evaluation.settings import EvalSettings, Variant
from vicrop_engine.evaluation.sources.rows import Questions
from vicrop_engine.vicrop.params import AskParams

KEY_LETTERS = 20  # of sha256: 80 bits


@dataclass(frozen=True)
class Task:
    """One question in one way: `text` is what is asked, `head` the beginning of its line in the file."""

    key: str
    row: int
    question: Question
    text: str
    variant: Variant
    params: AskParams
    head: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A benchmark, its questions, how they are worded, and which of them are asked how.

    `engine` is the digest of the engine; `harness` the name of the prompt's. Answers are kept by all of it.
    """

    benchmark: Benchmark
    questions: Questions
    harness: str
    prompt: Prompt
    settings: EvalSettings
    engine: str

    @property
    def rows(self) -> list[int]:
        """The numbers of the questions asked."""
        return self.settings.sample.rows(self.questions.origin.rows)

    @property
    def max_new_tokens(self) -> int:
        """How long an answer may be."""
        return self.settings.max_new_tokens or self.prompt.max_new_tokens

    def __len__(self) -> int:
        return len(self.rows) * len(self.settings.variants)

    def tasks(self) -> Iterator[Task]:
        """All tasks, those about one picture one after the other. Raises DatasetError naming the row."""
        for row in self.rows:
            try:
                question = self.questions.question(row)
            except DatasetError as error:
                raise DatasetError(f"{self.benchmark.name}, row {row}: {error}") from error
            for variant in self.settings.variants:
                yield self._task(row, question, variant)

    def picture(self, row: int) -> PictureFile:
        """The picture of a question. Raises ImageError."""
        return self.questions.picture(row)

    def _task(self, row: int, question: Question, variant: Variant) -> Task:
        prompt, origin = self.prompt, self.questions.origin
        text, look = prompt.write(question), None if prompt.look is None else prompt.look(question)
        params = self.settings.params(variant, self.max_new_tokens, look)
        asked = {
            "benchmark": self.benchmark.name,
            "dataset": origin.dataset,
            "revision": origin.revision,
            "config": origin.config,
            "split": origin.split,
            "row": row,
            "question_id": question.id,
            "engine": self.engine,
            "prompt": self.harness,
            "question": text,
            "settings": {
                **{name: value for name, value in vars(params).items() if name not in LEFT_OUT},
                "layers": variant.layers,
            },
        }
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:KEY_LETTERS]
        return Task(key, row, question, text, variant, params, {"key": key, **asked})


LEFT_OUT = (
    "box",
    "first_answer",
    "picture_tiles",
    "crop_tiles",
)  # of an ask's settings: never other than usual
