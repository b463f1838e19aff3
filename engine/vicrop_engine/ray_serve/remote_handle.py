"""A request that a replica works on: its handle here, and its texts, heard once however often it is sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from vicrop_engine.counters import Tally
from vicrop_engine.ray_serve.messages import Answered
from vicrop_engine.serving.handle import RequestHandle


class RemoteHandle(RequestHandle):
    """A request at a replica; `sent` counts how often it was sent to one, and `replica` had it last."""

    def __init__(self, number: int, deadline: float) -> None:
        super().__init__(number, deadline, Tally())
        self.sent = 0
        self.replica: str | None = None

    def finish(self, answered: Answered, sent: float) -> None:
        """The answer is there, from a replica that has had the request since `sent`, by this clock."""
        course = answered.course
        self.replica, self.shared = course.replica, course.shared
        self.tally.add(**dataclasses.asdict(course.counters))
        self.began = None if course.began is None else sent + course.began
        if self.first_token is None and course.first_token is not None:
            self.first_token = sent + course.first_token
        self.future.set_result(answered.answer)


class Hearer:
    """Passes on a text as it grows; what a repeated request tells again from the start was heard already."""

    def __init__(self, hear: Callable[[str], None] | None, handle: RequestHandle) -> None:
        self._hear, self._handle, self._last = hear, handle, ""

    @property
    def wanted(self) -> bool:
        """Whether anyone listens."""
        return self._hear is not None

    def tell(self, text: str) -> None:
        """The text as it is now."""
        if self._hear is not None and len(text) >= len(self._last) and text != self._last:
            self._last = text
            self._handle.mark_token()
            self._hear(text)
