"""The form of answers: where they end, JSON within a schema, log probabilities, and what has to fit."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import jsonschema
import numpy as np
import pytest

from vicrop_engine import AnswerForm, AskParams, ViCropEngine
from vicrop_engine.errors import QuestionError, SchemaError, SettingError
from vicrop_engine.examples import demo_question, signs
from vicrop_engine.model.answers.greedy import AnswerTokens, TokenRules
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.text_alone import TEXT_ALONE

PICTURE = demo_question()[0]
QUESTION = demo_question()[1]["question"]
GENERAL = "Write a general description of the image."
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "object"},
    {
        "type": "object",
        "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}},
        "required": ["answer", "sure"],
        "additionalProperties": False,
    },
    {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]},
    {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3},
    {"type": "string", "pattern": "^[A-Z][0-9]$"},
    {
        "type": "object",
        "properties": {"signs": {"type": "array", "items": {"$ref": "#/$defs/sign"}}},
        "required": ["signs"],
        "$defs": {"sign": {"type": "object", "properties": {"text": {"type": "string", "maxLength": 8}}}},
    },
)


@pytest.fixture(scope="module")
def engine() -> ViCropEngine:
    return ViCropEngine.load("llava-signs", threads=1)


def asked(engine: ViCropEngine, tokens: int = 20, **form: Any) -> Answer:
    return engine.ask(PICTURE, QUESTION, max_new_tokens=tokens, form=AnswerForm(**form))


def test_a_form_that_asks_for_nothing_changes_nothing(engine: ViCropEngine) -> None:
    plain = engine.ask(PICTURE, QUESTION)
    formed = asked(engine, fits=True, top_logprobs=3, stop=("never said",))
    assert (formed, formed.confidence) == (plain, plain.confidence)


def test_an_answer_ends_before_a_stop_text(engine: ViCropEngine) -> None:
    def described(**form: Any) -> Answer:
        given = AnswerForm(ignore_eos=True, **form)
        return engine.ask(PICTURE, GENERAL, max_new_tokens=20, form=given)

    whole = described()
    assert len(whole.token_ids) == 20
    cut = described(stop=("nowhere", "white"))
    assert cut.answer == whole.answer[: whole.answer.index("white")].strip()
    assert (cut.stopped, whole.stopped) == (True, False)
    assert len(cut.token_ids) < 20
    assert "white" not in str(cut.answer_without_crop)


def test_a_text_that_grows_never_shows_what_may_be_a_stop() -> None:
    form, text = AnswerForm(stop=("</end>", "\n\n")), "one\ntwo </e then</end> three"
    shown = [form.settled(text[:size]) for size in range(len(text) + 1)]
    assert all(after.startswith(before) for before, after in itertools.pairwise(shown))
    assert shown[-1] == form.cut(text) == "one\ntwo </e then"
    assert form.settled("one\n") == "one"


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_answers_fit_their_schema(engine: ViCropEngine, schema: dict[str, Any]) -> None:
    """Of a model that never saw JSON, which would write on in every text for ever."""
    for path, example in signs()[:4]:
        form = AnswerForm(json_schema=json.dumps(schema))
        answer = engine.ask(path, example.question, max_new_tokens=160, form=form)
        for text in (answer.answer, str(answer.answer_without_crop)):
            jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("no json", "not JSON"),
        ("[]", "wanted an object"),
        ('{"type": "frob"}', "cannot be used"),
        ('{"$ref": "https://example.com/schema"}', "cannot be used"),
        ('{"type": "string", "pattern": "("}', "cannot be used"),
        ('{"enum": ["' + "x" * 100_000 + '"]}', "the limit is"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(engine: ViCropEngine, schema: str, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        asked(engine, json_schema=schema)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"stop": ("",)}, "1 to 256"),
        ({"stop": ("x",) * 17}, "at most 16"),
        ({"top_logprobs": 21}, "0 to 20"),
        ({"json_schema": "{}", "ignore_eos": True}, "leave one of them out"),
    ],
)
def test_a_form_that_cannot_be_is_refused(form: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        AnswerForm(**form)


@pytest.mark.parametrize(
    ("settings", "words"), [({"history": "User: a"}, "list of texts"), ({"form": "json"}, "AnswerForm")]
)
def test_neither_is_a_form_or_history_of_another_kind(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        AskParams.of(settings)


def test_log_probabilities_are_those_of_the_answer(engine: ViCropEngine) -> None:
    answer = asked(engine, tokens=8, ignore_eos=True, top_logprobs=4)
    assert answer.logprobs is not None
    assert "".join(token.text for token in answer.logprobs).strip() == answer.answer
    for token in answer.logprobs:
        assert token.top[0] == (token.text, token.logprob)
        values = [value for _, value in token.top]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) <= 1 + 1e-9
    short = asked(engine, top_logprobs=0)
    assert short.logprobs is not None
    assert all(token.top == () for token in short.logprobs)


def test_the_likeliest_tokens_are_those_of_the_softmax() -> None:
    logits = np.array([0.0, 3.0, 1.0, 2.0], np.float32)
    tokens = AnswerTokens((), 1, rules=TokenRules(top=3))
    tokens.take(logits)
    (made,) = tokens.generation.logprobs
    expected = logits - np.log(np.exp(logits.astype(np.float64)).sum())
    assert [id for id, _ in made.top] == [1, 3, 2]
    assert [value for _, value in made.top] == pytest.approx(expected[[1, 3, 2]])


def test_a_long_answer_is_shortened_where_it_may_be(engine: ViCropEngine) -> None:
    with pytest.raises(SettingError, match="or less"):
        asked(engine, tokens=32_768)
    answer = asked(engine, tokens=32_768, fits=True)
    assert "32768 tokens was asked for" in answer.notices[0]
    assert answer == engine.ask(PICTURE, QUESTION, form=AnswerForm(fits=True)) or answer.notices


def test_earlier_turns_stand_before_the_question(engine: ViCropEngine) -> None:
    turns = ("User: What is this?", "Assistant: a street")
    answer = engine.ask(PICTURE, QUESTION, history=turns)
    same = engine.ask(PICTURE, "\n".join((*turns, QUESTION)), localize=QUESTION)
    assert (answer, answer.confidence) == (same, same.confidence)
    assert answer.crop_box == engine.ask(PICTURE, QUESTION).crop_box


def test_the_oldest_turns_go_first_where_they_do_not_fit(engine: ViCropEngine) -> None:
    turns = tuple(f"User: number {number} of many words" for number in range(200))
    with pytest.raises(QuestionError, match="ask a shorter one"):
        engine.ask(PICTURE, QUESTION, history=turns)
    answer = engine.ask(PICTURE, QUESTION, history=turns, form=AnswerForm(fits=True))
    gone = int(answer.notices[0].split()[1])
    assert 0 < gone < 200
    kept = engine.ask(PICTURE, QUESTION, history=turns[gone:])
    assert (kept.answer, kept.confidence) == (answer.answer, answer.confidence)
    none = engine.ask(PICTURE, QUESTION, history=("x" * 10**6,), form=AnswerForm(fits=True))
    assert none.answer == engine.ask(PICTURE, QUESTION).answer


def test_text_alone_is_answered_without_a_picture(engine: ViCropEngine) -> None:
    answer = engine.answer(TEXT_ALONE, "What is 1 + 1?", AskParams(max_new_tokens=5))
    assert answer.answer
    assert (answer.crop_box, answer.heatmap, answer.method, answer.image_size) == (None, None, "none", (0, 0))
    assert answer.answer == answer.answer_without_crop
    with pytest.raises(QuestionError, match="is empty"):
        engine.answer(TEXT_ALONE, " ", AskParams())
    with pytest.raises(QuestionError, match="ask a shorter one"):
        engine.answer(TEXT_ALONE, "word " * 2000, AskParams())
