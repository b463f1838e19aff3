"""Names, paths and the cache: which engine directory is meant, and what building for the first time says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from vicrop_engine import builder, models
from vicrop_engine.errors import BuildError, CheckpointError, EngineDirectoryError, UnknownModelError
from vicrop_engine.models import KnownModel, cache_directory, cached_engine, find_engine, find_model, resolve


def make_engine(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text("{}")
    return directory


def test_the_contract_models_are_known() -> None:
    assert [model.name for model in models.MODELS] == ["llava-signs", "llava-1.5", "llava-1.5-13b"]
    assert find_model("llava-1.5").source == "llava-hf/llava-1.5-7b-hf"
    assert find_model("llava-1.5").layers == (14,)


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


@pytest.mark.parametrize("checkpoint", ["./nowhere", "/no/such/place", "one-word", "a/b/c"])
def test_a_checkpoint_that_is_neither_directory_nor_hub_id_is_refused(checkpoint: str) -> None:
    with pytest.raises(CheckpointError, match="--checkpoint wants"):
        builder.find_checkpoint(find_model("llava-1.5"), checkpoint)


def test_a_file_as_checkpoint_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(CheckpointError, match="is a file"):
        builder.find_checkpoint(find_model("llava-1.5"), str(file))


def test_a_checkpoint_is_a_local_directory_before_it_is_a_hub_id(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = find_model("llava-1.5")
    assert builder.find_checkpoint(model, None) == "llava-hf/llava-1.5-7b-hf"
    assert builder.find_checkpoint(model, "org/name") == "org/name"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert builder.find_checkpoint(model, "org/name") == Path("org/name")


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    with pytest.raises(BuildError, match=r"no route to host.*--checkpoint DIR"):
        builder.download("llava-hf/llava-1.5-7b-hf")
