"""grad-att's pass in the runtime: opened when wanted, counted, refused without its graph, no second copy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.checkpoints import CheckpointSpec
from tests.engines import built
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.files import MANIFEST
from vicrop_engine.engine_dir.manifest import GRADIENT
from vicrop_engine.errors import SettingError
from vicrop_engine.model.packing import PackedPrompt
from vicrop_engine.runtime import graphs as backend
from vicrop_engine.runtime.host_graph import Graph

QUESTION = "What is written on the red sign?"
WIDE = CheckpointSpec(seed=21, hidden=512, intermediate=2048, layers=4, heads=8, kv_heads=8, image_size=56)
ANONYMOUS = """
import sys
from vicrop_engine import ViCropEngine

def anonymous():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous"))

engine = ViCropEngine.load(sys.argv[1], threads=1)
engine.ask(sys.argv[2], "What is it?", max_new_tokens=2)
before = anonymous()
engine.ask(sys.argv[2], "What is it?", method="grad-att", max_new_tokens=2)
assert engine.counters.gradient_passes == 1
print(anonymous() - before)
"""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The graphs opened, by name."""
    names: list[str] = []
    inner = backend._open

    def on_tokens(path: Path, *rest: Any, **settings: Any) -> Graph:
        names.append(path.stem)
        return inner(path, *rest, **settings)

    monkeypatch.setattr(backend, "_open", on_tokens)
    return names


def test_the_graph_is_opened_once_and_only_when_wanted(
    opened: list[str], engine_directory: Path, picture: Image.Image
) -> None:
    engine = ViCropEngine.load(engine_directory)
    engine.ask(picture, QUESTION, max_new_tokens=1)
    assert GRADIENT not in opened
    for _ in range(2):
        engine.ask(picture, QUESTION, method="grad-att", max_new_tokens=1)
    assert opened.count(GRADIENT) == 1
    assert engine.counters.gradient_passes == 2


def test_the_same_question_gives_the_same_whatever_else_was_asked(
    engine: ViCropEngine, picture: Image.Image
) -> None:
    """The pass reads whole buffers: what other prompts and answers left in them must not matter."""
    first = engine.ask(picture, QUESTION, method="grad-att", max_new_tokens=3)
    engine.ask(picture, "How many people are there in the picture, and what is on the door?")
    again = engine.ask(picture, QUESTION, method="grad-att", max_new_tokens=3, first_answer=False)
    assert first.heatmap is not None
    assert again.heatmap is not None
    np.testing.assert_allclose(again.heatmap, first.heatmap, rtol=1e-4, atol=1e-6 * first.heatmap.max())
    assert (again.crop_box, again.answer) == (first.crop_box, first.answer)
    assert again.answer_without_crop is None
    assert first.timings["heatmap"] > 0


def test_a_picture_within_one_window_needs_no_gradients(engine: ViCropEngine) -> None:
    answer = engine.ask(Image.new("RGB", (200, 100)), QUESTION, method="grad-att", max_new_tokens=1)
    assert (answer.crop_box, answer.heatmap, answer.method) == ((0, 0, 200, 100), None, "grad-att")
    assert engine.counters.gradient_passes == 0


def test_an_engine_without_the_graph_is_refused_with_the_way_out(
    engine_directory: Path, picture: Image.Image, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(engine_directory, tmp_path / "engine"))
    (copy / f"{GRADIENT}.onnx").unlink()
    document = json.loads((copy / MANIFEST).read_text())
    del document["files"][f"{GRADIENT}.onnx"]
    (copy / MANIFEST).write_text(json.dumps(document))
    engine = ViCropEngine.load(copy)
    assert engine.ask(picture, QUESTION, max_new_tokens=1).method == "rel-att"
    before = engine.counters
    with pytest.raises(SettingError, match=r"built without it; .* build llava-signs --force"):
        engine.ask(picture, QUESTION, method="grad-att")
    assert engine.counters == before


def test_the_line_of_a_token_is_that_of_the_whole_bias() -> None:
    for block in (PackedPrompt(0, 5, (3, 2)), PackedPrompt(5, 5, (1, 4)), PackedPrompt(2, 5, (3,))):
        for suffix, end in enumerate(block.ends):
            line = block.last_bias(suffix, block.total + 4)
            np.testing.assert_array_equal(line[..., : block.total], block.bias()[:, :, end : end + 1])
            assert (line[..., block.total :] == -np.inf).all()
            assert line[0, 0, 0, block.own_row(suffix)] == 0


def test_the_graph_has_no_weights_of_its_own(engine_directory: Path) -> None:
    assert not (engine_directory / f"{GRADIENT}.onnx.data").exists()
    places = {}
    for name in ("decoder_lower", "decoder_upper", GRADIENT):
        graph = onnx.load(engine_directory / f"{name}.onnx", load_external_data=False).graph
        places[name] = {
            tuple(sorted((entry.key, entry.value) for entry in weight.external_data))
            for weight in graph.initializer
            if weight.external_data
        }
        inside = sum(len(weight.raw_data) for weight in graph.initializer)
        assert inside < 10_000, name
    assert places[GRADIENT]
    assert places[GRADIENT] <= places["decoder_lower"] | places["decoder_upper"]


def test_no_second_copy_of_the_weights_in_memory(picture: Image.Image, tmp_path: Path) -> None:
    """What is written to grows by little: the weights are mapped, and read where they are."""
    made = built(WIDE)
    picture.save(tmp_path / "picture.png")
    command = [sys.executable, "-c", ANONYMOUS, str(made.engine), str(tmp_path / "picture.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    weights = sum(entry.size for name, entry in made.manifest.files.items() if name.startswith("decoder"))
    assert weights > 60e6
    assert int(done.stdout) < 0.15 * weights
