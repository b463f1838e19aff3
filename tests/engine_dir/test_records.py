"""The strict reader: what is refused, and that records survive the way through JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from tests.samples import MANIFEST, PREPROCESSING
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.parsing import parse, to_json
from vicrop_engine.engine_dir.records import CropSettings, Preprocessing, VisionGeometry, default_layer
from vicrop_engine.errors import ConfigError


@pytest.mark.parametrize("record", [MANIFEST, PREPROCESSING])
def test_records_survive_json(record: Any) -> None:
    assert parse(type(record), json.loads(json.dumps(to_json(record))), "here") == record


def test_unknown_keys_are_refused_with_the_nearest() -> None:
    document = MANIFEST.to_dict()
    document["precison"] = document.pop("precision")
    with pytest.raises(ConfigError, match="here: unknown key 'precison'; did you mean 'precision'"):
        Manifest.from_dict(document, "here")


def test_nested_keys_are_checked_too() -> None:
    document = MANIFEST.to_dict()
    document["vision"]["row"] = document["vision"].pop("rows")
    with pytest.raises(ConfigError, match="key 'vision': unknown key 'row'; did you mean 'rows'"):
        Manifest.from_dict(document)
    del document["vision"]["row"]
    with pytest.raises(ConfigError, match="key 'vision': key 'rows' is missing"):
        Manifest.from_dict(document)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("image_size", "168", "got '168', wanted int"),
        ("image_size", True, "got True, wanted int"),
        ("image_size", 168.0, r"got 168\.0, wanted int"),
        ("image_size", None, "got None, wanted int"),
    ],
)
def test_types_are_checked(key: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=f"here: key '{key}': {words}"):
        parse(VisionGeometry, {**asdict(MANIFEST.vision), key: value}, "here")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("resize", "squash", "wanted one of 'shortest_edge', 'exact', 'none'"),
        ("mean", [0.5, 0.5], "got 2 values, wanted 3"),
        ("mean", "abc", "got str, wanted a list"),
        ("mean", [0.5, "x", 0.5], "got 'x', wanted float"),
        ("center_crop", 1, "got 1, wanted bool"),
    ],
)
def test_choices_and_lists_are_checked(key: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(Preprocessing, {**to_json(PREPROCESSING), key: value}, "here")


@pytest.mark.parametrize("document", [[], "text", None, 3])
def test_a_document_must_be_an_object(document: object) -> None:
    with pytest.raises(ConfigError, match="wanted an object"):
        parse(CropSettings, document, "here")


def test_defaults_whole_numbers_and_null() -> None:
    crop = parse(CropSettings, {"window": 336, "layers": []}, "here")
    assert crop.ratios == (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
    assert parse(CropSettings, {"window": 336, "layers": [], "ratios": [1, 2]}, "here").ratios == (1.0, 2.0)

    @dataclass(frozen=True)
    class Optional:
        value: int | None

    assert parse(Optional, {"value": None}, "here").value is None
    assert parse(Optional, {"value": 3}, "here").value == 3


@pytest.mark.parametrize(("depth", "layer"), [(32, 14), (40, 18), (4, 1), (8, 3), (1, 0), (18, 8)])
def test_default_layer_scales_with_depth(depth: int, layer: int) -> None:
    assert default_layer(depth) == layer
