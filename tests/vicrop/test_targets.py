"""The rule that finds the thing a question asks for, and what is made of a model's reply."""

from __future__ import annotations

import pytest

from vicrop_engine.vicrop.targets import MOST_WORDS, Target, find_target, from_reply, noun_phrase

PHRASES = {
    "What is written on the red sign?": "red sign",
    "What colour is the cup on the table?": "cup",
    "What is the name of the store on the left?": "store",
    "What is the number on the player's shirt?": "player's shirt",
    "Is the dog on the left or right side of the white truck?": "dog",
    "What is on the left of the traffic light?": "traffic light",
    "Is there a dog in the picture?": "dog",
    "How many people are there in the image?": "people",
    "Is this a vegetarian pizza?": "vegetarian pizza",
    "Which building is taller, the old one or that?": "building",
    "What is the woman wearing?": "woman",
    "WHAT IS THE MATERIAL OF THE GLOVE?": "GLOVE",
    "who wrote this book?": "book",
    "what does the stop-sign say": "stop-sign",
    "a b c d e f g h": "b c d e f g",
    "What is written there?": None,
    "What does it say?": None,
    "Describe the image.": None,
    "What is in the top left corner of the photo?": None,
    "Was steht auf dem Schild?": None,
    "the": None,
    "": None,
}


@pytest.mark.parametrize(("question", "phrase"), PHRASES.items())
def test_the_first_phrase_that_names_a_thing(question: str, phrase: str | None) -> None:
    assert noun_phrase(question) == phrase
    assert phrase is None or len(phrase.split()) <= MOST_WORDS


def test_what_is_given_comes_before_what_is_found() -> None:
    assert find_target("the blue door", "What is on the red sign?") == Target("blue door", "given")
    assert find_target(None, "What is on the red sign?") == Target("red sign", "noun phrase")
    assert find_target(None, "What does it say?") is None
    assert find_target("A", "What does it say?") == Target("A", "given")


@pytest.mark.parametrize(
    ("reply", "target"),
    [
        ("The sign.", Target("sign", "model")),
        (" a red car\nbecause it is there", Target("red car", "model")),
        ("Therapist", Target("Therapist", "model")),
        ('"clock"', Target("clock", "model")),
        ("", Target("What does it say", "question")),
        (" ...\n", Target("What does it say", "question")),
    ],
)
def test_a_reply_is_a_target_where_it_has_a_word(reply: str, target: Target) -> None:
    assert from_reply(reply, "What does it say?") == target


def test_the_prompt_ends_with_the_target() -> None:
    assert Target("red sign", "given").prompt == "Where is the red sign"
