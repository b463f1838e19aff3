"""Weights shared between processes: mapped from one file, by the kernel's own account; the same answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vicrop_engine import ViCropEngine
from vicrop_engine.errors import RunError

QUESTION = "What is written on the red sign?"
HOLDS = """
import sys
from PIL import Image
from vicrop_engine import ViCropEngine
engine = ViCropEngine.load(sys.argv[1], share_weights=True)
engine.ask(Image.new("RGB", (900, 500)), "What?", max_new_tokens=2)
print("open", flush=True)
sys.stdin.read()
"""


def shared_directories(home: Path) -> list[Path]:
    return sorted((home / "shared-weights").iterdir())


@pytest.fixture
def home() -> Path:
    return Path(os.environ["VICROP_HOME"])


def mapped(path: Path) -> dict[str, int]:
    """Bytes of this process's mappings of a file by kind, from the kernel."""
    found: dict[str, int] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, *values = line.split()
        if not key.endswith(":"):
            inside = line.endswith(str(path))
        elif inside and values[-1] == "kB":
            found[key.rstrip(":")] = found.get(key.rstrip(":"), 0) + 1024 * int(values[0])
    return found


def test_a_second_process_shares_the_pages(engine_directory: Path, home: Path, picture: Image.Image) -> None:
    wanted = ViCropEngine.load(engine_directory).ask(picture, QUESTION, max_new_tokens=4)
    command = [sys.executable, "-c", HOLDS, str(engine_directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        (directory,) = shared_directories(home)
        before = sorted(path.name for path in directory.iterdir())
        engine = ViCropEngine.load(engine_directory, share_weights=True)
        answer = engine.ask(picture, QUESTION, max_new_tokens=4)
        for name in ("decoder_lower", "decoder_upper", "vision"):
            pages = mapped(directory / f"{name}.onnx.data")
            # A page is "dirty" for as long as the file just written is on its way to the disk.
            assert pages["Shared_Clean"] + pages["Shared_Dirty"] > 0, name
            assert pages["Anonymous"] == 0, name
        assert shared_directories(home) == [directory]
        assert sorted(path.name for path in directory.iterdir()) == before
        other.communicate("")
    assert (answer.token_ids, answer.crop_box) == (wanted.token_ids, wanted.crop_box)
    assert answer.confidence == wanted.confidence


def test_a_copy_that_cannot_be_written(engine_directory: Path, home: Path) -> None:
    home.mkdir(parents=True)
    (home / "shared-weights").write_text("in the way")
    with pytest.raises(RunError, match=r"shared copy of the weights cannot be written .* without sharing"):
        ViCropEngine.load(engine_directory, share_weights=True)


def test_a_copy_that_fails_halfway_leaves_nothing(
    engine_directory: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        named = property(lambda _: ("vision", "no_such_graph", "decoder_upper"))
        patch.setattr("vicrop_engine.engine_dir.manifest.Manifest.graphs", named)
        with pytest.raises(RunError, match="no_such_graph"):
            ViCropEngine.load(engine_directory, share_weights=True)
    assert shared_directories(home) == []
    ViCropEngine.load(engine_directory, share_weights=True)
    assert len(shared_directories(home)) == 1
