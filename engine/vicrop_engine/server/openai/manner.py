"""Strict or lenient: what is done about a part of a request that means nothing here.

A strict server refuses it. A lenient one leaves it out and says so, in the answer and in a header: clients
exist that send it with every request, and their users cannot change them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vicrop_engine.server.problem import Problem

HEADER = "X-Vicrop-Notices"
MOST_NOTICES = 24  # of one request; the rest are counted
LONGEST = 300  # characters of a notice, which may quote the client
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.\[\]-]")


class Notice(NamedTuple):
    """The key it is about, and what is said of it; nothing where the engine says it."""

    param: str
    text: str


@dataclass
class Manner:
    """How one request is read, and what there is to say about it so far."""

    strict: bool = False
    notices: list[Notice] = field(default_factory=list)

    def leave_out(self, problem: Problem, notice: str) -> None:
        """Say that what `problem` is about means nothing. Raises it where the server is strict."""
        if self.strict:
            raise problem
        self.note(problem.param or "", notice)

    def note(self, param: str, notice: str) -> None:
        """Say something about a key."""
        text = notice if len(notice) <= LONGEST else f"{notice[:LONGEST]}…"
        self.notices.append(Notice(param, text))


def sentences(notices: Sequence[Notice]) -> list[str]:
    """What is said, for `vicrop.notices`."""
    said = list(dict.fromkeys(notice.text for notice in notices if notice.text))
    more = len(said) - MOST_NOTICES
    return [*said[:MOST_NOTICES], f"and {more} more of the kind"] if more > 0 else said


def header_of(notices: Sequence[Notice]) -> dict[str, str]:
    """The header with the keys there is something to say about; none where there is nothing."""
    names = list(dict.fromkeys(_UNUSUAL.sub("?", notice.param[:60]) or "request" for notice in notices))
    return {HEADER: ", ".join(names[:MOST_NOTICES])} if names else {}
