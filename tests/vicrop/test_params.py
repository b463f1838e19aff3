"""One record of an ask's settings: the command line, the server, Ray and the documents have all of it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from vicrop_engine.cli.ask import ask
from vicrop_engine.errors import BoxError, SettingError
from vicrop_engine.measure.bench.over_http import vicrop_keys
from vicrop_engine.server.openai.chat import OF_ASK, Served, read_chat
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.vicrop.params import AskKeywords, AskParams

DOCS = Path(__file__).parents[2] / "docs"
FIELDS = {field.name: field.default for field in dataclasses.fields(AskParams)}
TURNED = {"first_answer": "no_first_answer"}  # an option that takes away what is there by default
OF_OPENAI = {"max_new_tokens", "history", "form"}  # which have keys of their own there
OF_PYTHON = {"history", "form"}  # which no option is for


def rows(page: str, heading: str) -> str:
    """The tables below a heading of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return text[text.index(heading) :].split("\n## ")[0]


def test_the_keywords_of_ask_are_its_fields() -> None:
    assert get_type_hints(AskKeywords) == get_type_hints(AskParams)


def test_the_command_line_has_an_option_for_each_with_the_same_default() -> None:
    options = {name: option.default for name, option in inspect.signature(ask).parameters.items()}
    for name, default in FIELDS.items():
        if name in OF_PYTHON:
            continue
        option = TURNED.get(name, name)
        assert option in options, f"give vicrop-engine ask an option for {name}"
        assert options[option] == (not default if name in TURNED else default), name


def test_the_server_has_a_key_for_each() -> None:
    assert set(OF_ASK) | OF_OPENAI == set(FIELDS)


def test_the_documents_name_each_with_its_default() -> None:
    keywords = rows("python-api.md", "## `engine.ask(")
    for name, default in FIELDS.items():
        shown = f'"{default}"' if isinstance(default, str) else str(default)
        assert f"| `{name}={shown}` |" in keywords, name
    told = rows("serving.md", "`vicrop`")
    for name in OF_ASK:
        assert f"`{name}`" in told, name
    options = (DOCS / "command-line.md").read_text(encoding="utf-8")
    for name in FIELDS.keys() - OF_PYTHON:
        option = TURNED.get(name, name).replace("_", "-")
        assert re.search(rf"`?--{option}\b", options), option


@pytest.mark.parametrize(
    "given",
    [
        {"method": "grad-att", "layers": "1-2", "localize": "the sign", "first_answer": False},
        {"box": (1, 2, 30, 40), "crop_tokens": 9, "compat": "mllms-know"},
        {"when": "auto", "layers": 3},
        {"divisor_floor": 0.25},
        {"method": "target", "target": "red sign"},
    ],
)
def test_a_measured_server_is_asked_the_same(given: dict[str, Any]) -> None:
    """What `bench` sends over HTTP is read as the record it was made of."""
    params = AskParams(**given, max_new_tokens=7)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    content = [picture, {"type": "text", "text": "What?"}]
    keys = json.loads(json.dumps(vicrop_keys(params)))
    document = {"messages": [{"role": "user", "content": content}], "max_tokens": 7, "vicrop": keys}
    read = read_chat(document, ServerSettings(strict=True), Served(("a model",), 1024)).params
    assert dataclasses.replace(read, box=params.box) == params
    assert read.window == params.window


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"metod": "none"}, SettingError, "did you mean 'method'"),
        ({"high_res": "of"}, SettingError, "unknown high_res 'of'"),
        ({"max_new_tokens": 0}, SettingError, "from 1 up"),
        ({"divisor_floor": 0}, SettingError, "wanted a share of a mean above 0"),
        ({"divisor_floor": float("inf")}, SettingError, "got divisor_floor inf"),
        ({"divisor_floor": True}, SettingError, "got divisor_floor True"),
        ({"divisor_floor": "0.25"}, SettingError, "got divisor_floor '0.25'"),
        ({"divisor_floor": 0.25, "compat": "mllms-know"}, SettingError, "divides as published; leave one"),
        ({"box": (1, 2, 3)}, BoxError, "four whole numbers"),
        ({"box": (1, 2, 3, 4), "when": "auto"}, SettingError, "leave one of them out"),
    ],
)
def test_what_cannot_be_is_refused_once(given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        AskParams.of(given)
