"""How much faster `eval` answers with several questions in flight than one by one: the same, by one engine.

    python benchmarks/eval_throughput.py [--questions 500] [--running 8] [--methods none rel-att] [--runs 3]

Pictures are drawn from the signs world and asked about every sign, as the built-in list does. One by one is
what `ask` does, with all it keeps of a picture, and once more with nothing kept between questions, which is
what the figures of docs/serving-bench.md are held against. Runs take turns, the engine forgets between them,
and nothing is reported unless all ways write the same file of answers.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.signs_eval import draw_cases, question_for
from vicrop_engine import ViCropEngine
from vicrop_engine.builder import resolve
from vicrop_engine.evaluation.asking import Asking, OneByOne, PictureOf, Scheduled
from vicrop_engine.evaluation.benchmarks.table import find_benchmark
from vicrop_engine.evaluation.plan import Plan, Task
from vicrop_engine.evaluation.reply import Reply
from vicrop_engine.evaluation.session import ask_all, make_plan, opened_files
from vicrop_engine.evaluation.settings import EvalSettings

SEED = 4


class Forgetting(OneByOne):
    """One by one, with everything kept of pictures thrown away before each question."""

    def __init__(self, engine: ViCropEngine) -> None:
        super().__init__(engine)
        self._opened = engine

    def replies(self, tasks: Iterable[Task], picture: PictureOf) -> Iterator[tuple[Task, Reply]]:
        """In the order of the tasks."""
        for task in tasks:
            self._opened.forget()
            yield from super().replies([task], picture)


def write_list(folder: Path, count: int, input_side: int) -> Path:
    """So many questions about drawn pictures, every sign of each, as lines of JSON beside the pictures."""
    lines: list[dict[str, str]] = []
    for number, case in enumerate(draw_cases(SEED, count, input_side)):
        file = io.BytesIO()
        case.picture.save(file, format="JPEG", quality=92)
        (folder / f"{number}.jpg").write_bytes(file.getvalue())
        lines += [
            {"image": f"{number}.jpg", "question": question_for(case.scene, sign), "answer": sign.text}
            for sign in case.scene.signs
        ]
        if len(lines) >= count:
            break
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:count]), encoding="utf-8")
    return path


def timed(plan: Plan, asking: Asking, out: Path) -> tuple[float, bytes]:
    """Seconds to answer everything, and the file of answers."""
    begin = time.perf_counter()
    with opened_files(out) as files:
        ask_all([plan], lambda _: asking, files, lambda _: None)
    return time.perf_counter() - begin, (out / "answers.jsonl").read_bytes()


def main() -> None:
    """Measure, and print a line a run and their medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="llava-signs")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--running", type=int, default=8)
    parser.add_argument("--methods", nargs="+", default=["none", "rel-att"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    directory = Path(resolve(options.engine))
    engine = ViCropEngine.load(directory, threads=options.threads)
    ratios: dict[str, list[float]] = {"kept": [], "nothing kept": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = write_list(folder, options.questions, engine.manifest.vision.image_size)
        settings = EvalSettings(methods=tuple(options.methods), copies={"data": listed})
        plan = make_plan(find_benchmark("data"), settings, directory)
        for run in range(options.runs):
            ways: dict[str, Asking] = {
                "together": Scheduled(engine, options.running),
                "kept": OneByOne(engine),
                "nothing kept": Forgetting(engine),
            }
            found = {}
            for way, asking in ways.items():
                engine.forget()
                found[way] = timed(plan, asking, folder / f"{way}-{run}")
            if len({answers for _, answers in found.values()}) != 1:
                raise SystemExit("the ways answered differently; nothing is reported")
            rates = {way: len(plan) / seconds for way, (seconds, _) in found.items()}
            told = ", ".join(f"{way} {rate:.1f}" for way, rate in rates.items())
            print(f"run {run + 1}, answers a second: {told}")
            for way, all_ratios in ratios.items():
                all_ratios.append(rates["together"] / rates[way])
    for way, all_ratios in ratios.items():
        median = statistics.median(all_ratios)
        print(f"{options.running} in flight against one by one, {way}: {median:.2f} times")


if __name__ == "__main__":
    main()
