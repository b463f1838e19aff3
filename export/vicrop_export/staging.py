"""Makes a directory in one step: built beside its place under another name, then renamed.

A build that fails or is stopped leaves nothing; one that is killed leaves a directory without a manifest, and
the next build removes it or, where only the manifest's name was missing, completes it. A directory that was
there before stays until the new one is whole. Knows nothing else of what is inside.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from vicrop_engine.engine_dir.files import MANIFEST
from vicrop_engine.errors import EngineDirectoryError, NoSpaceError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
NEARLY_FULL = 1 << 20
LAST = f"{MANIFEST}.last"  # the manifest's name until everything else is on the disk


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A new directory beside `output` that takes its place when the block ends well.

    Raises NoSpaceError when the disk filled up on the way, EngineDirectoryError when nothing can be written
    there.
    """
    output = Path(os.path.realpath(output))
    if os.path.ismount(output):
        raise EngineDirectoryError(f"{output} is a mount point; give -o a directory inside it")
    partial = output.with_name(f"{output.name}.partial-{secrets.token_hex(4)}")
    made = _make_parents(partial)
    try:
        with _locked(partial):
            yield partial
            sync_files(partial)
            _replace(output, partial)
    except BaseException as error:
        full = is_full(error, partial)
        shutil.rmtree(partial, ignore_errors=True)
        _remove_empty(made)
        if full:
            raise NoSpaceError(
                f"no space left on the disk of {output.parent}; free some and build again, or build "
                "elsewhere with -o"
            ) from error
        raise


def clear_leftovers(output: Path) -> None:
    """Tidy up after builds of `output` that were killed.

    Unfinished directories go; one that only lacks its manifest's name gets it; one that was set aside for its
    successor comes back if that never took its place. Builds that are still running hold a lock on theirs.
    """
    output = Path(os.path.realpath(output))
    for partial in _left(output, "partial"):
        shutil.rmtree(partial, ignore_errors=True)
    _complete(output)
    for old in _left(output, "replaced"):
        if output.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, output)


@contextlib.contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A directory inside a staged one that is gone when the block ends."""
    inside = directory / "scratch"
    inside.mkdir()
    try:
        yield inside
    finally:
        shutil.rmtree(inside, ignore_errors=True)


def demand_space(output: Path, num_bytes: int) -> None:
    """Raise NoSpaceError when the disk of `output` has fewer than `num_bytes` free."""
    place = Path(os.path.realpath(output)).parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < num_bytes:
        raise NoSpaceError(
            f"the build takes {num_bytes / 1e6:.0f} MB and the disk of {place} has {free / 1e6:.0f} MB "
            "left; free some, or build elsewhere with -o"
        )


def is_full(error: BaseException | None, place: Path) -> bool:
    """Whether an error, or what it came from, is a full disk."""
    while error is not None:
        if isinstance(error, OSError):
            if error.errno in FULL_DISK:
                return True
            if error.errno is None and _nearly_full(place):  # numpy's short writes carry no number
                return True
        error = error.__cause__ or error.__context__
    return False


def sync_files(directory: Path) -> None:
    """Flush every file of a flat directory, and the directory, to the disk."""
    for path in (*directory.iterdir(), directory):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _nearly_full(place: Path) -> bool:
    return place.exists() and shutil.disk_usage(place).free < NEARLY_FULL


def _make_parents(partial: Path) -> list[Path]:
    made = [parent for parent in (partial, *partial.parents) if not parent.exists()]
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        _remove_empty(made)
        if is_full(error, partial.parent):
            raise NoSpaceError(
                f"no space left on the disk of {partial.parent}; free some and build again"
            ) from error
        raise EngineDirectoryError(
            f"{partial.parent} cannot be written to ({error.strerror}); choose another directory with -o"
        ) from error
    return made


def _left(output: Path, kind: str) -> Iterator[Path]:
    """The directories of this kind that no running build holds, each locked while it is looked at."""
    for path in sorted(output.parent.glob(f"{glob.escape(output.name)}.{kind}-{8 * '[0-9a-f]'}")):
        with _locked(path) as locked:
            if locked:
                yield path


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Hold a lock that ends with this process; False when another holds it or the disk knows no locks."""
    handle = _lock(directory)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def _lock(directory: Path) -> int | None:
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_empty(made: list[Path]) -> None:
    for path in made:
        with contextlib.suppress(OSError):
            path.rmdir()


def _replace(output: Path, partial: Path) -> None:
    if not output.exists():
        os.rename(partial, output)
        _complete(output)
        return
    old = output.with_name(f"{output.name}.replaced-{secrets.token_hex(4)}")
    with _locked(output):
        os.rename(output, old)
        try:
            os.rename(partial, output)
        except BaseException:
            os.rename(old, output)
            raise
        _complete(output)
        shutil.rmtree(old, ignore_errors=True)


def _complete(output: Path) -> None:
    """Give the manifest its name: from here on the directory loads. One that has a manifest keeps it."""
    if (output / MANIFEST).exists():
        return
    with contextlib.suppress(
        FileNotFoundError, NotADirectoryError
    ):  # another build was quicker, or no engine
        os.replace(output / LAST, output / MANIFEST)
