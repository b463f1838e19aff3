"""What an ask refuses, with which error, and that it does so before any work."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from vicrop_engine import Answer, ViCropEngine, ViCropError
from vicrop_engine.counters import Counters
from vicrop_engine.errors import (
    BatchError,
    BoxError,
    ImageError,
    LayerError,
    QuestionError,
    SettingError,
    ToolMissingError,
    UnknownMethodError,
)

QUESTION = "What is written on the red sign?"
STRIP = Image.new("RGB", (110_000, 2))
REFUSED: list[tuple[dict[str, Any], type[ViCropError], str]] = [
    ({"question": ""}, QuestionError, "the question is empty"),
    ({"question": "what is <image>?"}, QuestionError, "contains '<image>'"),
    ({"question": "sign " * 3000}, QuestionError, r"prompt of \d+ tokens, .* context of 2048; ask a shorter"),
    ({"localize": " "}, QuestionError, "the localize question is empty"),
    ({"localize": "sign " * 3000}, QuestionError, "context of 2048"),
    ({"max_new_tokens": 1990}, SettingError, r"got max_new_tokens 1990, .* at most \d+ fit"),
    ({"max_new_tokens": 0}, SettingError, "got max_new_tokens 0"),
    ({"max_new_tokens": 2.5}, SettingError, r"got max_new_tokens 2\.5"),
    (
        {"method": "rel_att"},
        UnknownMethodError,
        "known: none, rel-att, grad-att, pure-grad, target, carve, clip, yolo, sam; did you mean 'rel-att'",
    ),
    ({"method": "clip"}, ToolMissingError, r"run 'vicrop-engine build clip', or .* --clip DIR .*clip=DIR"),
    ({"method": "yolo"}, ToolMissingError, r"run 'vicrop-engine build yolo', or .* --yolo DIR .*yolo=DIR"),
    ({"method": "sam"}, ToolMissingError, r"run 'vicrop-engine build sam', or .* --sam DIR .*sam=DIR"),
    ({"method": "grad-att", "layers": "0-2"}, LayerError, "below 1, .* build llava-signs --layers 0 --force"),
    ({"layers": 4}, LayerError, "count from 0 to 3"),
    ({"layers": "2-9"}, LayerError, "layer 4 does not exist"),
    ({"layers": "some"}, LayerError, "write 14, 10-20 or all"),
    ({"layers": "some", "method": "none"}, LayerError, "write 14, 10-20 or all"),
    ({"high_res": "on", "method": "none"}, SettingError, "method 'none', which makes no heatmap"),
    ({"high_res": "on", "box": (0, 0, 9, 9)}, SettingError, "a box, which makes no heatmap; leave one"),
    (
        {"high_res": "on", "image": STRIP},
        ImageError,
        "110000 x 2 pixels makes 108 tiles and the limit is 100",
    ),
    ({"high_res": "on", "image": STRIP, "compat": "mllms-know"}, ImageError, "makes 55000 tiles"),
    ({"divisor_floor": 0.25, "method": "grad-att"}, SettingError, "method 'grad-att', which does not divide"),
    ({"divisor_floor": 0.25, "method": "none"}, SettingError, "leave it out, or take method 'rel-att'"),
    ({"divisor_floor": 0.25, "box": (0, 0, 9, 9)}, SettingError, "a box, which does not divide"),
    ({"target": "sign"}, SettingError, "method 'rel-att', which does not look for a thing; leave it out, or"),
    ({"target": "sign", "box": (0, 0, 9, 9)}, SettingError, "a box, which does not look for a thing"),
    ({"target": " ", "method": "target"}, QuestionError, "the target is empty"),
    ({"target": "a <image>", "method": "target"}, QuestionError, "the target contains '<image>'"),
    ({"target": 5, "method": "target"}, QuestionError, "the target is int, wanted text"),
    ({"target": "sign " * 3000, "method": "target"}, QuestionError, "context of 2048"),
    ({"high_res": "of"}, SettingError, "did you mean 'off'"),
    ({"compat": "mllms_know"}, SettingError, "known: mllms-know"),
    ({"box": (0, 0, 9, 9), "method": "none"}, SettingError, "leave one of them out"),
    ({"box": (0, 0, 9)}, BoxError, "wanted four whole numbers"),
    ({"box": (0, 0, 9.5, 9)}, BoxError, "wanted four whole numbers"),
    ({"box": "0,0,9,9"}, BoxError, "wanted four whole numbers"),
    ({"box": (0, 0, 901, 9)}, BoxError, "not inside the picture of 900 x 500"),
    ({"box": (-1, 0, 9, 9)}, BoxError, "not inside"),
    ({"box": (5, 5, 5, 9)}, BoxError, "not inside"),
    ({"image": "missing.png"}, ImageError, r"missing\.png does not exist"),
    ({"image": b""}, ImageError, "0 bytes"),
]


@pytest.mark.parametrize(("keywords", "kind", "words"), REFUSED)
def test_refused_before_any_work(
    engine: ViCropEngine, picture: Image.Image, keywords: dict[str, Any], kind: type[ViCropError], words: str
) -> None:
    arguments = {"image": picture, "question": QUESTION, **keywords}
    with pytest.raises(kind, match=words) as caught:
        engine.ask(**arguments)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert engine.counters == Counters()


def test_keywords_that_do_not_exist_are_a_mistake(engine: ViCropEngine, picture: Image.Image) -> None:
    for asked in (engine.ask, engine.locate):
        with pytest.raises(SettingError, match=r"unknown setting 'metod'.*did you mean 'method'"):
            asked(picture, QUESTION, metod="none")  # type: ignore[call-arg]
    with pytest.raises(SettingError, match="metod"):
        engine.ask_batch([(picture, QUESTION)], metod="none")  # type: ignore[call-arg]


def test_a_long_question_fits_where_one_picture_is_asked_about(
    engine: ViCropEngine, picture: Image.Image
) -> None:
    """The two-image prompt is longer: a question may fit without the crop and not with it."""
    tokens_each = 3  # bytes, for want of the character in the vocabulary
    beside = engine.ask(picture, "x", method="none", max_new_tokens=1).tokens
    question = "汉" * ((2048 - 4 - 100 - beside.prefill) // tokens_each)
    with pytest.raises(QuestionError, match="context of 2048"):
        engine.ask(picture, question, max_new_tokens=4)
    answer = engine.ask(picture, question, max_new_tokens=4, method="none")
    assert len(answer.token_ids) <= 4


def same(one: Answer, other: Answer) -> bool:
    return (one.token_ids, one.first_token_ids, one.crop_box) == (
        other.token_ids,
        other.first_token_ids,
        other.crop_box,
    )


def test_a_batch_is_the_same_as_one_by_one(engine: ViCropEngine, picture: Image.Image) -> None:
    items = [(picture, QUESTION), (picture.resize((300, 400)), "yes?"), (picture, "How many?")]
    alone = [engine.ask(image, question, max_new_tokens=4) for image, question in items]
    together = engine.ask_batch(items, max_new_tokens=4)
    assert all(same(*pair) for pair in zip(together, alone, strict=True))
    assert engine.ask_batch([]) == []


def test_one_bad_item_does_not_lose_the_good_ones(engine: ViCropEngine, picture: Image.Image) -> None:
    items: list[tuple[Any, str]] = [(picture, QUESTION), (b"", QUESTION), (picture, ""), (picture, QUESTION)]
    with pytest.raises(
        BatchError, match="2 of 4 items failed, the first with: the picture is empty"
    ) as caught:
        engine.ask_batch(items, max_new_tokens=4)
    kinds = [type(result) for result in caught.value.results]
    assert kinds == [Answer, ImageError, QuestionError, Answer]
    assert caught.value.exit_code == 2
    returned = engine.ask_batch(items, max_new_tokens=4, return_errors=True)
    assert [type(result) for result in returned] == kinds
    assert same(returned[0], caught.value.results[0])
