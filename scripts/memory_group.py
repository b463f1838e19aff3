"""A limit on the memory of a process: a control group (cgroup v2 or v1), else its address space."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MIB = 1 << 20


@dataclass(frozen=True)
class MemoryLimit:
    """`size` bytes for whatever runs behind `command`; `kind` says in words how they are held.

    `group` is the control group, None where the address space is bounded.
    """

    size: int
    kind: str
    group: Path | None

    def command(self, command: Sequence[str]) -> list[str]:
        """The command under this limit."""
        enter = (
            f"ulimit -v {self.size // 1024}"
            if self.group is None
            else f"echo $$ > {shlex.quote(str(self.group / 'cgroup.procs'))}"
        )
        return ["sh", "-c", f"{enter} && exec {shlex.join(command)}"]

    @property
    def peak(self) -> int | None:
        """The most bytes that were in use, page cache included; None where nobody counts."""
        text = self._said("memory.peak", "memory.max_usage_in_bytes")
        return int(text) if text else None

    @property
    def kills(self) -> int | None:
        """Processes that the kernel has killed for this limit; None where nobody counts."""
        found = re.search(r"^oom_kill (\d+)", self._said("memory.events", "memory.oom_control"), re.MULTILINE)
        return int(found[1]) if found else None

    def _said(self, *names: str) -> str:
        """The first of the group's files that can be read, of cgroup v2 and v1; empty without any."""
        if self.group is not None:
            for name in names:
                with contextlib.suppress(OSError):
                    return (self.group / name).read_text()
        return ""


@contextlib.contextmanager
def memory_limit(size: int) -> Iterator[MemoryLimit]:
    """A limit of so many bytes; what runs under it must have ended by the end of the block."""
    reasons = []
    for version, parent, file in ((2, MOUNT, "memory.max"), (1, MOUNT / "memory", "memory.limit_in_bytes")):
        try:
            group = _made(version, parent, file, size)
        except OSError as error:
            reasons.append(f"no cgroup v{version}: {error.strerror or error}")
            continue
        try:
            yield MemoryLimit(size, f"cgroup v{version}", group)
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
        return
    yield MemoryLimit(size, f"RLIMIT_AS, for there is {'; '.join(reasons)}", None)


def _made(version: int, parent: Path, file: str, size: int) -> Path:
    """A new group below `parent` with its limit set. Raises OSError where that cannot be."""
    if version == 2:
        (parent / "cgroup.controllers").read_text()
        with contextlib.suppress(OSError):  # where it is set already, or must not be
            (parent / "cgroup.subtree_control").write_text("+memory")
    else:
        (parent / file).read_text()
    group = parent / f"vicrop-{os.getpid()}"
    group.mkdir()
    try:
        if not (group / file).is_file():
            raise OSError(f"a new group has no {file}")
        (group / file).write_text(str(size))
    except OSError:
        group.rmdir()
        raise
    return group
