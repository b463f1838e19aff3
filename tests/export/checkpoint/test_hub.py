"""Checkpoints on the hub: huggingface_hub's own client against a hub on this machine."""

from __future__ import annotations

import errno
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.checkpoints import write_json
from tests.export.conftest import edit_json
from tests.hub_server import COMMIT, HUB_ID, Hub, serving
from vicrop_engine.errors import BuildError, CheckpointError, NoSpaceError
from vicrop_export import build, progress
from vicrop_export.build import FETCHED, build_engine
from vicrop_export.checkpoint import hub
from vicrop_export.checkpoint.locate import fetch_weights, locate
from vicrop_export.checkpoint.tensors import INDEX, WEIGHTS
from vicrop_export.progress import FetchProgress
from vicrop_export.quiet import quiet

READ_FIRST = [
    *("config.json", "generation_config.json", INDEX, "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json"),
]
FIRST, SECOND = (f"model-0000{index}-of-00002.safetensors" for index in (1, 2))
LARGE, CUT = 25_000_000, 15_000_000  # the client keeps what it got in pieces of 10 MiB
NEEDLESS = (
    *("README.md", "pytorch_model.bin", "training_args.bin", "model.fp16.safetensors", "trainer_state.json"),
    *("consolidated.safetensors", "onnx/config.json", "onnx/model.safetensors"),
)


