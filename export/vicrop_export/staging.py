"""Makes a directory in one step: built beside its place under another name, then renamed.

A build that fails or is interrupted leaves nothing; a directory that was there before stays until the new one
is whole. One that is killed leaves files without a manifest, which the next build removes. Knows nothing else
of what is inside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vicrop_engine.errors import EngineDirectoryError, NoSpaceError
from vicrop_engine.manifest import MANIFEST

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
NEARLY_FULL = 1 << 20
LAST = f"{MANIFEST}.last"  # the manifest's name until everything else is on the disk


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A new directory beside `output` that takes its place when the block ends well.

    Raises NoSpaceError when the disk filled up on the way, EngineDirectoryError when nothing can be written
    there.
    """
    output = Path(os.path.abspath(output))
    _sweep(output)
    partial = output.with_name(f"{output.name}.partial-{os.getpid()}")
    made = _make_parents(partial)
    try:
        yield partial
        sync_files(partial)
        if (partial / LAST).exists():
            os.replace(partial / LAST, partial / MANIFEST)
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
    place = Path(os.path.abspath(output))
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < num_bytes:
        raise NoSpaceError(
            f"the engine takes {num_bytes / 1e6:.0f} MB and the disk of {place} has {free / 1e6:.0f} MB "
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


def _sweep(output: Path) -> None:
    """Remove what builds of this directory left that were killed."""
    for left in output.parent.glob(f"{output.name}.partial-*"):
        owner = left.name.rpartition("-")[2]
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _nearly_full(place: Path) -> bool:
    return place.exists() and shutil.disk_usage(place).free < NEARLY_FULL


def _make_parents(partial: Path) -> list[Path]:
    made = [parent for parent in (partial, *partial.parents) if not parent.exists()]
    try:
        shutil.rmtree(partial, ignore_errors=True)
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


def _remove_empty(made: list[Path]) -> None:
    for path in made:
        with contextlib.suppress(OSError):
            path.rmdir()


def _replace(output: Path, partial: Path) -> None:
    if not output.exists():
        os.rename(partial, output)
        return
    old = output.with_name(f"{output.name}.replaced-{os.getpid()}")
    os.rename(output, old)
    try:
        os.rename(partial, output)
    except BaseException:
        os.rename(old, output)
        raise
    shutil.rmtree(old, ignore_errors=True)
