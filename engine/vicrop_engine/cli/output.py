"""What the command line writes: results to standard output, everything else to standard error.

Knows the shape of an answer, not how it was found.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypedDict

from vicrop_engine.errors import SettingError

if TYPE_CHECKING:
    from PIL import Image

    from vicrop_engine.engine_dir.registry import Progress
    from vicrop_engine.vicrop.answer import Answer


def print_json(document: dict[str, Any]) -> None:
    """The one JSON document of a run, on standard output; escaped where that takes no other characters."""
    print(json.dumps(document, ensure_ascii=not takes_unicode(sys.stdout), allow_nan=False))


def takes_unicode(stream: TextIO) -> bool:
    """Whether every character can be written there."""
    return str(getattr(stream, "encoding", "") or "").lower().replace("-", "").startswith("utf")


def show_all_characters() -> None:
    """Let no answer be lost to a terminal's encoding: what it lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not takes_unicode(stream):
            stream.reconfigure(errors="backslashreplace")


def print_facts(facts: dict[str, str]) -> None:
    """Aligned `name  value` lines on standard output."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}".rstrip())


def notice(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr)


def send_log_to_stderr() -> None:
    """Show the package's warnings as plain lines on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("vicrop_engine")
    logger.handlers = [handler]
    logger.propagate = False


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A bar on standard error that appears with the first report.

    Off a terminal it is one line a stage, and one more for every twentieth of the work within it.
    """
    if not sys.stderr.isatty():
        yield _stage_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda stage, share: bar.update(task, description=stage, completed=share)


def _stage_lines() -> Progress:
    seen = set()

    def report(stage: str, share: float) -> None:
        said = stage.partition(",")[0], int(share * 20)
        if said not in seen:
            seen.add(said)
            notice(f"{share:4.0%}  {stage}")

    return report


@contextmanager
def first_answer_shown() -> Iterator[Callable[[str], None] | None]:
    """Shows the answer without crop on standard error as it grows; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("looking at the picture") as status:
        yield lambda text: status.update(Text(f"without the crop: {text}"))


def answer_facts(answer: Answer) -> dict[str, str]:
    """The lines `ask` and `demo` print."""
    facts = {"answer": answer.answer or "(empty)"}
    width, height = answer.image_size
    if answer.crop_box is not None:
        if answer.answer_without_crop is not None:
            facts["answer without crop"] = answer.answer_without_crop or "(empty)"
        facts["crop box"] = f"{', '.join(map(str, answer.crop_box))} of {width} x {height} pixels"
    if answer.crop_skipped:
        facts["crop"] = "skipped: it was unlikely to change the answer"
    facts["method"] = method_line(answer)
    if answer.target is not None:
        facts["looked for"] = f"{answer.target} ({answer.target_from})"
    facts["confidence"] = f"{answer.confidence:.0%}"
    facts["seconds"] = f"{answer.timings['total']:.2f}"
    return facts


def method_line(answer: Answer) -> str:
    """The method and, where it read some, its layers, and of how many tiles its heatmap is."""
    parts = [answer.method]
    if answer.layers:
        numbers = ", ".join(map(str, answer.layers))
        parts.append(f"layer{'s' if len(answer.layers) > 1 else ''} {numbers}")
    if answer.high_res:
        parts.append(f"high-res in {len(answer.tiles)} tile{'s' if len(answer.tiles) > 1 else ''}")
    return ", ".join(parts)


def check_output_path(path: Path, what: str, suffix: str, *inputs: str | os.PathLike[str] | None) -> None:
    """Refuse, before any work, a place where a file cannot be written, or where one of the `inputs` lies."""
    if path.suffix.lower() != suffix:
        raise SettingError(f"got {path} for the {what}, wanted a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise SettingError(f"{path.parent} is not a directory; make it before writing {path.name} there")
    if path.is_dir():
        raise SettingError(f"{path} is a directory, wanted a name for the {what}'s file")
    if (path.parent / "manifest.json").is_file():
        raise SettingError(
            f"{path.parent} is an engine directory, which holds its own files; write elsewhere"
        )
    if any(same_file(path, each) for each in inputs if each is not None):
        raise SettingError(f"{path} is what the command reads; give the {what} another name")


def pictures_of(examples: Path | None) -> list[Path]:
    """The list of examples and its pictures: what an output must not lie over. Raises ExamplesError."""
    if examples is None:
        return []
    from vicrop_engine.examples import read_examples

    return [examples, *{picture for picture, _ in read_examples(examples)}]


def same_file(one: Path, other: str | os.PathLike[str]) -> bool:
    """Whether two names are of one file, by whatever way they lead there."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return one.resolve() == Path(other).resolve()


def save_png(image: Image.Image, path: Path) -> None:
    """Write the picture; a failed write leaves nothing."""
    with _whole_file(path) as partial:
        image.save(partial, format="PNG", optimize=False)


def write_overlay(path: Path, image: Image.Image, question: str, answer: Answer) -> None:
    """Draw what an answer looked at and write it as a PNG."""
    from vicrop_engine.drawing.overlay import Scene, render_overlay

    scene = Scene(
        image,
        question,
        answer.answer,
        answer.answer_without_crop,
        answer.crop_box,
        answer.heatmap,
        answer.heatmap_box,
        caption=f"{method_line(answer)}.",
        tiles=answer.tiles,
        crop_parts=answer.crop_parts,
    )
    save_png(render_overlay(scene), path)


def save_text(text: str, path: Path) -> None:
    """Write the text; a failed write leaves nothing."""
    with _whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def save_heatmap(answer: Answer, path: Path) -> None:
    """Write the heatmap as NumPy's float32 [rows, cols], or say that there is none."""
    if answer.heatmap is None:
        notice(f"{path} is not written: {answer.method} made no heatmap of this picture")
        return
    import numpy as np

    with _whole_file(path) as partial, partial.open("wb") as file:
        np.save(file, answer.heatmap, allow_pickle=False)


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """Another name to write under, renamed to `path` when all went well."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def describe_os_error(error: OSError) -> str:
    """An operating system error as a sentence."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}no space left on the device; free some and run it again"
    return f"{where}{error.strerror or error}; check the path and its permissions"


class Place(TypedDict, total=False):
    """Where to load an engine; what is missing stays with the engine's own."""

    provider: str
    device: int


def parse_device(text: str | None) -> Place:
    """The keywords of `load` for a GPU's number or "cpu". Raises SettingError for anything else."""
    if text is None:
        return {}
    if text == "cpu":
        return {"provider": text}
    if not text.isdecimal():
        raise SettingError(f"got device {text!r}, wanted the number of a GPU from 0 up, or cpu")
    return {"device": int(text)}


def parse_box(text: str) -> tuple[int, int, int, int]:
    """`x0,y0,x1,y1` as four integers. Raises SettingError."""
    try:
        x0, y0, x1, y1 = (int(part) for part in text.split(","))
    except ValueError:
        raise SettingError(f"--box got {text!r}, wanted four whole numbers x0,y0,x1,y1") from None
    return x0, y0, x1, y1
