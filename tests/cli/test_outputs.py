"""Outputs against inputs: whatever way a name leads there, what a command reads is never written over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run, refused


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """The only copy of a picture."""
    path = tmp_path / "only-copy.png"
    Image.new("RGB", (300, 200), "white").save(path)
    return path


def symlink(picture: Path) -> Path:
    link = picture.with_name("link.png")
    link.symlink_to(picture)
    return link


def hard_link(picture: Path) -> Path:
    link = picture.with_name("hard.png")
    os.link(picture, link)
    return link


def folder_linked(picture: Path) -> Path:
    folder = picture.parent / "elsewhere"
    folder.symlink_to(picture.parent, target_is_directory=True)
    return folder / picture.name


def by_a_detour(picture: Path) -> Path:
    (picture.parent / "folder").mkdir()
    return picture.parent / "folder" / ".." / picture.name


def relative(picture: Path) -> Path:
    return Path(os.path.relpath(picture))


WAYS = (symlink, hard_link, folder_linked, by_a_detour, relative)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_overlay_over_the_picture_by_another_name(
    way: Callable[[Path], Path], picture: Path, engine_directory: Path, run: Run
) -> None:
    before, target = picture.read_bytes(), way(picture)
    refused(run("ask", engine_directory, picture, "What?", "--overlay", target), "is what the command reads")
    refused(run("ask", engine_directory, target, "What?", "--overlay", picture), "is what the command reads")
    assert picture.read_bytes() == before


@pytest.mark.parametrize(
    "options", [("--overlay", "overlay.png"), ("--heatmap", "embeddings.npy"), ("--heatmap", "new.npy")]
)
def test_nothing_is_written_into_an_engine(
    options: tuple[str, str], picture: Path, engine_directory: Path, tmp_path: Path, run: Run
) -> None:
    engine = tmp_path / "engine"
    shutil.copytree(engine_directory, engine)
    before = {path.name: path.read_bytes() for path in engine.iterdir()}
    option, name = options
    refused(
        run("ask", engine, picture, "What?", option, engine / name), "is an engine directory", "elsewhere"
    )
    assert {path.name: path.read_bytes() for path in engine.iterdir()} == before


def test_nor_by_the_demo(engine_directory: Path, tmp_path: Path, run: Run) -> None:
    engine = tmp_path / "engine"
    shutil.copytree(engine_directory, engine)
    refused(run("demo", "--out", engine), "is an engine directory")
    assert not (engine / "overlay.png").exists()


def test_a_link_to_something_else_is_replaced_and_its_target_kept(
    picture: Path, engine_directory: Path, tmp_path: Path, run: Run
) -> None:
    other, link = tmp_path / "other.png", tmp_path / "latest.png"
    other.write_bytes(b"kept")
    link.symlink_to(other)
    assert run("ask", engine_directory, picture, "What?", "--overlay", link).status == 0
    assert other.read_bytes() == b"kept"
    with Image.open(link) as written:
        assert written.format == "PNG"
