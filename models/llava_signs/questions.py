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
    """Names that mean this sign: its colour and shape, and its colour alone where no other sign has it."""
    sign = signs[index]
    colour, shape = COLOUR_NAMES[sign.colour], SHAPES[sign.shape]
    alone = sum(s.colour == sign.colour for s in signs) == 1
    return [f"{colour} {shape}", colour] if alone else [f"{colour} {shape}"]


def read_question(rng: np.random.Generator, signs: Sequence[SignLike], index: int) -> Question:
    """A question for the text of one sign."""
    names = names_of(signs, index)
    template = READ_QUESTIONS[rng.integers(len(READ_QUESTIONS))]
    return Question(template.format(name=names[rng.integers(len(names))]), signs[index].text, index)


def colour_read_question(signs: Sequence[SignLike], index: int) -> Question:
    """The simplest question: one wording, named by colour (which must be the sign's alone)."""
    return Question(
        READ_QUESTIONS[0].format(name=COLOUR_NAMES[signs[index].colour]), signs[index].text, index
    )


def colour_question(signs: Sequence[SignLike], index: int) -> Question:
    """The colour's name and no more: the first step towards a question."""
    return Question(COLOUR_NAMES[signs[index].colour], signs[index].text, index)


def other_question(rng: np.random.Generator, signs: Sequence[SignLike]) -> Question:
    """A question that is not about a text: presence, shape, count or a description."""
    kind = int(rng.integers(4))
    index = int(rng.integers(len(signs)))
    if kind == 0:
        return _presence_question(rng, signs)
    if kind == 1:
        name = COLOUR_NAMES[signs[index].colour]
        return Question(SHAPE_QUESTION.format(colour=name), SHAPES[signs[index].shape], index)
    if kind == 2:
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
    absent = [c for c in range(len(COLOUR_NAMES)) if all(sign.colour != c for sign in signs)]
    colour, shape = COLOUR_NAMES[absent[rng.integers(len(absent))]], SHAPES[rng.integers(len(SHAPES))]
    return Question(PRESENCE_QUESTION.format(name=(colour, f"{colour} {shape}")[rng.integers(2)]), "no")
