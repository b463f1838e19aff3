"""Questions about signs and their answers, in the prompt of LLaVA-1.5.

Works from the list of signs alone: a drawn scene and a symbolic grid (symbolic.py) ask the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from world import COLOUR_NAMES, SHAPES

PROMPT = "\nUSER: {question} Answer the question using a single word or phrase.\nASSISTANT:"
BARE_PROMPT = "\nUSER: {question}\nASSISTANT:"
GENERAL_QUESTION = "Write a general description of the image."
READ_QUESTIONS = (
    "What is written on the {name} sign?",
    "What number is on the {name} sign?",
    "What does the {name} sign say?",
    "Which digit is on the {name} sign?",
)
PRESENCE_QUESTION = "Is there a {name} sign?"
COLOUR_QUESTION = "What color is the {shape} sign?"
SHAPE_QUESTION = "What shape is the {colour} sign?"
COUNT_QUESTION = "How many signs are there?"


class SignLike(Protocol):
    @property
    def colour(self) -> int: ...
    @property
    def shape(self) -> int: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Question:
    """A question, its answer, and the index of the sign it asks about (-1: no one sign)."""

    text: str
    answer: str
    sign: int = -1


def names_of(signs: Sequence[SignLike], index: int) -> list[str]:
    """Every name that means this sign and no other: its colour, its shape, both."""
    sign = signs[index]
    colour, shape = COLOUR_NAMES[sign.colour], SHAPES[sign.shape]
    names = [f"{colour} {shape}"]
    if sum(s.colour == sign.colour for s in signs) == 1:
        names.append(colour)
    if sum(s.shape == sign.shape for s in signs) == 1:
        names.append(shape)
    return names


def read_question(rng: np.random.Generator, signs: Sequence[SignLike], index: int) -> Question:
    """A question for the text of one sign."""
    names = names_of(signs, index)
    template = READ_QUESTIONS[rng.integers(len(READ_QUESTIONS))]
    return Question(template.format(name=names[rng.integers(len(names))]), signs[index].text, index)


def colour_read_question(signs: Sequence[SignLike], index: int) -> Question:
    """The simplest question: one wording, named by colour (which must be the sign's alone)."""
    return Question(READ_QUESTIONS[0].format(name=COLOUR_NAMES[signs[index].colour]), signs[index].text, index)


def other_question(rng: np.random.Generator, signs: Sequence[SignLike]) -> Question:
    """A question that is not about a text: presence, colour, shape, count or a description."""
    kind = int(rng.integers(5))
    index = int(rng.integers(len(signs)))
    sign = signs[index]
    if kind == 0:
        return _presence_question(rng, signs)
    if kind == 1 and sum(s.shape == sign.shape for s in signs) == 1:
        return Question(COLOUR_QUESTION.format(shape=SHAPES[sign.shape]), COLOUR_NAMES[sign.colour], index)
    if kind == 2 and sum(s.colour == sign.colour for s in signs) == 1:
        return Question(SHAPE_QUESTION.format(colour=COLOUR_NAMES[sign.colour]), SHAPES[sign.shape], index)
    if kind == 3:
        return Question(COUNT_QUESTION, str(len(signs)))
    return describe_question(signs)


def describe_question(signs: Sequence[SignLike]) -> Question:
    """The general prompt's question; its answer lists the colours in the palette's order."""
    colours = sorted({sign.colour for sign in signs})
    return Question(GENERAL_QUESTION, " ".join([*(COLOUR_NAMES[c] for c in colours), "signs"]))


def _presence_question(rng: np.random.Generator, signs: Sequence[SignLike]) -> Question:
    if rng.random() < 0.5:
        index = int(rng.integers(len(signs)))
        names = names_of(signs, index)
        return Question(PRESENCE_QUESTION.format(name=names[rng.integers(len(names))]), "yes", index)
    present = {(sign.colour, sign.shape) for sign in signs}
    while True:
        colour, shape = int(rng.integers(len(COLOUR_NAMES))), int(rng.integers(len(SHAPES)))
        if (colour, shape) not in present:
            return Question(PRESENCE_QUESTION.format(name=f"{COLOUR_NAMES[colour]} {SHAPES[shape]}"), "no")
