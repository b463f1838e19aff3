"""Where a checkpoint is found, which one it is, and what is refused before a weight is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vicrop_engine.errors import CheckpointError
from vicrop_export.build import build_engine
from vicrop_export.checkpoint.locate import PROCESSOR_FILES, fingerprint, locate
from vicrop_export.checkpoint.tensors import INDEX, WEIGHTS

READ_BY_A_BUILD = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
    WEIGHTS,
)


def remove(*names: str) -> Callable[[Path], None]:
    """A spoiling: these files are gone."""

    def spoil(checkpoint: Path) -> None:
        for name in names:
            (checkpoint / name).unlink()

    return spoil


def only_pickles(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).rename(checkpoint / "pytorch_model.bin")


def only_arguments(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).rename(checkpoint / "training_args.bin")


def index(text: str) -> Callable[[Path], None]:
    """A spoiling: no single file, and this in the index."""

    def spoil(checkpoint: Path) -> None:
        (checkpoint / WEIGHTS).unlink()
        (checkpoint / INDEX).write_text(text)

    return spoil


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no tokenizer": (
        remove("tokenizer.json"),
        r"no tokenizer\.json; make one with transformers: AutoTokenizer\.from_pretrained",
    ),
    "no processor": (
        remove(*PROCESSOR_FILES),
        r"no preprocessor_config\.json and no processor_config\.json; copy the image processor's file",
    ),
    "no weights": (
        remove(WEIGHTS),
        r"no model\.safetensors and no model\.safetensors\.index\.json; wanted a",
    ),
    "pickles": (only_pickles, r"only as \.bin pickles, which can run code when read; convert .* safetensors"),
    "a .bin file that holds no weights": (only_arguments, r"no model\.safetensors and no"),
    "a missing shard": (
        index('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'),
        r"index\.json names model-00001-of-00002\.safetensors, and nothing is there; fetch",
    ),
    "an empty index": (index('{"weight_map": {}}'), "names no files"),
    "an index without a map": (index("{}"), "is not a safetensors index; fetch"),
    "an index of numbers": (index('{"weight_map": {"a": 5}}'), "is not a safetensors index; fetch"),
    "an index that is no JSON": (index("{"), "is not a safetensors index; fetch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_incomplete_directories_are_refused_before_any_work(
    case: str, checkpoint: Path, tmp_path: Path
) -> None:
    spoil, words = REFUSED[case]
    spoil(checkpoint)
    with pytest.raises(CheckpointError, match=words) as caught:
        locate(checkpoint)
    assert str(caught.value).startswith(str(checkpoint))
    stages: list[str] = []
    with pytest.raises(CheckpointError, match=words):
        build_engine(
            checkpoint, tmp_path / "engine", name="x", progress=lambda stage, _share: stages.append(stage)
        )
    assert stages == []
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_directory_is_found_by_its_name_and_contents(checkpoint: Path) -> None:
    found = locate(checkpoint)
    assert (found.directory, found.source) == (checkpoint, "checkpoint")
    assert found.revision == fingerprint(checkpoint)
    assert found.revision.startswith("sha256:")


@pytest.mark.parametrize("name", PROCESSOR_FILES)
def test_either_file_of_the_processor_will_do(name: str, checkpoint: Path) -> None:
    (checkpoint / name).unlink()
    assert locate(checkpoint).directory == checkpoint


def test_paths_that_are_no_directory(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is a file; wanted the directory"):
        locate(checkpoint / "config.json")
    for path in (tmp_path / "nowhere", "nowhere", "./nowhere/else", "../nowhere", "~/nowhere"):
        with pytest.raises(CheckpointError, match=r"does not exist; .* such as 'llava-hf/llava-1\.5-7b-hf'"):
            locate(path)


def test_one_byte_of_any_file_makes_another_fingerprint(checkpoint: Path) -> None:
    for name in READ_BY_A_BUILD:
        (checkpoint / name).touch()
    whole = fingerprint(checkpoint)
    seen = {whole}
    for name in READ_BY_A_BUILD:
        before = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(bytes([before[0] ^ 1]) + before[1:] if before else b"1")
        seen.add(fingerprint(checkpoint))
        (checkpoint / name).write_bytes(before)
    assert len(seen) == 1 + len(READ_BY_A_BUILD)
    (checkpoint / "README.md").write_text("read by people only")
    assert fingerprint(checkpoint) == whole


def test_the_fingerprint_knows_which_file_holds_what(checkpoint: Path) -> None:
    (checkpoint / "special_tokens_map.json").write_text("{}")
    one = fingerprint(checkpoint)
    (checkpoint / "special_tokens_map.json").rename(checkpoint / "added_tokens.json")
    assert fingerprint(checkpoint) != one
