"""Large pictures at once against a server that may use little memory: right or refused, and it lives.

    python scripts/under_a_memory_limit.py --mib 512 --megapixels 12 --waves 3 --json limit.json

The server runs in a control group of its own (v2 or v1, as root), else with a bound on its address space, and
the report says which and why. Answers are held against those that the engine gives without a limit, one
by one. Exit status 1 where one is wrong, where a request got neither an answer nor 429 (413 for a picture
that never fits), or where the server does not answer afterwards.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs as a file

from scripts.memory_group import MIB, memory_limit
from scripts.soak_server import ServerProcess
from vicrop_engine import ViCropEngine
from vicrop_engine.examples import demo_question
from vicrop_engine.serving.scheduler import Scheduler

FORMATS = ("JPEG", "PNG", "progressive JPEG", "PNG with alpha")
CLIENT_SECONDS = 300.0
NOISY_ROWS = 2500
OPTIONS = ("--waiting", "64")


@dataclass(frozen=True)
class Question:
    """A picture's file, what is asked about it, and the answer and crop box of an engine without a limit."""

    picture: bytes
    kind: str
    text: str
    right: tuple[str, list[int] | None]


@dataclass
class Report:
    """What came back, wave by wave: how many of each status, and what was wrong."""

    limit: str
    pictures: int
    megapixels: int
    waves: list[dict[str, int]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    alive: bool = False
    peak_mib: int | None = None
    kills: int | None = None

    @property
    def good(self) -> bool:
        """Whether nothing was wrong and the server answered at last."""
        return self.alive and not self.wrong


def made_picture(number: int, megapixels: int, kind: str) -> bytes:
    """A file of so many million pixels: the built-in picture with noise that is this number's own.

    The noise ends where a PNG would be larger than a server takes.
    """
    with Image.open(demo_question()[0]) as source:
        size = (4000, megapixels * 250)
        grown = np.asarray(source.convert("RGB").resize(size, Image.Resampling.BICUBIC)).copy()
    noise = np.random.default_rng(number)
    for row in range(0, min(size[1], NOISY_ROWS), 250):
        grown[row : row + 250] ^= noise.integers(0, 4, grown[row : row + 250].shape, np.uint8)
    image, file = Image.fromarray(grown), io.BytesIO()
    if kind.endswith("JPEG"):
        image.save(file, "JPEG", quality=85, progressive=kind.startswith("progressive"))
    else:
        image = image.convert("RGBA") if kind.endswith("alpha") else image
        image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def questions(count: int, megapixels: int, kinds: tuple[str, ...]) -> list[Question]:
    """So many different pictures, with the answers of an engine that has all the memory there is."""
    text, made = demo_question()[1]["question"], []
    with Scheduler(ViCropEngine.load("llava-signs")) as scheduler:
        for number in range(count):
            kind = kinds[number % len(kinds)]
            picture = made_picture(number, megapixels, kind)
            answer = scheduler.submit(picture, text).future.result()
            scheduler.forget()
            right = answer.answer, None if answer.crop_box is None else list(answer.crop_box)
            made.append(Question(picture, kind, text, right))
    return made


def ask(port: int, question: Question) -> tuple[int, str | None]:
    """The status, 0 without one, and what is wrong with what came."""
    url = f"data:image/png;base64,{base64.b64encode(question.picture).decode()}"
    parts = [{"type": "text", "text": question.text}, {"type": "image_url", "image_url": {"url": url}}]
    document = {"messages": [{"role": "user", "content": parts}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(document).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=CLIENT_SECONDS) as answer:
            return 200, _difference(json.loads(answer.read()), question)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")[:200]
        clear = error.code == 413 or (error.code == 429 and error.headers["Retry-After"])
        return error.code, None if clear else f"{question.kind}: status {error.code} {said}"
    except OSError as error:
        return 0, f"{question.kind}: no answer ({error})"


def _difference(document: dict[str, Any], question: Question) -> str | None:
    got = document["choices"][0]["message"]["content"], document["vicrop"]["crop_box"]
    return None if got == question.right else f"{question.kind}: got {got}, wanted {question.right}"


def under_limit(limit: int, asked: list[Question], waves: int, megapixels: int) -> Report:
    """Ask all of them at once, wave after wave, of a server that may use `limit` bytes."""
    with tempfile.TemporaryDirectory() as folder, memory_limit(limit) as bound:
        report = Report(f"{limit // MIB} MiB by {bound.kind}", len(asked), megapixels)
        with ServerProcess(Path(folder) / "log", OPTIONS, bound.command) as server:
            for _ in range(waves):
                began = time.monotonic()
                _wave(server, asked, report)
                report.seconds.append(round(time.monotonic() - began, 1))
            report.alive = server.is_running and _answers(server)
            report.peak_mib = None if bound.peak is None else bound.peak // MIB
            report.kills = bound.kills
    return report


def _wave(server: ServerProcess, asked: list[Question], report: Report) -> None:
    results: list[tuple[int, str | None]] = []

    def one(question: Question) -> None:
        results.append(ask(server.port, question))

    threads = [threading.Thread(target=one, args=(question,)) for question in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report.waves.append({str(status): count for status, count in Counter(s for s, _ in results).items()})
    report.wrong += [wrong for _, wrong in results if wrong]


def _answers(server: ServerProcess) -> bool:
    """Whether a small question is answered, and rightly."""
    path, example = demo_question()
    status, wrong = ask(
        server.port, Question(path.read_bytes(), "the built-in", example["question"], ("", None))
    )
    return status == 200 and f"got ('{example['answer']}'" in str(wrong)


def main() -> int:
    """Run it and print the report; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=512, help="bytes that the server may use, in MiB")
    parser.add_argument("--pictures", type=int, default=16, help="pictures at once")
    parser.add_argument("--megapixels", type=int, default=12, help="million pixels of each")
    parser.add_argument("--waves", type=int, default=1, help="times that all are asked about")
    parser.add_argument("--kinds", nargs="+", default=FORMATS[:2], choices=FORMATS, help="files, in turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    options = parser.parse_args()
    asked = questions(options.pictures, options.megapixels, tuple(options.kinds))
    report = under_limit(options.mib * MIB, asked, options.waves, options.megapixels)
    document = json.dumps(asdict(report), indent=1)
    print(document)
    if options.json is not None:
        options.json.write_text(document + "\n", encoding="utf-8")
    return 0 if report.good else 1


if __name__ == "__main__":
    raise SystemExit(main())
