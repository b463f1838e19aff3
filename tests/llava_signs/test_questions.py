"""Questions and their tokens: names mean one sign, answers are true, words are single tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import (
    PROMPT,
    describe_question,
    names_of,
    other_question,
    read_question,
)
from vocabulary import BOS, EOS, IMAGE, PAD, UNK, build_tokenizer
from world import COLOUR_NAMES, SHAPES, Sign, make_scene


def signs_of(seed: int) -> tuple[Sign, ...]:
    return make_scene(np.random.default_rng(seed), 168, num_signs=(3, 6)).signs


@pytest.mark.parametrize("seed", range(20))
def test_a_name_means_one_sign_and_the_answer_is_its_text(seed: int) -> None:
    signs = signs_of(seed)
    rng = np.random.default_rng(seed)
    for index, sign in enumerate(signs):
        for name in names_of(signs, index):
            colour, _, shape = name.partition(" ")
            meant = [s for s in signs if COLOUR_NAMES[s.colour] == colour and shape in ("", SHAPES[s.shape])]
            assert meant == [sign]
        question = read_question(rng, signs, index)
        assert (question.answer, question.sign) == (sign.text, index)
        assert any(name in question.text for name in names_of(signs, index))


def test_other_questions_have_true_answers_of_every_kind() -> None:
    seen = set()
    for seed in range(80):
        signs = signs_of(seed)
        question = other_question(np.random.default_rng(seed), signs)
        words = question.text.rstrip("?.").split()
        if words[0] == "How":
            assert question.answer == str(len(signs))
        elif words[:2] == ["What", "shape"]:
            (sign,) = (s for s in signs if COLOUR_NAMES[s.colour] == words[4])
            assert question.answer == SHAPES[sign.shape]
        elif words[0] == "Is":
            is_there = any(COLOUR_NAMES[s.colour] == words[3] for s in signs)
            assert question.answer == ("yes" if is_there else "no")
        else:
            assert question == describe_question(signs)
            assert all(COLOUR_NAMES[s.colour] in question.answer for s in signs)
        seen.add(words[0] + words[1])
    assert len(seen) == 4


def test_words_of_the_world_are_single_tokens() -> None:
    tokenizer = build_tokenizer()
    for word in (*COLOUR_NAMES, *SHAPES, "sign", "written", "7", "yes"):
        assert len(tokenizer.encode(word, add_special_tokens=False).ids) == 1, word
    prompt = tokenizer.encode(PROMPT.format(question="What does the red sign say?"), add_special_tokens=False)
    assert len(prompt.ids) < 40


@given(st.text(max_size=60))
def test_any_text_survives(text: str) -> None:
    tokenizer = build_tokenizer()
    if any(special in text for special in (UNK, BOS, EOS, PAD, IMAGE)) or "\u2581" in text:
        return
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_to_id(UNK) not in ids
