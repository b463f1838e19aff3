"""`build`, `ask` and `info` with localizer models through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run, refused, run
from tests.external.built import checkpoint, picture, tool
from tests.external.plain import PlainClip
from vicrop_engine.engine_dir.registry import ToolName, cached_tool

QUESTION = "What is written on the red sign?"
__all__ = ["run"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    picture((300, 200)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.parametrize("kind", ["clip", "yolo", "sam"])
def test_ask_takes_a_model_that_is_named_or_in_the_cache(
    run: Run, engine_directory: Path, image: Path, kind: ToolName
) -> None:
    question = ("ask", engine_directory, image, QUESTION, "--method", kind, "--json", "--max-new-tokens", "2")
    named = run(*question, "--clip", tool("clip"), "--yolo", tool("yolo"), "--sam", tool("sam"))
    assert (named.status, named.err) == (0, "")
    document = json.loads(named.out)
    assert (document["method"], document["heatmap"], document["layers"]) == (kind, None, [])
    assert document["timings"]["heatmap"] > 0
    for needed in dict.fromkeys((kind, "clip")):
        refused(run(*question), f"run 'vicrop-engine build {needed}'", f"--{needed} DIR")
        shutil.copytree(tool(needed), cached_tool(needed))  # type: ignore[arg-type]
    cached = run(*question)
    assert (cached.status, cached.err) == (0, "")
    assert json.loads(cached.out) | {"timings": None} == document | {"timings": None}


def test_the_crop_is_the_plain_zooms_and_the_overlay_shows_it(
    run: Run, engine_directory: Path, image: Path
) -> None:
    ran = run(
        *("ask", engine_directory, image, QUESTION, "--method", "clip", "--clip", tool("clip")),
        *("--overlay", image.parent / "seen.png"),
    )
    box = PlainClip(checkpoint("clip")).zoom(picture((300, 200)), QUESTION)
    lines = dict(line.split("  ", 1) for line in ran.out.splitlines())
    assert lines["crop box"].strip() == f"{', '.join(map(str, box))} of 300 x 200 pixels"
    assert lines["method"].strip() == "clip"
    assert (image.parent / "seen.png").is_file()


def test_a_second_build_keeps_what_is_there_and_says_what_it_is(run: Run) -> None:
    shutil.copytree(tool("sam"), cached_tool("sam"))
    ran = run("build", "sam", "--checkpoint", checkpoint("sam"))
    assert ran.status == 0
    assert "already built" in ran.err
    assert str(cached_tool("sam")) in ran.out
    assert "sam from sam-checkpoint at sha256:" in ran.out
    assert "image_embeddings" in ran.out


def test_info_knows_localizer_models(run: Run) -> None:
    document = json.loads(run("info", "--json").out)
    assert document["tools"] == {"clip": None, "yolo": None, "sam": None}
    assert "not built yet: vicrop-engine build clip" in run("info").out
    shutil.copytree(tool("clip"), cached_tool("clip"))
    assert json.loads(run("info", "--json").out)["tools"]["clip"] == str(cached_tool("clip"))
    for name in ("clip", str(cached_tool("clip"))):
        document = json.loads(run("info", name, "--json", "--verify").out)
        assert (document["kind"], document["verified"]) == ("clip", True)
    path = cached_tool("clip") / "clip_text.onnx.data"
    path.write_bytes(path.read_bytes()[::-1])
    refused(run("info", "clip", "--verify"), "clip_text.onnx.data", "sha256 differs", "build clip --force")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("clp",), ("unknown model 'clp'", "llava-1.5", "did you mean 'clip'")),
        (("yolo", "--layers", "3"), ("yolo is built in fp32", "has no layers")),
        (("sam", "--precision", "int8"), ("sam is built in fp32",)),
        (("clip", "--checkpoint", "nowhere/at/all"), ("does not exist", "openai/clip-vit-base-patch16")),
    ],
)
def test_what_cannot_be_built_is_refused(
    run: Run, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(run("build", *arguments), *words)


def test_directories_are_not_taken_for_each_other(run: Run, engine_directory: Path, image: Path) -> None:
    question = ("ask", engine_directory, image, QUESTION, "--method", "clip")
    refused(run(*question, "--clip", tool("yolo")), "kind 'yolo', wanted 'clip'", "vicrop-engine build clip")
    refused(run(*question, "--clip", engine_directory), "kind 'engine', wanted 'clip'")
    refused(run(*question, "--clip", image.parent), "no manifest.json")
    refused(run(*question, "--clip", image.parent / "none"), "does not exist")
    refused(
        run("ask", tool("sam"), image, QUESTION), "holds the localizer model 'sam', wanted an engine", "--sam"
    )


def test_a_given_box_needs_no_localizer_model(run: Run, engine_directory: Path, image: Path) -> None:
    ran = run("ask", engine_directory, image, QUESTION, "--method", "clip", "--box", "1,2,50,60", "--json")
    assert json.loads(ran.out)["crop_box"] == [1, 2, 50, 60]
