"""Every bad input through the real command line: one sentence, exit status 2, nothing left behind."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run, refused

QUESTION = "What is written on the red sign?"


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    values = np.random.default_rng([width, height]).integers(
        0, 256, (height, width, channels), dtype=np.uint8
    )
    return Image.fromarray(values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test's pictures lie and nothing else may appear."""
    path = tmp_path / "pictures"
    path.mkdir()
    return path


@pytest.fixture
def good(folder: Path) -> Path:
    """A picture nothing is wrong with."""
    noise(500, 400).save(folder / "good.png")
    return folder / "good.png"


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def encoded(suffix: str) -> bytes:
    import io

    buffer = io.BytesIO()
    noise(300, 200).save(buffer, format=suffix)
    return buffer.getvalue()


BAD_PICTURES = {
    "zero bytes": (b"", "0 bytes"),
    "text": (b"this is not a picture", "not a picture"),
    "truncated png": (encoded("png")[:5000], "damaged"),
    "truncated jpeg": (encoded("jpeg")[:5000], "damaged"),
    "header only": (encoded("png")[:20], "picture.png"),
    "bomb": (png_header(30000, 30000), "the limit is 150 million"),
    "one pixel": (png_header(1, 1), "1 x 1"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_is_refused(run: Run, engine_directory: Path, folder: Path, name: str) -> None:
    data, words = BAD_PICTURES[name]
    path = folder / "picture.png"
    path.write_bytes(data)
    refused(
        run("ask", engine_directory, path, QUESTION, "--overlay", folder / "seen.png"), "picture.png", words
    )
    assert [file.name for file in folder.iterdir()] == ["picture.png"]


def test_a_missing_picture_and_a_directory_are_refused(
    run: Run, engine_directory: Path, folder: Path
) -> None:
    refused(run("ask", engine_directory, folder / "missing.png", QUESTION), "missing.png", "does not exist")
    refused(run("ask", engine_directory, folder, QUESTION), "cannot be read")
    assert list(folder.iterdir()) == []


def test_a_real_one_pixel_picture_is_refused(run: Run, engine_directory: Path, folder: Path) -> None:
    noise(1, 1).save(folder / "dot.png")
    refused(run("ask", engine_directory, folder / "dot.png", QUESTION), "1 x 1")


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("What is in <image> here?", "'<image>'"),
        ("why? " * 3000, "context"),
    ],
)
def test_a_bad_question_is_refused(
    run: Run, engine_directory: Path, good: Path, question: str, words: str
) -> None:
    refused(
        run("ask", engine_directory, good, question, "--overlay", good.parent / "seen.png"), "question", words
    )
    assert [file.name for file in good.parent.iterdir()] == ["good.png"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "rel-at"), ("rel-at", "did you mean 'rel-att'")),
        (("--method", "clip"), ("clip", "vicrop-engine build clip")),
        (("--layers", "99"), ("layer 99", "from 0 to 3")),
        (("--layers", "3-1"), ("3-1", "backwards")),
        (("--layers", "top"), ("'top'", "14, 10-20 or all")),
        (("--high-res", "on", "--method", "none"), ("'on'", "leave one of them out")),
        (("--high-res", "of"), ("'of'", "did you mean 'off'")),
        (("--compat", "paper"), ("'paper'", "mllms-know")),
        (("--max-new-tokens", "0"), ("max_new_tokens 0",)),
        (("--box", "0,0,501,400"), ("not inside", "500 x 400")),
        (("--box", "20,20,10,30"), ("not inside",)),
        (("--box", "0,0,5,5", "--method", "none"), ("leave one of them out",)),
    ],
)
def test_a_bad_setting_is_refused(
    run: Run, engine_directory: Path, good: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    overlay = good.parent / "seen.png"
    refused(run("ask", engine_directory, good, QUESTION, *options, "--overlay", overlay), *words)
    assert [file.name for file in good.parent.iterdir()] == ["good.png"]


def test_a_bad_place_for_the_heatmap_is_refused(run: Run, engine_directory: Path, good: Path) -> None:
    ask = ("ask", engine_directory, good, QUESTION, "--heatmap")
    refused(run(*ask, good.parent / "heat.png"), "heat.png", "ends in .npy")
    refused(run(*ask, good.parent / "missing" / "heat.npy"), "not a directory")
    (good.parent / "folder.npy").mkdir()
    refused(run(*ask, good.parent / "folder.npy"), "is a directory")


def test_a_directory_that_is_not_an_engine_is_refused(run: Run, good: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    refused(run("ask", other, good, QUESTION), "not an engine directory")
    refused(run("ask", "llava-sing", good, QUESTION), "did you mean 'llava-signs'")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize(
    "file",
    ["vision.onnx", "decoder_lower.onnx.data", "token_embeddings.npy", "tokenizer.json", "preprocessor.json"],
)
def test_a_damaged_engine_names_the_command_that_mends_it(
    run: Run, engine_directory: Path, good: Path, tmp_path: Path, file: str, damage: object
) -> None:
    copy = tmp_path / "engine"
    shutil.copytree(engine_directory, copy)
    damage(copy / file)  # type: ignore[operator]
    refused(run("ask", copy, good, QUESTION), file, "vicrop-engine build llava-signs --force")


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"schema": 99}'])
def test_a_damaged_manifest_is_refused(
    run: Run, engine_directory: Path, good: Path, tmp_path: Path, manifest: str
) -> None:
    copy = tmp_path / "engine"
    shutil.copytree(engine_directory, copy)
    (copy / "manifest.json").write_text(manifest)
    refused(run("ask", copy, good, QUESTION), "vicrop-engine")


def test_verify_finds_one_changed_byte_of_the_weights(
    run: Run, engine_directory: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "engine"
    shutil.copytree(engine_directory, copy)
    assert run("info", copy, "--verify").status == 0
    flip(copy / "decoder_upper.onnx.data")
    refused(run("info", copy, "--verify"), "decoder_upper.onnx.data", "sha256 differs")


def test_of_an_animation_the_first_frame_is_taken_and_it_is_said(
    run: Run, engine_directory: Path, folder: Path
) -> None:
    frames = [noise(300, 200).quantize(64), Image.new("P", (300, 200))]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].convert("RGB").save(folder / "still.png")
    moving = run("ask", engine_directory, folder / "moving.gif", QUESTION, "--json")
    still = run("ask", engine_directory, folder / "still.png", QUESTION, "--json")
    assert moving.status == 0
    assert "first" in moving.err
    assert moving.err.count("\n") == 1
    assert json.loads(moving.out)["heatmap"] == json.loads(still.out)["heatmap"]


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("CMYK", "p.jpg"),
        ("I;16", "p.png"),
        ("P", "p.png"),
        ("RGBA", "p.png"),
        ("L", "p.png"),
        ("1", "p.tiff"),
    ],
)
def test_other_colour_modes_are_converted(
    run: Run, engine_directory: Path, folder: Path, mode: str, name: str
) -> None:
    if mode == "I;16":
        image = Image.fromarray((np.arange(300 * 200).reshape(200, 300) % 65536).astype(np.uint16))
    else:
        image = noise(300, 200).convert(mode)
    assert image.mode == mode
    image.save(folder / name)
    ran = run("ask", engine_directory, folder / name, QUESTION, "--json")
    assert (ran.status, ran.err) == (0, "")
    assert json.loads(ran.out)["image_size"] == [300, 200]


def test_exif_rotation_is_honoured(run: Run, engine_directory: Path, folder: Path) -> None:
    image = noise(300, 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.png", exif=exif)
    image.transpose(Image.Transpose.ROTATE_270).save(folder / "upright.png")
    turned, upright = (
        json.loads(run("ask", engine_directory, folder / name, QUESTION, "--json").out)
        for name in ("turned.png", "upright.png")
    )
    assert turned["image_size"] == [200, 300]
    assert turned["heatmap"] == upright["heatmap"]
    assert turned["crop_box"] == upright["crop_box"]
