"""Room for the bodies of requests under way: where it is short they are read one after the other.

A client whose body is not read yet waits as on a slow network, and its bytes stay with it.
"""

from __future__ import annotations

import asyncio

from vicrop_engine.server.problem import RETRY_SECONDS, Problem

SMALL_SHARE = 64  # bodies of one part in so many of the room do not wait for larger ones


class Body:
    """A body as far as it has been read; `length` is announced, or the most it may have."""

    def __init__(self, length: int) -> None:
        self.length, self.size = length, 0
        self.whole = False


class BodyRoom:
    """Bytes of bodies, `limit` of them beside the one that is read first.

    Who came first goes on where the rest is taken by bodies that are not whole either, so that they do not
    wait for each other. Belongs to one event loop.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._bodies: dict[Body, None] = {}
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def taken(self) -> int:
        """Bytes of all bodies of requests under way."""
        return sum(body.size for body in self._bodies)

    def enter(self, body: Body) -> None:
        """A request with this body has come."""
        self._bodies[body] = None

    def add(self, body: Body, size: int) -> None:
        """So many bytes more have been read."""
        body.size += size

    def finish(self, body: Body) -> None:
        """It is whole: its bytes stay until it leaves."""
        body.whole = True
        self._wake()

    def leave(self, body: Body) -> None:
        """Its request is over."""
        self._bodies.pop(body, None)
        self._wake()

    async def turn(self, body: Body) -> None:
        """Until there is room to read more of it. Raises Problem, status 429, where that takes too long."""
        if self._may_read(body):
            return
        try:
            async with asyncio.timeout(self._seconds):
                while not self._may_read(body):
                    change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.append(change)
                    await change
        except TimeoutError:
            raise _crowded() from None

    def _may_read(self, body: Body) -> bool:
        taken, is_small = self.taken, body.length <= self._limit // SMALL_SHARE
        if body.length == 0 or taken < (2 * self._limit if is_small else self._limit):
            return True
        first = next(each for each in self._bodies if not each.whole)
        whole = sum(each.size for each in self._bodies if each.whole)
        return first is body and (whole == 0 or whole + body.length <= self._limit)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)


def _crowded() -> Problem:
    return Problem(
        429,
        "the server holds as many bytes of requests as it may; ask again a little later",
        code="too_many_bytes",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )
