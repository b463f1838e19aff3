"""What an engine for cuda, or a machine without the provider, refuses: one sentence that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cuda.builds import EMBEDDED, seeded
from tests.engines import GROUPED_224, built
from vicrop_engine import ViCropEngine
from vicrop_engine.cli.output import parse_device
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import read_manifest
from vicrop_engine.errors import ProviderError, SettingError
from vicrop_engine.runtime import device_graph, onnx_runtime
from vicrop_export.build import build_engine


def test_without_the_provider_it_says_what_to_install() -> None:
    with pytest.raises(ProviderError, match=r"no CUDAExecutionProvider .*pip install 'vicrop-engine\[gpu\]'"):
        ViCropEngine.load(seeded("fp16"))


def test_a_silent_fall_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is compiled in but does not work gives a session on the processor without a word."""
    seen: list[Any] = []
    session = onnx_runtime.installed_runtime().InferenceSession

    def falls_back(path: str, options: Any, providers: list[Any]) -> Any:
        seen.append(providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(device_graph, "available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnx_runtime.installed_runtime(), "InferenceSession", falls_back)
    with pytest.raises(ProviderError, match=r"was to run on CUDAExecutionProvider and got \['CPU"):
        ViCropEngine.load(seeded("fp16"), device=1)
    [[(provider, settings)]] = seen
    assert (provider, settings["device_id"]) == ("CUDAExecutionProvider", "1")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"provider": "cpu", "device": 1}, "got device 1, wanted the number of a GPU"),
        ({"device": -1}, "got device -1, wanted the number of a GPU"),
        ({"device": True}, "got device True"),
        ({"provider": "rocm"}, "got provider 'rocm', wanted 'cuda' or 'cpu'"),
        ({"provider": "cpu", "share_weights": True}, "share_weights is for engines for cpu"),
    ],
)
def test_places_that_are_none(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        ViCropEngine.load(seeded("fp16"), **settings)


@pytest.mark.parametrize("settings", [{"provider": "cuda"}, {"device": 1}])
def test_an_engine_for_cpu_stays_there(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=r"for an engine for cpu; .*--target cuda"):
        ViCropEngine.load(built(GROUPED_224).engine, **settings)


@pytest.mark.parametrize("method", ["grad-att", "pure-grad"])
def test_gradients_are_not_there_yet(engine: ViCropEngine, picture: Image.Image, method: str) -> None:
    with pytest.raises(SettingError, match=f"'{method}' is not in engines for cuda yet; take rel-att"):
        engine.ask(picture, "What?", method=method)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precision": "fp32"}, "precision 'fp32' cannot be built for cuda .*; wanted fp16, int8, int4"),
        ({"precision": "fp16", "pure_grad": True}, "pure-grad is not in engines for cuda"),
    ],
)
def test_builds_that_make_no_sense(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=words):
        build_engine(EMBEDDED.checkpoint, tmp_path / "engine", name="x", target="cuda", **settings)
    assert not (tmp_path / "engine").exists()


def test_the_place_on_the_command_line() -> None:
    assert parse_device(None) == {}
    assert parse_device("2") == {"device": 2}
    assert parse_device("cpu") == {"provider": "cpu"}
    for text in ("gpu", "-1", "0.5", ""):
        with pytest.raises(SettingError, match="wanted the number of a GPU from 0 up, or cpu"):
            parse_device(text)


def test_the_device_is_that_of_the_provider() -> None:
    directory = seeded("fp16")
    graphs = device_graph.open_device_graphs(directory, read_manifest(directory), Tally(), provider="cpu")
    assert (graphs.provider, graphs.device.kind, graphs.device.index) == ("CPUExecutionProvider", "cpu", 0)
