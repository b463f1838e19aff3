"""What came of a task, as its line in the file says it: an answer, or the sentence of what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vicrop_engine.evaluation.plan import Task
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.localizers.localizer import Localization

KEPT = ("answer", "answer_without_crop", "crop_box", "crop_skipped", "image_size")


@dataclass(frozen=True)
class Reply:
    """The facts of an answer that are the same each time, the seconds it took, or an error."""

    facts: dict[str, Any]
    seconds: float | None = None
    error: str | None = None

    def line(self, task: Task) -> dict[str, Any]:
        """The line of the file."""
        empty = dict.fromkeys((*KEPT, "crop_tokens", "decoded"))
        return {**task.head, **empty, **self.facts, "error": self.error}


def answered(answer: Answer) -> Reply:
    """Of an answer in this process."""
    return answered_json(answer.to_json(), answer.timings["total"])


def answered_json(document: Mapping[str, Any], seconds: float | None) -> Reply:
    """Of an answer's JSON."""
    tokens = document["tokens"]
    facts = {name: document[name] for name in KEPT}
    return Reply({**facts, "crop_tokens": tokens["crop"], "decoded": tokens["decoded"]}, seconds)


def located(found: Localization, size: tuple[int, int], seconds: float) -> Reply:
    """Of a crop that was found without an answer, in a picture of `size`, width and height."""
    return Reply({"crop_box": list(found.box), "image_size": list(size)}, seconds)


def failed(error: Exception) -> Reply:
    """Of a task that ended with an error."""
    return Reply({}, error=" ".join(str(error).split()))
