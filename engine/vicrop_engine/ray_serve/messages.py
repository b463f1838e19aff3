"""What goes between ingress and replica: a request, the texts that grow, and how it ended.

Knows nothing of Ray.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.counters import Counters
from vicrop_engine.errors import ViCropError
from vicrop_engine.images.picture import ImageInput, open_picture
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.params import AskParams

Portable = bytes | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Asked:
    """A picture or none, a question and how it is answered, seconds allowed, and which texts are wanted."""

    image: Portable | None
    question: str
    params: AskParams
    deadline: float
    hears_first_answer: bool = False
    hears_answer: bool = False


@dataclass(frozen=True)
class TextSoFar:
    """An answer's text as far as it has grown: the first answer's when `first`."""

    text: str
    first: bool


@dataclass(frozen=True)
class Course:
    """How a request went in `replica`: what was run and reused, and seconds since it came there."""

    replica: str
    counters: Counters
    shared: bool
    began: float | None
    first_token: float | None


@dataclass(frozen=True)
class Answered:
    """The answer, and how it came about."""

    answer: Answer
    course: Course


@dataclass(frozen=True)
class Refused:
    """The error a request ended with. Not the error itself: not every error can be pickled."""

    kind: type[ViCropError]
    arguments: tuple[Any, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def with_error(cls, error: ViCropError) -> Refused:
        """The message that carries `error`."""
        return cls(type(error), error.args, dict(vars(error)))

    def error(self) -> ViCropError:
        """The error again, of the same class, with the same message and attributes."""
        error = self.kind.__new__(self.kind)
        error.args = self.arguments
        error.__dict__.update(self.facts)
        return error


@dataclass(frozen=True)
class ReplicaFacts:
    """A replica as it is now: its process, its machine, and what its engine has run since it was opened."""

    replica: str
    process: int
    node: str
    counters: Counters
    running: int
    waiting: int
    kv_usage: float


def portable(image: ImageInput) -> Portable:
    """The picture as another machine can take it: bytes as they are, else pixels. Raises ImageError."""
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    return np.asarray(open_picture(image).image)


def image_key(image: Portable) -> str:
    """A digest of the picture, the same on every machine; requests with the same one share a prefix."""
    if isinstance(image, bytes):
        return hashlib.blake2b(image, digest_size=16).hexdigest()
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
