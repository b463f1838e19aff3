"""A scheduler whose work is done by replicas: the calls of `serving.scheduler`, behind a Serve handle.

A picture goes to the replica that has its prefix, and a request whose replica was lost is sent again: a
request changes nothing, so that asking twice gives the same answer.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from vicrop_engine.builder import resolve
from vicrop_engine.engine_dir.manifest import Manifest, read_manifest
from vicrop_engine.errors import (
    ClosedError,
    QueueFullError,
    ReplicaLostError,
    RequestCancelledError,
    ViCropError,
    WorkFailedError,
)
from vicrop_engine.images.picture import ImageInput
from vicrop_engine.ray_serve.messages import Answered, Asked, Refused, ReplicaFacts, image_key, portable
from vicrop_engine.ray_serve.remote_handle import Hearer, RemoteHandle
from vicrop_engine.ray_serve.settings import Plan
from vicrop_engine.vicrop.params import AskKeywords, AskParams

LOST = (
    *(RayActorError, NodeDiedError, ObjectLostError, WorkerCrashedError),
    *(
        TaskCancelledError,
        ReplicaUnavailableError,
        ClosedError,
        RequestCancelledError,
    ),  # with one made to stop
)
PAUSE = 0.1  # seconds before a request is sent once more, that many times as often as it was sent
RETRY_AFTER = 1.0
PATIENCE = 2.0  # seconds for what is only asked after, and for a replica to say itself that it is too late
HearText = Callable[[str], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteModel:
    """What is known here of the replicas' model."""

    manifest: Manifest


@dataclass(frozen=True)
class RemoteEngine:
    """The engine that the replicas have open."""

    model: RemoteModel


