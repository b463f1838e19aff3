"""The work on one question about one picture, for all who ask just that at the same time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import InvalidStateError
from dataclasses import dataclass, field, replace

from vicrop_engine.errors import RequestError
from vicrop_engine.images.cache import Source
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.params import AskParams
from vicrop_engine.vicrop.request import Request

OnText = Callable[[str], None]


@dataclass(frozen=True)
class Subscriber:
    """A handle and who hears its first and its final answer as they grow."""

    handle: RequestHandle
    on_first_answer: OnText | None
    on_answer: OnText | None

    def tell(self, listener: OnText | None, text: str) -> None:
        """Tell one of the two. A listener that fails ends its own request, and no other."""
        self.handle.mark_token()
        if listener is None:
            return
        try:
            listener(text)
        except Exception as error:
            _fail(self.handle, error)
            self.handle.cancel()


@dataclass(eq=False)
class Job:
    """A question about a picture, `tiles` of it to be looked at; `slack` seconds others may go first.

    `picture_bytes` is what its picture takes at most while it is decoded, and once it is, what it holds:
    then `on_room` is called. It goes on while one of its subscribers wants it.
    """

    source: Source
    question: str
    params: AskParams
    request: Request
    key: Hashable
    tiles: int
    slack: float
    subscribers: list[Subscriber]
    picture_bytes: int = 0
    on_room: Callable[[], object] | None = None
    first_text: str = ""
    final_text: str = ""
    alarm: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_done: bool = False

    def __post_init__(self) -> None:
        for subscriber in self.subscribers:
            subscriber.handle.on_cancel(self.alarm.set)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the next of its subscribers has waited too long."""
        left = [each.handle.seconds_left for each in list(self.subscribers) if not each.handle.future.done()]
        return min(left, default=None)

    @property
    def first(self) -> RequestHandle:
        """The handle that came first, whose counters are the work's."""
        return self.subscribers[0].handle

    @property
    def place(self) -> tuple[float, int]:
        """Whose is lower goes first."""
        return self.first.arrived + self.slack, self.first.number

    @property
    def is_heavy(self) -> bool:
        """Whether its picture is looked at in tiles."""
        return self.tiles > 1

    def hold(self, num_bytes: int) -> None:
        """From now on its picture takes so many bytes, if that is less than before."""
        if num_bytes < self.picture_bytes:
            self.picture_bytes = num_bytes
            if self.on_room is not None:
                self.on_room()

    def let_go(self) -> None:
        """Of the picture: the work is over, and whoever has its error may have the job with it."""
        self.source = replace(self.source, content=b"")

    def join(self, subscriber: Subscriber) -> bool:
        """Let one more ask the same; False when it is too late for that."""
        with self._lock:
            if self._is_done:
                return False
            subscriber.handle.shared = True
            subscriber.handle.began = self.first.began
            self.subscribers.append(subscriber)
        subscriber.handle.on_cancel(self.alarm.set)
        self.alarm.set()  # it may have less time than the others
        for on_text, text in (
            (subscriber.on_first_answer, self.first_text),
            (subscriber.on_answer, self.final_text),
        ):
            if text:
                subscriber.tell(on_text, text)
        return True

    def begin(self) -> None:
        """Work on it begins."""
        for subscriber in self.subscribers:
            subscriber.handle.began = subscriber.handle.clock()

    @property
    def ended(self) -> RequestError | None:
        """Why going on makes no sense, if nobody wants it any more; subscribers who do not are told."""
        with self._lock:
            reasons = [(subscriber.handle, subscriber.handle.ended) for subscriber in self.subscribers]
            for handle, reason in reasons:
                if reason is not None:
                    _fail(handle, reason)
            self._is_done = self._is_done or all(reason is not None for _, reason in reasons)
            return reasons[0][1] if self._is_done else None

    def check(self) -> None:
        """Raises RequestCancelledError or DeadlineError when nobody wants it any more."""
        ended = self.ended
        if ended is not None:
            raise ended

    def tell_first(self, text: str) -> None:
        """The first answer has grown."""
        if text != self.first_text:
            self.first_text = text
            for subscriber in list(self.subscribers):
                subscriber.tell(subscriber.on_first_answer, text)

    def tell_final(self, text: str) -> None:
        """The final answer has grown."""
        if text != self.final_text:
            self.final_text = text
            for subscriber in list(self.subscribers):
                subscriber.tell(subscriber.on_answer, text)

    def finish(self, answer: Answer | None, error: Exception | None = None) -> None:
        """Give all subscribers the answer, or the error."""
        if answer is not None:
            self.tell_final(answer.answer)
        with self._lock:
            self._is_done = True
        for subscriber in self.subscribers:
            if error is not None:
                _fail(subscriber.handle, error)
            elif answer is not None:
                with contextlib.suppress(InvalidStateError):
                    subscriber.handle.future.set_result(answer)


def _fail(handle: RequestHandle, error: Exception) -> None:
    with contextlib.suppress(InvalidStateError):
        handle.future.set_exception(error)
