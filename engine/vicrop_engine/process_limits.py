"""How many cores and how many bytes this process may use: affinity, control groups, memory, address space.

A container's limits are those of control groups (cgroup v1 and v2, also both at once), set on this process's
group or any above it; the smallest holds. Reads files alone and opens no sockets; what cannot be read sets no
limit. Knows nothing of what the cores and bytes are for.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

UNKNOWN_BYTES = 4 << 30  # where a system says nothing of its memory
PERIOD = 100_000  # microseconds over which a quota of processor time holds, unless said
LONGEST_FILE = 1 << 20
USUAL_MOUNTS = {
    "cpu": ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpuacct,cpu"),
    "memory": ("sys/fs/cgroup/memory",),
    "": ("sys/fs/cgroup", "sys/fs/cgroup/unified"),
}
"""Where control groups are mounted when mountinfo cannot be read, by controller of v1; "" is v2."""

_OF_ALL_ABOVE = re.compile(r"^hierarchical_memory_limit (\d+)", re.MULTILINE)  # also of groups out of sight
_ESCAPED = re.compile(r"\\([0-7]{3})")  # a space in a path of mountinfo is \040


class Limit(NamedTuple):
    """So many cores or bytes, and in words what says so."""

    amount: int
    source: str


@dataclass(frozen=True)
class ProcessLimits:
    """What this process may use: `cores` from 1 up and `memory` in bytes, each with what sets it."""

    cores: Limit
    memory: Limit


def process_limits(
    root: Path = Path("/"), *, affinity: int | None = None, address_space: int | None = None
) -> ProcessLimits:
    """The limits as they are now; a quota of a part of a core counts as a whole one.

    `root` is where `proc` and `sys` lie. `affinity` is the number of cores this process is bound to and
    `address_space` its RLIMIT_AS in bytes; both are asked of the system when None.
    """
    cores = [_affinity() if affinity is None else Limit(affinity, "affinity mask"), *_quotas(root)]
    memory = [_physical(root), *_memory_limits(root)]
    bound = _address_space() if address_space is None else address_space
    if bound is not None and bound > 0:
        memory.append(Limit(bound, "RLIMIT_AS"))
    fewest, least = min(cores, key=_amount), min(memory, key=_amount)
    return ProcessLimits(Limit(max(1, fewest.amount), fewest.source), least)


def usable_cores() -> int:
    """How many processor cores this process may use."""
    return process_limits().cores.amount


def usable_bytes() -> int:
    """How many bytes of memory this process may use, those it has already included."""
    return process_limits().memory.amount


def _amount(limit: Limit) -> int:
    return limit.amount


def _affinity() -> Limit:
    if hasattr(os, "sched_getaffinity"):
        return Limit(len(os.sched_getaffinity(0)), "affinity mask")
    return Limit(os.cpu_count() or 1, "processors")


def _address_space() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    bound = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if bound == resource.RLIM_INFINITY else bound


def _physical(root: Path) -> Limit:
    """The machine's memory."""
    found = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    if found is not None and int(found[1]) > 0:
        return Limit(int(found[1]) << 10, "physical memory")
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        total = 0
    return Limit(total, "physical memory") if total > 0 else Limit(UNKNOWN_BYTES, "an assumption")


def _quotas(root: Path) -> Iterator[Limit]:
    """Cores by quotas of processor time, of every group that has one."""
    for group in _groups(root, ""):
        quota, _, period = _text(group / "cpu.max").strip().partition(" ")
        yield from _cores(quota, period, group / "cpu.max")
    for group in _groups(root, "cpu"):
        path = group / "cpu.cfs_quota_us"
        yield from _cores(_text(path), _text(group / "cpu.cfs_period_us"), path)


def _cores(quota: str, period: str, path: Path) -> Iterator[Limit]:
    allowed = _number(quota)
    if allowed is not None:
        yield Limit(math.ceil(allowed / (_number(period) or PERIOD)), str(path))


def _memory_limits(root: Path) -> Iterator[Limit]:
    """Bytes by limits of control groups, of every group that has one."""
    for controller, names in (("", ("memory.max", "memory.high")), ("memory", ("memory.limit_in_bytes",))):
        for group in _groups(root, controller):
            for name in names:
                amount = _number(_text(group / name))
                if amount is not None:
                    yield Limit(amount, str(group / name))
    for group in _groups(root, "memory"):
        found = _OF_ALL_ABOVE.search(_text(group / "memory.stat"))
        if found is not None and (amount := _number(found[1])) is not None:
            yield Limit(amount, str(group / "memory.stat"))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The directories of this process's group and of all above it that can be seen, for v2 or one of v1.

    In a container the path of the group may be the host's, which does not exist where the container sees its
    groups: what lies there is the container's own group, and it is always looked at.
    """
    path = _group_path(root, controller)
    for mount, mounted in _mounts(root, controller):
        inside = path
        if mounted != PurePosixPath("/") and path.is_relative_to(mounted):
            inside = PurePosixPath("/") / path.relative_to(mounted)
        for each in () if ".." in inside.parts else (inside, *inside.parents):
            if each != PurePosixPath("/"):
                yield mount / each.relative_to("/")
        yield mount


def _group_path(root: Path, controller: str) -> PurePosixPath:
    """The path of this process's group, as /proc/self/cgroup says it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (controller in names.split(",") if controller else number == "0" and not names) and path:
            return PurePosixPath("/") / path.lstrip("/")
    return PurePosixPath("/")


def _mounts(root: Path, controller: str) -> list[tuple[Path, PurePosixPath]]:
    """Where groups are mounted, with the group that is there; the usual places where no mount is known."""
    found = []
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        is_v1 = kind[0] == "cgroup" and controller in kind[2].split(",")
        if is_v1 if controller else kind[0] == "cgroup2":
            found.append((root / _unescaped(fields[4]).lstrip("/"), PurePosixPath(_unescaped(fields[3]))))
    return found or [(root / place, PurePosixPath("/")) for place in USUAL_MOUNTS[controller]]


def _unescaped(path: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), path)


def _text(path: Path) -> str:
    """A small file's text; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_FILE).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _number(text: str) -> int | None:
    """A whole number above 0; None for anything else, such as "max" and -1, which is no limit."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 30 and int(text) > 0 else None