class RemoteScheduler:
    """Requests to the replicas behind `handle`. `close` it, or use it in a `with`."""

    def __init__(self, handle: DeploymentHandle[Any], plan: Plan) -> None:
        self._handle, self._plan = handle, plan
        self.engine = RemoteEngine(RemoteModel(read_manifest(resolve(plan.scale.engine))))
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._open = 0
        self._closed = False
        self._resent = 0
        self._observing = threading.Lock()
        self._seen: tuple[float, list[ReplicaFacts]] = -math.inf, []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="remote-scheduler", daemon=True)
        self._thread.start()

    def __enter__(self) -> RemoteScheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> int:
        """Requests under way in replicas, as they were a moment ago."""
        return min(self._open, sum(replica.running for replica in self._observed()))

    @property
    def waiting(self) -> int:
        """Requests accepted and not begun."""
        return self._open - self.running

    @property
    def kv_usage(self) -> float:
        """Share of the replicas' KV slots in use, 0 to 1, as it was a moment ago."""
        usages = [replica.kv_usage for replica in self._observed()]
        return sum(usages) / max(1, len(usages))

    @property
    def resent(self) -> int:
        """How often a request was sent again because its replica was lost."""
        return self._resent

    def submit(
        self,
        image: ImageInput | None,
        question: str,
        params: AskParams | None = None,
        *,
        deadline: float | None = None,
        on_first_answer: HearText | None = None,
        on_answer: HearText | None = None,
        **settings: Unpack[AskKeywords],
    ) -> RemoteHandle:
        """As `Scheduler.submit`; the callbacks are called on a thread of this scheduler.

        Beyond its errors the handle's future ends with QueueFullError where too many wait for a replica, and
        with ReplicaLostError where every replica it was sent to was lost.
        """
        handle = RemoteHandle(next(self._numbers), deadline or self._plan.scheduler.deadline)
        try:
            asked = params or AskParams.of(settings)
        except ViCropError as error:
            handle.future.set_exception(error)
            return handle
        texts = Hearer(on_first_answer, handle), Hearer(on_answer, handle)
        with self._changed:
            if self._closed:
                raise ClosedError("the scheduler is closing and takes no more requests")
            self._open += 1
        work = self._follow(handle, image, question, asked, texts)
        following = asyncio.run_coroutine_threadsafe(work, self._loop)
        following.add_done_callback(partial(self._end, handle))
        handle.on_cancel(following.cancel)
        return handle

    def facts(self) -> list[ReplicaFacts]:
        """What each replica is and has done; those that do not say so within a few seconds are left out."""
        found = self._handle.broadcast("facts").results(timeout_s=PATIENCE, return_exceptions=True)
        return [one for one in found if isinstance(one, ReplicaFacts)]

    def _observed(self) -> list[ReplicaFacts]:
        """The replicas as they are, asked at most once a second."""
        with self._observing:
            moment, found = self._seen
            if time.monotonic() - moment > 1.0:
                found = self.facts()
                self._seen = time.monotonic(), found
            return found

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests; with `drain` wait for those accepted, else give them up."""
        with self._changed:
            self._closed = True
            if drain:
                self._changed.wait_for(lambda: not self._open)
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _follow(
        self,
        handle: RemoteHandle,
        image: ImageInput | None,
        question: str,
        params: AskParams,
        texts: tuple[Hearer, Hearer],
    ) -> None:
        """The whole of a request, sent as often as it takes. Raises what is to end the handle."""
        picture = None if image is None else portable(image)
        session = image_key(question.encode() if picture is None else picture)
        deployment = self._handle.options(stream=True, session_id=session)
        first, final = texts
        try:
            async with asyncio.timeout(handle.deadline - handle.clock() + PATIENCE):
                while True:
                    handle.check()
                    left = handle.deadline - handle.clock()
                    asked = Asked(picture, question, params, left, first.wanted, final.wanted)
                    try:
                        return await _send(deployment, asked, handle, texts)
                    except LOST as error:
                        await self._before_sending_again(handle, error)
        except TimeoutError:
            handle.check()
            raise
        except BackPressureError as error:
            raise QueueFullError(self._plan.scale.queued, RETRY_AFTER) from error

    async def _before_sending_again(self, handle: RemoteHandle, error: Exception) -> None:
        """Wait a little for the router to know. Raises ReplicaLostError after enough of them."""
        if handle.sent >= self._plan.scale.attempts:
            raise ReplicaLostError(
                f"the request was lost with its replica {handle.sent} times; give the replicas more memory, "
                "or leave it out if others fare well"
            ) from error
        self._resent += 1
        logger.warning(
            "request %d lost its replica and is sent again (%s)", handle.number, type(error).__name__
        )
        await asyncio.sleep(PAUSE * handle.sent)

    def _end(self, handle: RemoteHandle, following: Future[None]) -> None:
        """Whatever became of the coroutine, the handle's future is done."""
        if following.cancelled():
            error: BaseException | None = RequestCancelledError("the request was cancelled")
        else:
            error = following.exception()
        if error is not None and not handle.future.done():
            handle.future.set_exception(_known(error))
        with self._changed:
            self._open -= 1
            self._changed.notify_all()


async def _send(
    deployment: DeploymentHandle[Any], asked: Asked, handle: RemoteHandle, texts: tuple[Hearer, Hearer]
) -> None:
    """Send the request to the picture's replica and hear it out. Raises the error it ended with, or LOST."""
    handle.sent += 1
    sent = handle.clock()
    events: Any = deployment.ask.remote(asked)
    first, final = texts
    try:
        async for event in events:
            if isinstance(event, Refused):
                raise event.error()
            if isinstance(event, Answered):
                return handle.finish(event, sent)
            (first if event.first else final).tell(event.text)
    except BaseException:
        events.cancel()
        raise
    raise WorkFailedError("a replica ended a request without an answer; report it")


def _known(error: BaseException) -> ViCropError:
    """What to tell of an error that ended a request."""
    if isinstance(error, ViCropError):
        return error
    logger.error("a request failed unexpectedly", exc_info=error)
    return WorkFailedError(f"unexpected {type(error).__name__} in a replica; see its log and report it")


async def _cancel_all() -> None:
    """Cancel what else runs in this loop, and wait until it has ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