@pytest.fixture
def served(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a small checkpoint in two shards, of bytes that are no tensors; the cache is empty."""
    (checkpoint / WEIGHTS).unlink()
    write_json(checkpoint / INDEX, {"weight_map": {"a": FIRST, "b": SECOND}})
    for seed, (name, size) in enumerate({FIRST: LARGE, SECOND: 1_000_000}.items()):
        (checkpoint / name).write_bytes(random.Random(seed).randbytes(size))
    with serving(checkpoint) as started:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "ENDPOINT", started.url)
        template = f"{started.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield started
        huggingface_hub.close_session()


def silent() -> FetchProgress:
    return FetchProgress(lambda _stage, _share: None, FETCHED)


def fetched(served: Hub) -> Path:
    """Fetch everything; whole and equal to what is served."""
    with quiet():
        found = locate(HUB_ID)
        fetch_weights(found, silent())
    for name in (FIRST, SECOND):
        assert (found.directory / name).read_bytes() == (served.directory / name).read_bytes()
    return found.directory


def test_a_repository_is_named_by_its_commit_and_its_weights_come_last(served: Hub) -> None:
    with quiet():
        found = locate(HUB_ID)
    assert (found.source, found.revision, found.directory.name) == (HUB_ID, COMMIT, COMMIT)
    assert sorted(served.fetched()) == READ_FIRST
    served.log.clear()
    with quiet():
        fetch_weights(found, silent())
    assert sorted(served.fetched()) == [FIRST, SECOND]


def test_what_a_build_does_not_read_is_never_fetched(served: Hub) -> None:
    for name in NEEDLESS:
        (served.directory / name).parent.mkdir(exist_ok=True)
        (served.directory / name).write_bytes(b"{}")
    directory = fetched(served)
    assert sorted({asked.name for asked in served.log if "/api/" not in asked.name}) == sorted(
        [*READ_FIRST, FIRST, SECOND]
    )
    assert sorted(path.name for path in directory.iterdir()) == sorted([*READ_FIRST, FIRST, SECOND])


def test_a_single_file_goes_before_shards(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (served.directory / WEIGHTS).write_bytes(b"whole")
    with quiet():
        found = locate(HUB_ID)
        fetch_weights(found, silent())
    assert sorted(served.fetched()) == sorted([*READ_FIRST, WEIGHTS])
    served.log.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with quiet():
        fetch_weights(locate(HUB_ID), silent())
    assert served.log == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            (FIRST, SECOND, INDEX),
            "holds its weights only as .bin pickles, which can run code when read; convert",
        ),
        (("tokenizer.json",), "no tokenizer.json; make one"),
        (("preprocessor_config.json", "processor_config.json"), "no preprocessor_config.json and no proc"),
    ],
)
def test_an_impossible_repository_is_refused_before_any_file_is_fetched(
    names: tuple[str, ...], words: str, served: Hub, tmp_path: Path
) -> None:
    (served.directory / "pytorch_model-00001-of-00002.bin").write_bytes(b"pickled")
    for name in names:
        (served.directory / name).unlink()
    with pytest.raises(CheckpointError, match=f"^{HUB_ID}.*{re.escape(words)}"):
        build_engine(HUB_ID, tmp_path / "engine", name="x")
    assert [asked.name for asked in served.log if "/api/" not in asked.name] == []
    assert not (tmp_path / "engine").exists()


def test_another_architecture_is_refused_before_its_weights_are_fetched(served: Hub, tmp_path: Path) -> None:
    edit_json(served.directory / "config.json", lambda config: config.update(model_type="llava_onevision"))
    with pytest.raises(CheckpointError, match="unknown model_type 'llava_onevision'; known: llava"):
        build_engine(HUB_ID, tmp_path / "engine", name="x")
    assert "config.json" in served.fetched()
    assert not [name for name in served.fetched() if name.endswith(".safetensors")]


def test_a_connection_that_ends_too_soon_is_taken_up_where_it_ended(served: Hub) -> None:
    served.cuts[FIRST] = CUT
    fetched(served)
    whole, rest = served.ranges(FIRST)
    assert whole is None
    assert rest is not None
    start = int(rest.removeprefix("bytes=").removesuffix("-"))
    assert CUT - constants.DOWNLOAD_CHUNK_SIZE < start <= CUT
    assert served.ranges(SECOND) == [None]


def test_after_a_failure_the_next_build_fetches_what_is_not_whole(served: Hub) -> None:
    """From its beginning: the client keeps no part of a file from one call to the next."""
    served.refusals.add(FIRST)
    with quiet(), pytest.raises(BuildError, match=r"could not be fetched .* run it again, which keeps files"):
        fetch_weights(locate(HUB_ID), silent())
    served.refusals.clear()
    served.log.clear()
    fetched(served)
    assert served.fetched() == [FIRST]
    assert served.ranges(FIRST) == [None]


def test_offline_what_was_fetched_is_found_without_a_request(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = fetched(served)
    served.log.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetched(served) == directory
    assert served.log == []


def test_a_hub_that_is_down_is_not_needed_for_what_was_fetched(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = fetched(served)
    served.log.clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    assert fetched(served) == directory
    assert served.log == []


@pytest.mark.parametrize("have", ["nothing", "all but the weights"])
def test_offline_what_was_not_fetched_is_refused_with_the_way_out(
    have: str, served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if have != "nothing":
        with quiet():
            locate(HUB_ID)
    served.log.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    words = (
        "or not all of it, and HF_HUB_OFFLINE is set; unset it, or give a local copy with --checkpoint DIR"
    )
    with pytest.raises(BuildError, match=words):
        build_engine(HUB_ID, tmp_path / "engine", name="x")
    assert served.log == []
    assert not (tmp_path / "engine").exists()


def test_progress_tells_files_bytes_and_time_left(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0)
    told: list[tuple[str, float]] = []
    fetching = FetchProgress(lambda stage, share: told.append((stage, share)), FETCHED)
    with quiet():
        fetch_weights(locate(HUB_ID), fetching)
    assert told[0] == ("fetching weights, 0 of 2 files, 0 of 26 MB", 0.0)
    assert told[-1] == ("fetching weights, 2 of 2 files, 26 of 26 MB, 0 s left", FETCHED)
    assert len({share for _, share in told}) >= 4  # 25 MB come in three pieces
    assert [share for _, share in told] == sorted(share for _, share in told)
    fetching.rest()("half of the rest", 0.5)
    assert told[-1] == ("half of the rest", (1 + FETCHED) / 2)


def test_progress_says_nothing_of_what_is_there(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0)
    fetched(served)
    told: list[tuple[str, float]] = []
    fetching = FetchProgress(lambda stage, share: told.append((stage, share)), FETCHED)
    with quiet():
        fetch_weights(locate(HUB_ID), fetching)
    assert told == []
    fetching.rest()("half", 0.5)
    assert told == [("half", 0.5)]


def test_a_build_hears_of_it_and_goes_on_in_the_share_that_is_left(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        pass

    def stop(*_: Any, **__: Any) -> None:
        raise StoppedError

    monkeypatch.setattr(build, "DescribedTensors", lambda *_: None)  # the shards hold no tensors
    monkeypatch.setattr(build, "demand_space", lambda *_: None)
    monkeypatch.setattr(build, "num_build_bytes", lambda *_: 0)
    monkeypatch.setattr(build, "num_weight_bytes", lambda *_: 0)
    monkeypatch.setattr(build, "run_reference", stop)
    told: list[tuple[str, float]] = []
    with pytest.raises(StoppedError):
        build_engine(HUB_ID, tmp_path / "engine", name="x", progress=lambda *said: told.append(said))
    assert told[:2] == [
        ("reading the checkpoint", 0.0),
        ("fetching weights, 0 of 2 files, 0 of 26 MB", 0.0),
    ]
    assert told[-2][0].startswith("fetching weights, 2 of 2 files, 26 of 26 MB")
    assert told[-1] == ("running transformers on a probe", FETCHED + (1 - FETCHED) * 0.05)


class ReadError(Exception):
    """As httpx's: no OSError."""


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ReadError("reset.\nAnd much more"), BuildError, r"\(reset. And much more\); check the network"),
        (OSError("broken."), BuildError, r"\(broken\); check the network"),
        (
            OSError(errno.ENOSPC, "full"),
            NoSpaceError,
            "no space left on the disk of .*cache.*; free some, or set",
        ),
    ],
)
def test_failures_become_one_sentence(
    error: Exception,
    kind: type[Exception],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(kind, match=words) as caught:
        hub.fetch(HUB_ID, ["config.json"])
    assert "\n" not in str(caught.value)


def test_an_unknown_repository_and_a_name_no_repository_can_have(served: Hub) -> None:
    with quiet(), pytest.raises(BuildError, match=r"some-one/else could not be fetched .* check .* the name"):
        locate("some-one/else")
    with pytest.raises(CheckpointError, match="'some one/some-llava' is neither a directory nor a hub id"):
        locate("some one/some-llava")
