"""lmms-eval itself runs three tasks on miniature data through the plugin, and `eval` says the same.

    git clone https://github.com/EvolvingLMMs-Lab/lmms-eval && git -C lmms-eval checkout 75571cfe
    python3.11 -m venv HARNESS && HARNESS/bin/pip install -e ./lmms-eval ".[cpu]"
    HARNESS/bin/python scripts/lmms_eval_run.py [--engine llava-signs] [--method rel-att]

Runs in that environment, which this project's must not share. Data sets are miniatures with the layout of the
hub's: the signs put as TextVQA, DocVQA and V*, for lmms-eval's own tasks.
Prints lmms-eval's table; exit status 0 when every answer and both scores are the same.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from vicrop_engine.examples import signs

TASKS = {"textvqa_val": "textvqa", "docvqa_val": "docvqa", "vstar_bench": "vstar"}
PLACES = {  # repository, configuration, split
    "textvqa": ("lmms-lab-encoder/textvqa", "default", "validation"),
    "docvqa": ("lmms-lab-encoder/DocVQA", "DocVQA", "validation"),
    "vstar": ("lmms-lab-encoder/vstar-bench", "default", "test"),
}
METRICS = {
    "textvqa": ("exact_match,none", 100),
    "docvqa": ("anls,none", 100),
    "vstar": ("vstar_overall_acc,none", 1),
}
ENDS = "Answer with the option's letter from the given choices directly."
COUNT = 24


def main() -> None:
    """Write the data, run both, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="llava-signs")
    parser.add_argument("--method", default="rel-att")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copies = {name: write(name, root) for name in PLACES}
        theirs, scores = lmms(options, root)
        ours, numbers = own(options, copies, root)
    for name, (metric, scale) in METRICS.items():
        task = next(task for task, benchmark in TASKS.items() if benchmark == name)
        assert len(theirs[name]) == len(ours[name]) == COUNT, (name, len(theirs[name]), len(ours[name]))
        assert theirs[name] == ours[name], [
            pair for pair in zip(theirs[name], ours[name], strict=True) if pair[0] != pair[1]
        ]
        assert abs(scores[task][metric] * scale - numbers[name]) < 1e-3, (scores[task][metric], numbers[name])
        print(f"{task}: {COUNT} answers and the score {numbers[name]:.2f} are the same")


def write(name: str, root: Path) -> Path:
    """The signs as rows of a benchmark, in a directory of the hub's layout."""
    rows = [ROWS[name](number) for number in range(COUNT)]
    repository, config, split = PLACES[name]
    directory = root / repository
    directory.mkdir(parents=True)
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    table.to_parquet(str(directory / f"{split}-00000-of-00001.parquet"))
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:", f"  - split: {split}"]
    (directory / "README.md").write_text("\n".join([*lines, f"    path: {split}-*", "---", ""]))
    return directory


def picture(path: Path) -> dict[str, Any]:
    """A picture as PNG, as the hub's parquet files hold one."""
    file = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}


def textvqa(number: int) -> dict[str, Any]:
    """A row of TextVQA's."""
    path, example = signs()[number]
    answers = [str(example.answer)] * 7 + ["0", "none", ""]
    row = {"image_id": str(number), "question_id": number, "question": example.question, "answers": answers}
    return {"image": picture(path), **row, "ocr_tokens": ["x"], "set_name": "val"}


def docvqa(number: int) -> dict[str, Any]:
    """A row of DocVQA's."""
    path, example = signs()[number]
    row = {"questionId": str(number), "question": example.question, "question_types": ["form"]}
    return {"image": picture(path), **row, "answers": [str(example.answer), f"the {example.answer}"]}


def vstar(number: int) -> dict[str, Any]:
    """A row of V*'s: the right digit among four, at a place that turns."""
    path, example = signs()[number]
    right = int(str(example.answer))
    digits = [(right + turn) % 10 for turn in range(4)]
    turned = digits[-number % 4 :] + digits[: -number % 4]
    lines = [f"({letter}) {digit}" for letter, digit in zip("ABCD", turned, strict=True)]
    text = "\n".join([example.question, *lines, ENDS])
    row = {"text": text, "label": "ABCD"[turned.index(right)], "question_id": str(number)}
    return {"image": picture(path), **row, "category": ("direct_attributes", "relative_position")[number % 2]}


ROWS = {"textvqa": textvqa, "docvqa": docvqa, "vstar": vstar}


def lmms(options: argparse.Namespace, root: Path) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """lmms-eval's answers by benchmark and its results by task.

    It is run where the miniatures are directories of their ids' names, which `datasets` takes before the hub.
    """
    out = root / "out"
    command = [
        *(sys.executable, "-m", "lmms_eval", "--model", "vicrop", "--tasks", ",".join(TASKS)),
        *(
            "--model_args",
            f"engine={options.engine},method={options.method},high_res=off",
            "--batch_size",
            "4",
        ),
        *("--output_path", str(out), "--log_samples"),
    ]
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(root / "cache"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(command, cwd=root, env={**os.environ, **offline}, capture_output=True, text=True)
    print(done.stdout)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    results = json.loads(next(out.rglob("*results.json")).read_text())["results"]
    answers = {}
    for task, name in TASKS.items():
        [samples] = out.rglob(f"*samples_{task}.jsonl")
        found = [json.loads(line) for line in samples.read_text().splitlines()]
        answers[name] = [said(sample) for sample in sorted(found, key=lambda sample: int(sample["doc_id"]))]
    return answers, results


def said(sample: dict[str, Any]) -> str:
    """The answer of a sample, however deep it lies."""
    found: Any = sample["filtered_resps"]
    while isinstance(found, list):
        found = found[0]
    return str(found)


def own(
    options: argparse.Namespace, copies: dict[str, Path], root: Path
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """`eval`'s answers and scores by benchmark."""
    command = [
        *(sys.executable, "-m", "vicrop_engine.cli", "eval", options.engine),
        *(f"{name}={copy}" for name, copy in copies.items()),
        *("--methods", options.method, "--scorer", "lmms-eval", "--high-res", "off", "--json"),
        *("--out", str(root / "own")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    numbers = {each["benchmark"]: each["scores"][0]["value"] for each in report["benchmarks"]}
    answers: dict[str, list[str]] = {name: [] for name in copies}
    for line in (root / "own" / "answers.jsonl").read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        answers[document["benchmark"]].append(document["answer"])
    return answers, numbers


if __name__ == "__main__":
    main()
