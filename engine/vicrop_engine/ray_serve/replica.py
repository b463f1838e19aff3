"""One replica: an open engine and its scheduler, which answer what ingresses send."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import ray
from ray import serve

from vicrop_engine.engine import ViCropEngine
from vicrop_engine.errors import RequestError, ViCropError, WorkFailedError
from vicrop_engine.ray_serve.messages import Answered, Asked, Course, Refused, ReplicaFacts, TextSoFar
from vicrop_engine.ray_serve.settings import Plan
from vicrop_engine.server.ops.readiness import QUESTION, made_up_picture
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler

FAILURES = 3  # in a row, of the work and not of what was asked: as after a GPU's error that stays


class Replica:
    """An open engine behind its scheduler. Ray Serve makes it, watches it and lets it finish."""

    def __init__(self, plan: Plan) -> None:
        """Open the engine and answer once, so that a replica that takes requests is warm."""
        wanted = plan.scale
        self._engine = ViCropEngine.load(
            wanted.engine, threads=plan.threads, share_weights=wanted.share_weights
        )
        self._plan = plan
        self._scheduler = Scheduler(self._engine, plan.bounds)
        picture = made_up_picture(3 * self._engine.manifest.crop.window)
        self._scheduler.submit(picture, QUESTION).future.result()
        self._scheduler.forget()
        self._open: set[RequestHandle] = set()
        self._failures = 0

    async def ask(self, asked: Asked) -> AsyncIterator[TextSoFar | Answered | Refused]:
        """The wanted texts as they grow, and at last the answer or the error. Given up when cancelled."""
        events: asyncio.Queue[TextSoFar | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(event: TextSoFar | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        try:
            handle = await asyncio.to_thread(self._submit, asked, tell)
        except ViCropError as error:
            yield Refused.with_error(error)
            return
        self._open.add(handle)
        handle.future.add_done_callback(lambda _: tell(None))
        try:
            while (event := await events.get()) is not None:
                yield event
        finally:
            self._open.discard(handle)
            if not handle.future.done():
                handle.cancel()
        yield self._end(handle)

    async def facts(self) -> ReplicaFacts:
        """What the replica is and has done."""
        context, scheduler = serve.get_replica_context(), self._scheduler
        return ReplicaFacts(
            replica=context.replica_tag,
            process=os.getpid(),
            node=ray.get_runtime_context().get_node_id(),
            counters=self._engine.counters,
            running=scheduler.running,
            waiting=scheduler.waiting,
            kv_usage=scheduler.kv_usage,
        )

    async def check_health(self) -> None:
        """Raises WorkFailedError where only a new replica helps; Ray Serve asks every few seconds."""
        if self._failures >= FAILURES:
            raise WorkFailedError(f"the last {self._failures} requests failed while their graphs ran")
        for handle in list(self._open):
            late = handle.clock() - handle.deadline
            if late > self._plan.scale.stuck_seconds and not handle.future.done():
                raise WorkFailedError(f"a request has not ended {late:.0f} seconds after its deadline")

    def __del__(self) -> None:
        """Ray Serve is done with this replica, which has no request left."""
        if hasattr(self, "_scheduler"):
            self._scheduler.close(drain=False)

    def _submit(self, asked: Asked, tell: Callable[[TextSoFar], None]) -> RequestHandle:
        return self._scheduler.submit(
            asked.image,
            asked.question,
            asked.params,
            deadline=asked.deadline,
            on_first_answer=(lambda text: tell(TextSoFar(text, True))) if asked.hears_first_answer else None,
            on_answer=(lambda text: tell(TextSoFar(text, False))) if asked.hears_answer else None,
        )

    def _end(self, handle: RequestHandle) -> Answered | Refused:
        error = handle.future.exception()
        if isinstance(error, ViCropError):
            failed = isinstance(error, WorkFailedError) and not isinstance(error, RequestError)
            self._failures = self._failures + 1 if failed else self._failures
            return Refused.with_error(error)
        self._failures = 0
        return Answered(handle.future.result(), _course(handle))


def _course(handle: RequestHandle) -> Course:
    """What a handle tells of its way, in seconds that do not depend on this machine's clock."""

    def since(moment: float | None) -> float | None:
        return None if moment is None else moment - handle.arrived

    return Course(
        serve.get_replica_context().replica_tag,
        handle.counters,
        handle.shared,
        since(handle.began),
        since(handle.first_token),
    )
