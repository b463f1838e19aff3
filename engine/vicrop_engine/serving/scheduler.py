"""Takes requests, bounds how many wait and run, and has them answered, several at a time, small ones first.

What a request's answer is does not depend on the others.
"""

from __future__ import annotations

import itertools
import math
import threading
import traceback
from collections.abc import Hashable
from typing import Unpack

from vicrop_engine.errors import (
    ClosedError,
    PictureTooLargeError,
    QueueFullError,
    RunError,
    ViCropError,
    not_enough_memory,
    ran_out_of_memory,
)
from vicrop_engine.images.cache import Source, source_of
from vicrop_engine.images.picture import ImageInput
from vicrop_engine.images.preprocessing import processor_bytes
from vicrop_engine.serving.executor import Engine, executor_for, request_tally
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.job import Job, OnText, Subscriber
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_engine.vicrop.params import AskKeywords, AskParams
from vicrop_engine.vicrop.planning import plan_request
from vicrop_engine.vicrop.request import Request
from vicrop_engine.vicrop.text_alone import TEXT_ALONE, plan_text

SMOOTH = 0.1  # share of the newest request in what is usual


class Scheduler:
    """Requests to one engine, several at a time. `close` it, or use it in a `with`."""

    def __init__(self, engine: Engine, settings: SchedulerSettings | None = None) -> None:
        self.engine = engine
        self.settings = (settings or SchedulerSettings()).fitted(engine.model.manifest)
        self._work = executor_for(engine, self.settings)
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._in_flight: dict[Hashable, Job] = {}
        self._usual = 0.0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"request-{number}", daemon=True)
            for number in range(self.settings.num_running)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> int:
        """Requests under way."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests accepted and not begun."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the KV arena that answers being decoded use, 0 to 1."""
        return self._work.kv_usage

    @property
    def retry_after(self) -> float:
        """Whole seconds after which there is likely room again."""
        return max(1.0, math.ceil(self.waiting * self._usual / self.settings.workers))

    def submit(
        self,
        image: ImageInput | None,
        question: str,
        params: AskParams | None = None,
        *,
        deadline: float | None = None,
        on_first_answer: OnText | None = None,
        on_answer: OnText | None = None,
        **settings: Unpack[AskKeywords],
    ) -> RequestHandle:
        """Accept a request with `params`, else with `settings` by name; `deadline` is seconds from now.

        Without an `image` the language model answers by itself, see vicrop/text_alone.py. `on_first_answer`
        and `on_answer` hear the texts as they grow, on threads of the scheduler. Whatever
        is wrong with the request itself ends the handle's future. Raises QueueFullError when too many wait,
        and ClosedError.
        """
        tally = request_tally(self.engine.model)
        handle = RequestHandle(next(self._numbers), deadline or self.settings.deadline, tally)
        subscriber = Subscriber(handle, on_first_answer, on_answer)
        try:
            job = self._plan(subscriber, image, question, params or AskParams.of(settings))
        except ViCropError as error:
            handle.future.set_exception(error.with_traceback(None))  # its frames hold the handle and picture
            return handle
        with self._changed:
            if self._closed:
                raise ClosedError("the scheduler is closing and takes no more requests; ask another one")
            same = self._in_flight.get(job.key)
            if same is not None and same.join(subscriber):
                return handle
            if len(self._waiting) >= self.settings.waiting:
                raise QueueFullError(len(self._waiting), self.retry_after)
            self._waiting.append(job)
            self._in_flight[job.key] = job
            self._changed.notify_all()
        return handle

    def forget(self) -> None:
        """Let go of what is kept of pictures, as if none had been asked about."""
        self._work.forget()

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests; with `drain` finish those accepted, else cancel them."""
        with self._changed:
            self._closed = True
            for job in () if drain else (*self._waiting, *self._running):
                for subscriber in job.subscribers:
                    subscriber.handle.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._work.close()

    def _plan(
        self, subscriber: Subscriber, image: ImageInput | None, question: str, params: AskParams
    ) -> Job:
        if image is None:
            source, request = TEXT_ALONE, plan_text(self.engine.model, question, params)
        else:
            request = plan_request(self.engine.model, question, params, side_by_side=False)
            source = source_of(image)
        tiles = request.tiles(source.size)
        count = 1 if tiles is None else len(tiles.boxes)
        key: Hashable = (source.digest, question, repr(params), id(params.method))
        slack = 2 * (count - 1) * self._usual
        taken = self._picture_bytes(source, request)
        return Job(
            source, question, params, request, key, count, slack, [subscriber], taken, self._look_again
        )

    def _picture_bytes(self, source: Source, request: Request) -> int:
        """What the picture takes at most. Raises PictureTooLargeError where there is never room for it."""
        taken = source.decoding_bytes
        if taken and request.compat:
            taken += processor_bytes(source.size, self.engine.model.preprocessing)
        if taken > self.settings.room_alone:
            (width, height), room = source.size, self.settings.room_alone
            raise PictureTooLargeError(
                f"{source.name} of {width} x {height} pixels takes about {taken / 1e6:.0f} MB to decode and "
                f"there is room for {room / 1e6:.0f} MB; give a smaller one, or allow more memory"
            )
        return taken

    def _look_again(self) -> None:
        """There may be room for one more."""
        with self._changed:
            self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next() or (self._closed and not self._waiting))
                job = self._next()
                if job is None:
                    return
                self._waiting.remove(job)
                self._running.append(job)
            self._answer(job)
            with self._changed:
                self._running.remove(job)
                if self._in_flight.get(job.key) is job:
                    del self._in_flight[job.key]
                self._changed.notify_all()

    def _next(self) -> Job | None:
        """The most urgent job that may begin: no more than half of those running are heavy.

        None while there is no room for its picture: were others let past it, it might wait for ever.
        """
        heavy = sum(job.is_heavy for job in self._running)
        room = heavy < max(1, self.settings.num_running // 2)
        job = min((job for job in self._waiting if room or not job.is_heavy), key=_place, default=None)
        taken = sum(each.picture_bytes for each in self._running)
        if job is None or not taken or taken + job.picture_bytes <= self.settings.room:
            return job
        return None

    def _answer(self, job: Job) -> None:
        job.begin()
        began = job.first.clock()
        try:
            job.check()
            answer = self._work.answer(job)
        except ViCropError as error:
            traceback.clear_frames(error.__traceback__)  # which hold the pixels as long as the error lives
            job.finish(None, error)
        except Exception as error:  # a fault of ours ends this request alone
            traceback.clear_frames(error.__traceback__)
            wrapped = _wrapped(error)
            wrapped.__cause__ = error
            job.finish(None, wrapped)
        else:
            seconds = (job.first.clock() - began) / job.tiles
            self._usual += SMOOTH * (seconds - self._usual) if self._usual else seconds
            job.finish(answer)
        job.let_go()


def _place(job: Job) -> tuple[float, int]:
    return job.place


def _wrapped(error: Exception) -> RunError:
    if ran_out_of_memory(error):
        return not_enough_memory("for this request")
    return RunError(f"the request could not be answered ({type(error).__name__}); report this")
