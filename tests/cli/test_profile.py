"""`profile` on a small engine: its table, its one JSON document, what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run, refused
from tests.engines import STRETCH_168, built

QUESTION = "What is written on the red sign?"
QUICK = ("--runs", "1", "--threads", "1", "--max-new-tokens", "2")
STAGES = [
    *("decode image", "preprocess", "vision", "prefix prefill", "suffixes", "heatmap and window"),
    *("crop vision", "crop prefill", "decode"),
]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture with detail everywhere, larger than any window."""
    path = tmp_path / "picture.png"
    values = np.random.default_rng(3).integers(0, 256, (400, 700, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def test_json_is_one_document_whose_stages_add_up(run: Run, engine_directory: Path, picture: Path) -> None:
    ran = run("profile", engine_directory, picture, QUESTION, *QUICK, "--json")
    assert ran.status == 0, ran.err
    document = json.loads(ran.out)
    assert document["question"] == QUESTION
    assert document["image_size"] == [700, 400]
    assert document["machine"]["threads"] == 1
    assert set(document["flows"]) == {"plain", "cropped", "next"}
    for flow in document["flows"].values():
        assert sum(stage["seconds"] for stage in flow["stages"]) == pytest.approx(flow["seconds"], rel=0.05)
        assert flow["flops"] == sum(stage["flops"] for stage in flow["stages"])
    assert [stage["stage"] for stage in document["flows"]["cropped"]["stages"]] == STAGES
    assert set(document["ratios"]) == {"cropped", "heatmap", "next"}
    flops = {name: flow["flops"] for name, flow in document["flows"].items()}
    assert document["ratios"]["cropped"]["arithmetic"] == flops["cropped"] / flops["plain"]


def test_without_a_picture_the_embedded_one_is_asked(
    run: Run, engine_directory: Path, tmp_path: Path
) -> None:
    plot, trace = tmp_path / "plot.png", tmp_path / "trace.json"
    ran = run("profile", engine_directory, *QUICK, "--plot", plot, "--trace", trace, "--method", "grad-att")
    assert ran.status == 0, ran.err
    for words in (
        *STAGES,
        "answer with the crop",
        "cropped ÷ plain (both answers)",
        "heatmap ÷ plain",
        "floor",
    ):
        assert words in ran.out
    assert "687 x 999 pixels" in ran.out
    with Image.open(plot) as drawn:
        assert drawn.size[0] == 1600
    assert (tmp_path / "plot.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    names = {event["name"] for event in json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]}
    assert {"vision", "decoder_lower", "decoder_upper", "grad_att", "crop prefill"} <= names


def test_the_published_flow_takes_its_turn(run: Run, engine_directory: Path, picture: Path) -> None:
    compare = ("--compare", built(STRETCH_168).checkpoint)
    ran = run("profile", engine_directory, picture, QUESTION, *QUICK, "--json", *compare)
    assert ran.status == 0, ran.err
    document = json.loads(ran.out)
    published = document["flows"]["published"]
    passes = ["decode image", "heatmap and window", "first answer", "looking passes", "answer with the crop"]
    assert [stage["stage"] for stage in published["stages"]] == passes
    assert published["flops"] is None
    assert published["answer"] == document["flows"]["cropped"]["answer"]
    assert document["ratios"]["published"]["arithmetic"] is None
    assert document["notices"] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--runs", "0"), ("--runs 0", "1 or more")),
        (("picture.png",), ("without a question",)),
        (("--processor-time",), ("--threads 1",)),
        (("--method", "none"), ("no crop",)),
        (("--method", "rel-at"), ("rel-at", "did you mean")),
        (("--plot", "plot.jpg"), ("plot.jpg", ".png")),
        (("--trace", "trace.txt"), ("trace.txt", ".json")),
        (("--compare", "nowhere", "--method", "clip"), ("clip", "rel-att, grad-att, pure-grad")),
    ],
    ids=lambda value: "".join(value) if isinstance(value, tuple) else None,
)
def test_bad_usage_is_refused(
    run: Run, engine_directory: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(run("profile", engine_directory, *options), *words)


def test_an_engine_for_another_target_is_refused(
    run: Run, engine_directory: Path, tmp_path: Path, picture: Path
) -> None:
    other = tmp_path / "engine"
    shutil.copytree(engine_directory, other)
    manifest = other / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "target": "cuda"}))
    refused(run("profile", other, picture, QUESTION), "for target 'cuda'", "--target cpu")
