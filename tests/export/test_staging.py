"""A directory appears whole or not at all, and what was there stays until then."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vicrop_engine.engine_dir.files import MANIFEST
from vicrop_engine.errors import EngineDirectoryError, NoSpaceError
from vicrop_export.staging import LAST, clear_leftovers, demand_space, staged


def tree(directory: Path) -> dict[str, str]:
    """Every file below, with what is in it; empty directories too."""
    paths = sorted(directory.rglob("*"))
    return {str(path.relative_to(directory)): path.read_text() if path.is_file() else "" for path in paths}


def fail_second(function: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """The function, but its second call raises."""
    calls: list[tuple[Any, ...]] = []

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise error
        return function(*arguments)

    return call


def refuse_to_make(name: str, error: Exception) -> Callable[..., None]:
    """os.mkdir, but a directory of this name cannot be made when it comes to it."""
    mkdir = os.mkdir

    def call(path: Path, mode: int = 0o777) -> None:
        if Path(path).name == name and Path(path).parent.exists():
            raise error
        mkdir(path, mode)

    return call


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A directory that was there before, with a file in it."""
    directory = tmp_path / "engine"
    directory.mkdir()
    (directory / "old.txt").write_text("old")
    return directory


def test_nothing_is_in_place_before_the_end(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "down" / "engine"
    with staged(output) as partial:
        assert partial.parent == output.parent
        (partial / "new.txt").write_text("new")
        assert not output.exists()
    assert tree(tmp_path) == {
        "deep": "",
        "deep/down": "",
        "deep/down/engine": "",
        "deep/down/engine/new.txt": "new",
    }


def test_every_file_is_flushed_before_it_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = set()

    def note(handle: int) -> None:
        assert not (tmp_path / "engine").exists()
        flushed.add(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", note)
    with staged(tmp_path / "engine") as partial:
        for name in ("a", "b"):
            (partial / name).write_text(name)
    wanted = [tmp_path / "engine", *(tmp_path / "engine").iterdir()]
    assert flushed == {path.stat().st_ino for path in wanted}


def test_replacement_is_in_one_step_and_the_old_one_goes(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed: list[tuple[str, str]] = []
    rename = os.rename

    def note(source: Path, target: Path) -> None:
        renamed.append((source.name, target.name))
        rename(source, target)

    monkeypatch.setattr(os, "rename", note)
    with staged(old) as partial:
        (partial / "new.txt").write_text("new")
        assert tree(old) == {"old.txt": "old"}
    assert tree(tmp_path) == {"engine": "", "engine/new.txt": "new"}
    (first, aside), second = renamed
    assert first == "engine"
    assert aside.startswith("engine.replaced-")
    assert second == (partial.name, "engine")


@pytest.mark.parametrize(
    "error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(1), OSError(5, "torn")]
)
def test_an_error_leaves_nothing_and_keeps_what_was_there(
    error: BaseException, old: Path, tmp_path: Path
) -> None:
    before = tree(tmp_path)
    for output in (old, tmp_path / "other", tmp_path / "deep" / "down" / "other"):
        with pytest.raises(type(error)) as caught, staged(output) as partial:  # noqa: PT012
            (partial / "new.txt").write_text("new")
            raise error
        assert caught.value is error
        assert tree(tmp_path) == before


def test_parents_that_were_there_stay(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="broken"), staged(tmp_path / "empty" / "made" / "engine"):
        raise ValueError("broken")
    assert tree(tmp_path) == {"empty": ""}


def test_a_last_rename_that_fails_brings_the_old_one_back(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "rename", fail_second(os.rename, OSError(errno.EIO, "torn")))
    with pytest.raises(OSError, match="torn"), staged(old) as partial:
        (partial / "new.txt").write_text("new")
    assert tree(tmp_path) == {"engine": "", "engine/old.txt": "old"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_while_writing(number: int, wrapped: bool, old: Path, tmp_path: Path) -> None:
    """Also when a library wraps it in an error of its own."""

    def write() -> None:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            if wrapped:
                raise RuntimeError("could not save") from error
            raise

    with (
        pytest.raises(NoSpaceError, match=r"no space left on the disk of .*; free some") as caught,
        staged(old),
    ):
        write()
    assert str(tmp_path) in str(caught.value)
    assert caught.value.exit_code == 1
    assert tree(tmp_path) == {"engine": "", "engine/old.txt": "old"}


def test_a_full_disk_while_flushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail_second(os.fsync, OSError(errno.ENOSPC, "full")))
    with pytest.raises(NoSpaceError), staged(tmp_path / "made" / "engine") as partial:
        (partial / "new.txt").write_text("new")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(("free", "wanted"), [(1000, NoSpaceError), (10**9, OSError)])
def test_short_writes_without_a_number(
    free: int, wanted: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy says only that it wrote less than it had: whether the disk is full tells why."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(wanted) as caught, staged(tmp_path / "engine"):
        raise OSError("100 requested and 7 written")
    assert type(caught.value) is wanted
    assert tree(tmp_path) == {}


def test_a_full_disk_at_the_first_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "mkdir", refuse_to_make("down", OSError(errno.ENOSPC, "full")))
    with pytest.raises(NoSpaceError, match="no space left"):
        staged(tmp_path / "deep" / "down" / "engine").__enter__()
    assert tree(tmp_path) == {}


def test_parents_that_cannot_be_written_to(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(tmp_path)
    below_a_file = old / "old.txt" / "engine"
    with pytest.raises(
        EngineDirectoryError, match=r"old\.txt cannot be written to \(Not a directory\); choose"
    ):
        staged(below_a_file).__enter__()
    refusal = PermissionError(errno.EACCES, "Permission denied")  # said here, for an administrator may write
    monkeypatch.setattr(os, "mkdir", refuse_to_make("down", refusal))
    with pytest.raises(
        EngineDirectoryError, match=r"cannot be written to \(Permission denied\); choose .* -o"
    ):
        staged(tmp_path / "deep" / "down" / "engine").__enter__()
    assert tree(tmp_path) == before


def test_a_mount_point_cannot_be_replaced(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: path == old)
    with pytest.raises(EngineDirectoryError, match="engine is a mount point; give -o a directory inside it"):
        staged(old).__enter__()
    assert tree(old) == {"old.txt": "old"}


def test_behind_a_link_its_target_is_replaced(old: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(old)
    with staged(tmp_path / "link") as partial:
        (partial / "new.txt").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert tree(old) == {"new.txt": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine", "link"]


def test_what_killed_builds_left_is_cleared(old: Path, tmp_path: Path) -> None:
    for name in ("engine.partial-0123abcd", "engine.replaced-0123abcd", "other.partial-0123abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "left.txt").write_text("left")
    (tmp_path / "engine.partial-notes").write_text("mine")
    with staged(old) as running:
        clear_leftovers(old)
        assert running.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "engine",
        "engine.partial-notes",
        "other.partial-0123abcd",
    ]


def test_an_engine_set_aside_by_a_killed_build_comes_back(old: Path, tmp_path: Path) -> None:
    shutil.move(old, tmp_path / "engine.replaced-0123abcd")
    clear_leftovers(old)
    assert tree(tmp_path) == {"engine": "", "engine/old.txt": "old"}


def test_the_manifest_gets_its_name_after_the_directory(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not there was one before, and whether or not another build starts in between."""
    done: list[str] = []

    def noting(function: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        def call(source: Path, target: Path) -> None:
            done.append(target.name.split("-")[0])
            assert not (source / MANIFEST).exists()
            function(source, target)
            if source.name == partial.name:
                assert not (target / MANIFEST).exists()
                clear_leftovers(target)
                assert (target / MANIFEST).read_text() == "new"

        return call

    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    for output in (old, tmp_path / "new"):
        with staged(output) as partial:
            (partial / LAST).write_text("new")
        assert tree(output) == {MANIFEST: "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine", "new"]
    assert done == [
        *("engine.replaced", "engine", MANIFEST),
        *("new", MANIFEST),
    ]


@pytest.mark.parametrize("aside", [False, True])
def test_an_engine_whose_manifest_lacks_its_name_is_completed(aside: bool, old: Path, tmp_path: Path) -> None:
    """Killed between the two renames: it was whole by then, and what it replaces has had its day."""
    if aside:
        shutil.copytree(old, tmp_path / "engine.replaced-0123abcd")
    (old / LAST).write_text("{}")
    clear_leftovers(old)
    assert tree(tmp_path) == {"engine": "", "engine/old.txt": "old", f"engine/{MANIFEST}": "{}"}


def test_another_build_may_be_quicker_to_complete_it(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (old / LAST).write_text("{}")
    replace = os.replace

    def come_second(source: Path, target: Path) -> None:
        replace(source, target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", come_second)
    clear_leftovers(old)
    assert tree(old) == {"old.txt": "old", MANIFEST: "{}"}


def test_a_manifest_that_is_there_is_kept(old: Path) -> None:
    """No build leaves both, so the other file is somebody's own."""
    for name in (MANIFEST, LAST):
        (old / name).write_text(name)
    before = tree(old)
    clear_leftovers(old)
    assert tree(old) == before


def test_a_partial_directory_is_never_completed(tmp_path: Path) -> None:
    (tmp_path / "engine.partial-0123abcd").mkdir()
    (tmp_path / "engine.partial-0123abcd" / LAST).write_text("{}")
    clear_leftovers(tmp_path / "engine")
    assert tree(tmp_path) == {}


def test_nothing_to_clear(tmp_path: Path) -> None:
    clear_leftovers(tmp_path / "nowhere" / "engine")
    assert tree(tmp_path) == {}


def test_too_little_space_is_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def usage(place: Path) -> SimpleNamespace:
        asked.append(place)
        return SimpleNamespace(free=3_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    demand_space(tmp_path / "not" / "there" / "yet", 3_000_000)
    with pytest.raises(NoSpaceError, match=r"takes 14127 MB and the disk of .* has 3 MB left; free some"):
        demand_space(tmp_path / "not" / "there" / "yet", 14_127_000_000)
    assert asked == [tmp_path, tmp_path]
    assert tree(tmp_path) == {}
