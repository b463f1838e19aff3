"""What asking takes in memory, as `info` states it, against a process that really asks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.samples import MANIFEST
from vicrop_engine import ViCropEngine
from vicrop_engine.cli.facts import engine_facts, engine_info
from vicrop_engine.engine_dir.manifest import read_manifest
from vicrop_engine.engine_dir.memory import (
    LEAST_CACHE,
    RUNTIME,
    ask_memory,
    default_cache_bytes,
    kv_bytes,
    spare_bytes,
)
from vicrop_engine.engine_dir.records import DecoderGeometry, VisionGeometry
from vicrop_engine.errors import SettingError

SEVEN_BILLION = DecoderGeometry(32, 15, 32, 32, 128, 4096, 32064, 4096)
ASKS = """
import sys
from vicrop_engine import ViCropEngine
engine = ViCropEngine.load(sys.argv[1], threads=1)
for question in ("What is written on the red sign?", "How many people are there?"):
    engine.ask(sys.argv[2], question)
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


def test_keys_and_values_at_the_published_size() -> None:
    """METHOD's 302 MB of a prefix in float16 are twice that in float32."""
    assert kv_bytes(SEVEN_BILLION, 576) == 2 * 301_989_888


def test_the_default_cache_holds_a_picture_of_any_model() -> None:
    assert default_cache_bytes(MANIFEST) == LEAST_CACHE
    vision = VisionGeometry(336, 14, 24, 24, 576, 0)
    large = replace(MANIFEST, decoder=SEVEN_BILLION, vision=vision)
    picture = kv_bytes(SEVEN_BILLION, 2 * 576 + 150)
    cache = default_cache_bytes(large)
    assert LEAST_CACHE < picture < cache - cache // 8
    assert ask_memory(large).kv_buffers > 1.3e9


@pytest.mark.parametrize("size", [(900, 500), (1600, 1100)])
def test_an_ask_stays_below_what_info_states(
    engine_directory: Path, picture: Image.Image, tmp_path: Path, size: tuple[int, int]
) -> None:
    """Of a whole picture, and of one looked at in four tiles."""
    picture.resize(size).save(tmp_path / "picture.png")
    command = [sys.executable, "-c", ASKS, str(engine_directory), str(tmp_path / "picture.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    stated = ask_memory(read_manifest(engine_directory)).peak
    assert 0.4 * stated < int(done.stdout) <= stated


def test_the_default_cache_is_smaller_where_memory_is_little() -> None:
    assert default_cache_bytes(MANIFEST, 64 << 30) == LEAST_CACHE
    little, less = (default_cache_bytes(MANIFEST, mib << 20) for mib in (512, 256))
    assert 0 < less < little < 128 << 20
    assert default_cache_bytes(MANIFEST, 64 << 20) == 0
    assert spare_bytes(MANIFEST, 512 << 20) - spare_bytes(MANIFEST, 256 << 20) == 256 << 20
    on_device = replace(MANIFEST, target="cuda")
    assert spare_bytes(on_device, 512 << 20) == (512 << 20) - RUNTIME


def test_info_states_it(engine_directory: Path) -> None:
    document = engine_info(engine_directory, verify=False)
    memory = document["memory"]
    assert memory["peak"] > memory["weights"] + memory["kv_buffers"] + memory["tile"] + memory["working"]
    assert engine_facts(document)["memory"].startswith("about 0.1")
    assert "of other pictures at most 1.07 is kept" in engine_facts(document)["memory"]


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_threads_that_are_no_number_of_cores(engine_directory: Path, threads: object) -> None:
    with pytest.raises(SettingError, match="wanted a whole number from 1 up"):
        ViCropEngine.load(engine_directory, threads=threads)  # type: ignore[arg-type]


def test_threads_reach_every_graph(engine_directory: Path) -> None:
    graphs = ViCropEngine.load(engine_directory, threads=1)._model.decoder._graphs
    for graph in (graphs.vision, graphs.lower, graphs.upper):
        assert graph.session.get_session_options().intra_op_num_threads == 1
