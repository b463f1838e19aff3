"""Processes below this one, as Linux tells of them: when they ended, and where they listen."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

SECONDS_TO_END = 30.0
LISTENING = "0A"
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def descendants(process: int) -> dict[int, str]:
    """Processes below this one by id, with when each was started; for an id may be used again."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        number = int(status.parent.name)
        if found := facts(number):
            parents[number] = found
    known, fresh = set(), {process}
    while fresh:
        fresh = {number for number, (parent, _) in parents.items() if parent in fresh} - known
        known |= fresh
    return {number: parents[number][1] for number in known}


def facts(process: int) -> tuple[int, str] | None:
    """Parent and time of start of a process; None when it has ended, if only to be waited for."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else (int(fields[1]), fields[19])


def still_there(processes: dict[int, str]) -> list[int]:
    """Those that have not ended in the time they have for it."""
    until = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < until:
        left = [process for process, start in processes.items() if (facts(process) or (0, ""))[1] == start]
        if not left:
            return []
        time.sleep(0.1)
    return left


def open_to_others(processes: dict[int, str]) -> set[str]:
    """Names of these processes that listen for TCP on other addresses than loopback."""
    listening = {
        fields[9]: fields[1].partition(":")[0]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == LISTENING
    }
    found = {
        process: {listening[each] for each in sockets_of(process) & listening.keys()} for process in processes
    }
    assert any(addresses & LOOPBACK for addresses in found.values()), "Ray listens somewhere"
    return {
        Path(f"/proc/{process}/comm").read_text().strip() for process in found if found[process] - LOOPBACK
    }


def sockets_of(process: int) -> set[str]:
    """Inodes of its sockets."""
    found = set()
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                kind, _, number = str(each.readlink()).partition(":")
                if kind == "socket":
                    found.add(number.strip("[]"))
    return found
