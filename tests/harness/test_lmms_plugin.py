"""The plugin for lmms-eval, with a stand-in for what it takes from there: lmms-eval itself is never ours.

`scripts/lmms_eval_run.py` runs the real one, in an environment of its own.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import pytest
from PIL import Image

from vicrop_engine.errors import ItemError, QuestionError, SettingError
from vicrop_engine.examples import signs
from vicrop_engine.harness.requests import turn_of
from vicrop_engine.vicrop.params import AskParams

SENTENCE = " Answer the question using a single word or phrase."
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Manifest:
    """As lmms-eval's, of what is used."""

    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None


@dataclass
class Hook:
    """A cache that keeps what it is told."""

    kept: list[tuple[str, Any, str]] = field(default_factory=list)

    def add_partial(self, kind: str, request: Any, answer: str) -> None:
        self.kept.append((kind, request, answer))


class Base:
    """lmms-eval's class of models, of what is used."""

    def __init__(self) -> None:
        self.cache_hook, self.task_dict = Hook(), {}


@dataclass(frozen=True)
class Request:
    """As lmms-eval's Instance."""

    args: tuple[Any, ...]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module with the model."""
    registry, model = types.ModuleType("registry_v2"), types.ModuleType("model")
    registry.ModelManifest, model.lmms = Manifest, Base  # type: ignore[attr-defined]
    for name in ("lmms_eval", "lmms_eval.models", "lmms_eval.api"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "lmms_eval.models.registry_v2", registry)
    monkeypatch.setitem(sys.modules, "lmms_eval.api.model", model)
    yield importlib.import_module("vicrop_engine.harness.lmms_model")
    for name in ("lmms_model", "manifest"):
        sys.modules.pop(f"vicrop_engine.harness.{name}", None)


def message(*parts: dict[str, Any]) -> Messages:
    return [{"role": "user", "content": list(parts)}]


def to_messages(row: dict[str, Any]) -> Messages:
    return message({"type": "image", "url": row["image"]}, {"type": "text", "text": row["question"]})


def documents() -> list[dict[str, Any]]:
    found = []
    for path, example in signs()[:6]:
        with Image.open(path) as image:
            found.append({"image": image.convert("RGB"), "question": example.question + SENTENCE})
    return found


def requests(model: Any, rows: list[dict[str, Any]], **generation: Any) -> list[Request]:
    """Requests of one task, in an order that mixes the pictures."""
    model.task_dict = {"signs": {"test": rows}}
    order = [*range(1, len(rows), 2), *range(0, len(rows), 2)]
    return [Request(("", to_messages, generation, number, "signs", "test")) for number in order]


def test_it_is_found_under_its_name(plugin: Any) -> None:
    [entry] = [each for each in entry_points(group="lmms_eval.models") if each.name == "vicrop"]
    found = entry.load()()
    assert found == Manifest("vicrop", None, "vicrop_engine.harness.lmms_model.ViCrop")
    module, _, name = found.chat_class_path.rpartition(".")
    assert getattr(importlib.import_module(module), name).is_simple is False


def test_answers_come_in_the_order_of_the_requests(plugin: Any) -> None:
    model = plugin.ViCrop(
        engine="llava-signs", method="rel-att", batch_size=1, device=None, max_batch_size=None
    )
    asked = requests(model, documents(), max_new_tokens=16, until=["\n\n"])
    answers = model.generate_until(asked)
    engine = model._engine
    rows = documents()
    assert answers == [
        engine.ask(rows[each.args[3]]["image"], rows[each.args[3]]["question"], max_new_tokens=16).answer
        for each in asked
    ]
    assert len(set(answers)) > 1
    assert model.cache_hook.kept == [
        ("generate_until", each.args, answer) for each, answer in zip(asked, answers, strict=True)
    ]


def test_settings_are_those_of_ask(plugin: Any) -> None:
    plain = plugin.ViCrop(engine="llava-signs", method="none", batch_size="4")
    rows = documents()[:2]
    assert plain.generate_until(requests(plain, rows)) == [
        plain._engine.ask(row["image"], row["question"], method="none").answer for row in (rows[1], rows[0])
    ]
    with pytest.raises(SettingError, match=r"unknown setting 'metod'.*did you mean 'method'"):
        plugin.ViCrop(engine="llava-signs", metod="none")


def test_a_failure_says_which_document_it_is_of(plugin: Any) -> None:
    model = plugin.ViCrop(engine="llava-signs")
    rows = [{**documents()[0], "question": " "}]
    with pytest.raises(QuestionError) as raised:
        model.generate_until(requests(model, rows))
    assert raised.value.__notes__ == ["of document 0 of signs"]


def test_what_it_does_not_do_is_said(plugin: Any) -> None:
    model = plugin.ViCrop(engine="llava-signs")
    for method in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError, match="take "):
            method([])


def test_a_turn() -> None:
    image = Image.new("RGB", (4, 4))
    found = turn_of(to_messages({"image": image, "question": "What?"}), {"until": "END"}, AskParams())
    assert (found.image, found.text, found.params.max_new_tokens) == (image, "What?", 128)
    assert found.cut("red END blue") == "red "
    assert found.cut("red") == "red"
    short = turn_of(to_messages({"image": image, "question": "?"}), {"max_new_tokens": 4}, AskParams())
    assert (short.params.max_new_tokens, short.until) == (4, ())


@pytest.mark.parametrize(
    "messages",
    [
        message({"type": "text", "text": "What?"}),
        message({"type": "image", "url": 1}, {"type": "image", "url": 2}, {"type": "text", "text": "What?"}),
        message({"type": "video", "url": 1}, {"type": "text", "text": "What?"}),
        [*message({"type": "image", "url": 1}), {"role": "assistant", "content": []}],
    ],
)
def test_other_turns_are_refused(messages: Messages) -> None:
    with pytest.raises(ItemError, match="wanted one picture and a question"):
        turn_of(messages, {}, AskParams())
