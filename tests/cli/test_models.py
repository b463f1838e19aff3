"""Names, paths and the cache: which engine directory is meant, and what building for the first time says."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from vicrop_engine import builder
from vicrop_engine.builder import resolve
from vicrop_engine.engine_dir import registry as models
from vicrop_engine.engine_dir.registry import (
    KnownModel,
    cache_directory,
    cached_engine,
    find_engine,
    find_model,
)
from vicrop_engine.errors import BuildError, EngineDirectoryError, UnknownModelError


def make_engine(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text("{}")
    return directory


def test_the_contract_models_are_known() -> None:
    assert [model.name for model in models.MODELS] == [
        *("llava-signs", "llava-1.5", "llava-1.5-13b"),
        *("llava-next-mistral-7b", "llava-next-vicuna-7b"),
        *("smolvlm2-256m", "smolvlm2-500m", "smolvlm2-2.2b"),
        *("qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen2-vl-2b"),
        *("qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b"),
        *("instructblip-7b", "instructblip-13b"),
    ]
    assert find_model("llava-1.5").source == "llava-hf/llava-1.5-7b-hf"


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match=r"did you mean 'llava-1.5-13b'"):
        find_model("llava-1.5-13")


def test_the_cache_is_vicrop_home_else_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VICROP_HOME", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.delenv("VICROP_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "vicrop-engine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory() == tmp_path / "home" / ".cache" / "vicrop-engine"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_directory() == tmp_path / "home" / "Library" / "Caches" / "vicrop-engine"


def test_a_built_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    directory = make_engine(tmp_path / "engine")
    assert find_engine(directory) == directory


def test_a_path_is_never_taken_for_a_name(tmp_path: Path) -> None:
    with pytest.raises(EngineDirectoryError, match="does not exist"):
        find_engine(tmp_path / "llava-signs")


def test_a_rebuilt_engine_in_the_cache_comes_before_the_shipped_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(models, "EMBEDDED", tmp_path / "embedded")
    shipped = make_engine(find_model("llava-signs").shipped_engine)
    assert find_engine("llava-signs") == shipped
    rebuilt = make_engine(cached_engine("llava-signs"))
    assert find_engine("llava-signs") == rebuilt


def test_a_model_is_built_once_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    built: list[str] = []

    def fake_build(model: KnownModel, output: Path, **_: object) -> None:
        built.append(model.name)
        make_engine(output)

    monkeypatch.setattr(builder, "build_model", fake_build)
    with caplog.at_level(logging.WARNING, logger="vicrop_engine"):
        first = resolve("llava-1.5")
        second = resolve("llava-1.5")
    assert first == second == cached_engine("llava-1.5")
    assert built == ["llava-1.5"]
    assert [record.getMessage() for record in caplog.records] == [
        f"llava-1.5 was never built here; building it once into {first}"
    ]


def passed_on(monkeypatch: pytest.MonkeyPatch, model: str, **settings: Any) -> dict[str, Any]:
    """What `build_model` hands to the build package."""
    heard: dict[str, Any] = {}
    monkeypatch.setattr(
        "vicrop_export.build.build_engine", lambda *args, **more: heard.update(more, args=args)
    )
    builder.build_model(find_model(model), Path("out"), **settings)
    return heard


def test_a_build_takes_the_models_own_checkpoint_and_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODELS", (*models.MODELS, KnownModel("small", "org/small", layers=(2,))))
    heard = passed_on(monkeypatch, "small")
    assert (heard["args"], heard["layers"]) == (("org/small", Path("out")), (2,))
    assert passed_on(monkeypatch, "small", checkpoint="org/deeper")["layers"] is None
    heard = passed_on(monkeypatch, "llava-1.5")
    assert heard["args"] == ("llava-hf/llava-1.5-7b-hf", Path("out"))
    assert (heard["name"], heard["layers"]) == ("llava-1.5", None)
    heard = passed_on(monkeypatch, "llava-signs")
    assert heard["args"][0] == find_model("llava-signs").checkpoint


def test_a_build_takes_what_is_given_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = passed_on(monkeypatch, "llava-1.5", checkpoint="org/name", layers="10-20")
    assert (heard["args"][0], heard["layers"]) == ("org/name", "10-20")


def test_without_the_build_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vicrop_export.build", None)
    with pytest.raises(BuildError, match=r"pip install -U 'vicrop-engine\[cpu,build\]'"):
        builder.build_model(find_model("llava-1.5"), Path("out"))
