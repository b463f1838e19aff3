"""Every error a user can meet, as a tree whose leaves say what happened.

Messages are one sentence: what was got, what was wanted, what to do next. Nothing here knows where an error
is shown.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Sequence

LONGEST_SHOWN = 80  # characters
_OUT_OF_MEMORY = re.compile(
    r"bad[_ ]alloc|failed to allocate|cannot allocate memory|out of memory|failed to map segment"
    r"|can't start new thread",
    re.IGNORECASE,
)
"""What ONNX Runtime, CUDA, the C library and Python's threads say when memory ran out."""
FEW = 5  # names: where one asks among so few, half alike is near
CLOSE, CLOSER = 0.5, 0.75  # of 1: how alike a name has to be among few names, and among many


class ViCropError(Exception):
    """The root: anything refused or failed at, with the exit status the command line gives it."""

    exit_code = 1


class BadInputError(ViCropError):
    """What the user gave cannot be used (exit status 2)."""

    exit_code = 2


class WorkFailedError(ViCropError):
    """The input was fine and the work failed (exit status 1)."""


class UnknownModelError(BadInputError):
    """A model name that is not in the table."""


class UnknownMethodError(BadInputError):
    """A localizer that does not exist."""


class LocalizerError(BadInputError):
    """A caller's own localizer that gave something that cannot be used."""


class LayerError(BadInputError):
    """A layer, or range of layers, the decoder does not have."""


class BoxError(BadInputError):
    """A crop box that is not inside the image."""


class SettingError(BadInputError):
    """A keyword or option with a value outside its list or range."""


class ImageError(BadInputError):
    """A picture that is missing, unreadable, damaged, too small or too large."""


class PictureTooLargeError(ImageError):
    """A picture whose pixels take more memory than this process has for pictures."""


class QuestionError(BadInputError):
    """A question that is empty, holds a special token, or does not fit the context."""


class ConfigError(BadInputError):
    """A JSON document with unknown, missing or mistyped keys."""


class BodyError(BadInputError):
    """A request's body that is not the JSON wanted."""


class ExamplesError(BadInputError):
    """A list of examples that cannot be read, or whose pictures are missing."""


class DatasetError(BadInputError):
    """A data set that cannot be found or read, or whose rows are not as they should be."""


class AnswersFileError(BadInputError):
    """A file of answers that another process writes, or that is none."""


class CheckpointError(BadInputError):
    """A checkpoint directory that cannot be read or is of another architecture."""


class EngineDirectoryError(BadInputError):
    """A path that is not an engine directory, or one of another schema."""


class SchemaError(SettingError):
    """A JSON schema that no answer can be held to."""


class ToolMissingError(BadInputError):
    """A method whose model was not built or given."""


class EngineDamagedError(BadInputError):
    """An engine directory whose files do not agree with its manifest."""


class ItemError(BadInputError):
    """An item of a batch that is no picture and question."""


class BatchError(ViCropError):
    """Some items of a batch failed; `results` holds an answer or an error for each, in order."""

    def __init__(self, results: Sequence[object]) -> None:
        errors = [result for result in results if isinstance(result, ViCropError)]
        super().__init__(f"{len(errors)} of {len(results)} items failed, the first with: {errors[0]}")
        self.results = list(results)
        self.exit_code = errors[0].exit_code

    def __reduce__(self) -> tuple[type[BatchError], tuple[list[object]]]:
        return type(self), (self.results,)  # made anew in another process, not of its sentence


class BuildError(WorkFailedError):
    """An export that did not finish."""


class ParityError(WorkFailedError):
    """Exported graphs that do not agree with the checkpoint."""


class RunError(WorkFailedError):
    """A graph that failed while it ran."""


class NotEnoughMemoryError(RunError):
    """Work that takes more memory than there is."""


class ProbeError(WorkFailedError):
    """An engine whose graphs give other numbers on this processor than where it was built."""


class AnswersDifferError(WorkFailedError):
    """Answers under load that are not those given one by one."""


class ProviderError(WorkFailedError):
    """An execution provider that is missing or fell back to another one."""


class RayMissingError(WorkFailedError):
    """Ray, which scale-out runs on, is not installed, or not all of it."""

    def __init__(self, what: str, missing: str | None) -> None:
        super().__init__(
            f"{what} needs {missing}, which is not installed; run pip install 'vicrop-engine[cpu,serve,ray]'"
        )
        self._of = what, missing

    def __reduce__(self) -> tuple[type[RayMissingError], tuple[str, str | None]]:
        return type(self), self._of


class DatasetsMissingError(WorkFailedError):
    """The library that benchmarks are read with is not installed."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs datasets, which is not installed; run pip install 'vicrop-engine[eval]'"
        )
        self._of = what

    def __reduce__(self) -> tuple[type[DatasetsMissingError], tuple[str]]:
        return type(self), (self._of,)


class NoSpaceError(WorkFailedError):
    """A disk that is full."""


class RequestError(WorkFailedError):
    """A request to a scheduler that got no answer, though nothing was wrong with it."""


class QueueFullError(RequestError):
    """Too many requests wait already; `retry_after` seconds from now there may be room."""

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"{waiting} requests are waiting already; ask again in {retry_after:.0f} seconds")
        self.waiting, self.retry_after = waiting, retry_after

    def __reduce__(self) -> tuple[type[QueueFullError], tuple[int, float]]:
        return type(self), (self.waiting, self.retry_after)


class DeadlineError(RequestError):
    """No answer within the time allowed."""


class RequestCancelledError(RequestError):
    """Whoever asked has gone, or took the request back."""


class ReplicaLostError(RequestError):
    """A request that was lost with every replica it was sent to."""


class ClosedError(RequestError):
    """A scheduler that takes no more requests."""


def not_enough_memory(what: str) -> NotEnoughMemoryError:
    """The error that says so; `what` is as in "to open the picture"."""
    return NotEnoughMemoryError(
        f"not enough memory {what}; give a smaller picture, ask under less load, or allow more memory"
    )


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library means that memory ran out."""
    if isinstance(error, ViCropError):
        return isinstance(error, NotEnoughMemoryError)  # others may quote what a user wrote
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint `; did you mean 'x'?` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=CLOSE)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest_key(name: str, known: Iterable[str]) -> str:
    """The same for a key of a document, only where it is close: among many keys one is always half alike."""
    names = {each.lower().replace("_", ""): each for each in known}
    plain = name.lower().replace("_", "").replace("-", "")
    close = difflib.get_close_matches(plain, names, n=1, cutoff=CLOSE if len(names) <= FEW else CLOSER)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def one_of(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence that refuses `name` as a `kind`, listing what is known and the nearest match."""
    names = list(known)
    return f"unknown {kind} {name!r}; known: {', '.join(names)}{nearest(name, names)}"


def shown(value: object) -> str:
    """A value of a caller's, short enough for a sentence."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
