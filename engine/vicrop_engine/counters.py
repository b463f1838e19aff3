"""What an engine has run so far, so that tests and users can see what was reused, and when each graph ran."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass


@dataclass(frozen=True)
class Counters:
    """Totals since loading; passes and tokens include decode steps, and upper tokens went through lower too.

    A pass reads the weights of its graph once. Shared steps are passes with the next tokens of several
    answers that do not share a prefix. Moves are prefixes that were given larger KV buffers. A pixel
    gradient pass goes through the whole model and back to the pixels, with a gradient for each prompt.
    Instructed passes are of one picture and instruction through the vision part's second stage, its
    gradients of a prompt through that and the decoder and back. Uploads and copies are tensors that go to a
    device and come back, of engines for one.
    """

    vision_passes: int = 0
    vision_images: int = 0
    vision_hits: int = 0
    instructed_passes: int = 0
    instructed_hits: int = 0
    instructed_gradients: int = 0
    prefix_prefills: int = 0
    prefix_hits: int = 0
    prefix_moves: int = 0
    general_prefills: int = 0
    general_hits: int = 0
    lower_passes: int = 0
    upper_passes: int = 0
    lower_tokens: int = 0
    upper_tokens: int = 0
    decode_steps: int = 0
    shared_steps: int = 0
    gradient_passes: int = 0
    pixel_gradient_passes: int = 0
    pixel_gradient_tokens: int = 0
    pixel_gradients: int = 0
    uploads: int = 0
    host_copies: int = 0
    host_bytes: int = 0


NOT_WATCHED = nullcontext()  # can be entered any number of times


@dataclass(frozen=True)
class GraphRun:
    """One run of `graphs`, one after the other: sizes of their axes, and the clock's seconds around it.

    `prefix_tokens` of the new tokens were an image prefix's.
    """

    graphs: tuple[str, ...]
    axes: dict[str, int]
    prefix_tokens: int
    start: float
    end: float


class Tally:
    """The running totals behind `Counters`.

    Time is read from `clock`. While `runs` is a list every run of a graph is added to it: see `watching`.
    What is added here is added to `whole` too, of which this is a part. Threads may add at the same time.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, whole: Tally | None = None) -> None:
        self._totals = dataclasses.asdict(Counters())
        self._lock = threading.Lock()
        self._whole = whole
        self.clock = clock
        self.runs: list[GraphRun] | None = None

    def add(self, **amounts: int) -> None:
        """Add to the named counters. Raises KeyError for a name there is not."""
        self.add_own(**amounts)
        if self._whole is not None:
            self._whole.add(**amounts)

    def add_own(self, **amounts: int) -> None:
        """Add here alone: the share of something that the whole counts once."""
        with self._lock:
            for name, amount in amounts.items():
                self._totals[name] += amount

    def running(self, *graphs: str, prefix_tokens: int = 0, **axes: int) -> AbstractContextManager[object]:
        """The run of these graphs with axes of these sizes is what is done inside."""
        if self.runs is None:
            return NOT_WATCHED
        return self._noted(self.runs, graphs, axes, prefix_tokens)

    @contextmanager
    def _noted(
        self, runs: list[GraphRun], graphs: tuple[str, ...], axes: dict[str, int], prefix_tokens: int
    ) -> Iterator[None]:
        start = self.clock()
        yield
        runs.append(GraphRun(graphs, axes, prefix_tokens, start, self.clock()))

    @contextmanager
    def watching(self) -> Iterator[list[GraphRun]]:
        """The runs of graphs made inside, in order."""
        runs: list[GraphRun] = []
        self.runs = runs
        try:
            yield runs
        finally:
            self.runs = None

    def snapshot(self) -> Counters:
        """The totals as they are now."""
        with self._lock:
            return Counters(**self._totals)
