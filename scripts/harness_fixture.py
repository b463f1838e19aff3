"""Makes tests/evaluation/harness.json.gz: what the harnesses' own code says of thousands of answers.

    git clone https://github.com/EvolvingLMMs-Lab/lmms-eval && git -C lmms-eval checkout 75571cfe
    python3.11 -m venv HARNESS && HARNESS/bin/pip install -e ./lmms-eval
    git clone https://github.com/open-compass/VLMEvalKit && git -C VLMEvalKit checkout e8e78f05
    git clone https://github.com/saccharomycetes/mllms_know && git -C mllms_know checkout a64c5d5
    HARNESS/bin/python scripts/harness_fixture.py VLMEvalKit mllms_know

Runs in an environment of its own, never in this project's: the two must not share one. Of lmms-eval the
installed package is asked, of the others files of a checkout.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import importlib
import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.harness_pairs import Pair, pairs
from scripts.harness_vlmevalkit import Says, vlmevalkit, vlmevalkit_prompts
from tests.evaluation.hub_rows import ROWS

OUT = Path(__file__).resolve().parent.parent / "tests" / "evaluation" / "harness.json.gz"


def main() -> None:
    """Ask all three and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vlmevalkit", type=Path, help="a checkout")
    parser.add_argument("mllms_know", type=Path, help="a checkout")
    options = parser.parse_args()
    drawn = pairs()
    sayings = {**lmms_eval(), **vlmevalkit(options.vlmevalkit), **paper(options.mllms_know)}
    document = {
        "versions": {
            "lmms-eval": f"{version('lmms_eval')} at {commit(installed('lmms_eval'))}",
            "VLMEvalKit": commit(options.vlmevalkit),
            "mllms_know": commit(options.mllms_know),
        },
        "pairs": drawn,
        "scores": {name: [says(pair) for pair in drawn[kind]] for name, (kind, says) in sayings.items()},
        "kinds": {name: kind for name, (kind, _) in sayings.items()},
        "prompts": {**lmms_prompts(), **vlmevalkit_prompts(options.vlmevalkit)},
    }
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    OUT.write_bytes(gzip.compress(data, mtime=0))
    print(f"{OUT}: {len(data)} bytes of JSON, {OUT.stat().st_size} packed")


def installed(package: str) -> Path:
    """Where a package lies: a checkout, for what is on the index lacks half of its tasks' settings."""
    return Path(str(importlib.import_module(package).__file__)).parent


def commit(checkout: Path) -> str:
    """The commit of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cut(pair: Pair, until: str = "\n\n") -> str:
    """The answer as lmms-eval's tasks get it."""
    return pair["answer"].split(until)[0].strip()


def task(name: str) -> Any:
    """The module of a task of lmms-eval."""
    return importlib.import_module(f"lmms_eval.tasks.{name}.utils")


def lmms_eval() -> dict[str, tuple[str, Says]]:
    """lmms-eval's scorers, by name, with the kind of pairs each takes."""
    from lmms_eval.api.metrics import anls, exact_match_hf_evaluate
    from lmms_eval.tasks.hrbench.hrbench_evals import HRBenchEval

    judge = HRBenchEval(api_key="none", gpt_model="none")
    textvqa, vqav2, pope = task("textvqa"), task("vqav2"), task("pope")
    vstar, cv, mme = task("vstar_bench"), task("cv_bench"), task("mme_realworld")

    def of_textvqa(pair: Pair) -> float:
        doc = {"answers": [*pair["labels"]], "question_id": 0}
        return float(textvqa.textvqa_process_results(doc, [cut(pair, "ASSISTANT:")])["exact_match"])

    def of_vqav2(pair: Pair) -> float:
        answers = [{"answer": label, "answer_id": number} for number, label in enumerate(pair["labels"])]
        found = vqav2.vqav2_process_results({"answers": answers, "question_id": 0}, [cut(pair)])
        return float(found["exact_match"])

    def of_gqa(pair: Pair) -> float:
        ways = {"ignore_case": True, "ignore_punctuation": True}
        found = exact_match_hf_evaluate(predictions=[cut(pair)], references=[pair["labels"][0]], **ways)
        return float(found["exact_match"])

    def of_mme(pair: Pair) -> float:
        doc = {"answer": pair["labels"][0], "category": "Perception/OCR with Complex Context", "index": 0}
        doc["l2-category"] = "x"
        found = mme.mme_realworld_process_results(doc, [cut(pair)])["mme_realworld_score"]
        return float(mme.mme_realworld_aggregate_results([found]))

    def of_pope(pair: Pair) -> float:
        doc = {"answer": pair["labels"][0], "question_id": 0}
        return float(pope.pope_process_results(doc, [cut(pair)])["pope_accuracy"]["score"])

    def of_vstar(pair: Pair) -> float:
        doc = {"label": pair["labels"][0], "question_id": 0, "category": "x", "text": ""}
        return float(vstar.vstar_process_results(doc, [cut(pair)])["vstar_overall_acc"]["score"])

    def of_cv(pair: Pair) -> float:
        doc = {"answer": f"({pair['labels'][0]})", **dict.fromkeys(("idx", "type", "task", "source"))}
        return float(cv.cv_bench_process_results(doc, [cut(pair)])["cv_bench_acc"]["is_correct"])

    def of_hr(pair: Pair) -> float:
        said = judge.can_infer(cut(pair), dict(zip("ABCD", pair["options"], strict=True)))
        return float(said == pair["labels"][0])

    def of_anls(pair: Pair) -> float:
        return float(anls(references=pair["labels"], predictions=[cut(pair)])["anls"])

    return {
        "lmms-eval textvqa": ("votes", of_textvqa),
        "lmms-eval vqav2": ("votes", of_vqav2),
        "lmms-eval gqa": ("single", of_gqa),
        "lmms-eval docvqa": ("several", of_anls),
        "lmms-eval pope": ("yes_no", of_pope),
        "lmms-eval vstar": ("letters", of_vstar),
        "lmms-eval cvbench": ("letters", of_cv),
        "lmms-eval mme-realworld-lite": ("letters", of_mme),
        "lmms-eval hrbench4k": ("letters", of_hr),
    }


def lmms_prompts() -> dict[str, list[str]]:
    """lmms-eval's prompts for the rows that the tests write, by its tasks' own settings."""
    yaml: Any = importlib.import_module("yaml")

    tasks = Path(str(importlib.import_module("lmms_eval.tasks").__file__)).parent
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda _, node: node.value)  # type: ignore[attr-defined]

    def settings(file: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.load((tasks / file).read_text(), loader)
        return dict(found["lmms_eval_specific_kwargs"]["default"])

    writers: dict[str, tuple[Any, str | None]] = {
        "textvqa": (task("textvqa").textvqa_doc_to_text, "textvqa/_default_template_textvqa_yaml"),
        "vstar": (task("vstar_bench").vstar_doc_to_text, "vstar_bench/_default_template_yaml"),
        "pope": (task("pope").pope_doc_to_text, "pope/pope.yaml"),
        "docvqa": (task("docvqa").docvqa_doc_to_text, "docvqa/_default_template_docvqa_yaml"),
        "infovqa": (task("infovqa").infovqa_doc_to_text, "infovqa/_default_template_infovqa_yaml"),
        "gqa": (task("gqa").gqa_doc_to_text, "gqa/gqa.yaml"),
        "vqav2": (task("vqav2").vqav2_doc_to_text, "vqav2/_default_template_vqav2_yaml"),
        "hrbench4k": (task("hrbench").hrbench_doc_to_text, None),
        "cvbench": (task("cv_bench").cv_bench_doc_to_text, "cv_bench/_default_template_yaml"),
        "mme-realworld-lite": (task("mme_realworld").mme_realworld_doc_to_text, None),
    }
    return {
        f"lmms-eval {name}": [
            write(dict(row)) if file is None else write(dict(row), settings(file)) for row in ROWS[name]
        ]
        for name, (write, file) in writers.items()
    }


def paper(checkout: Path) -> dict[str, tuple[str, Says]]:
    """The paper's own scorers."""
    path = checkout / "get_score.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kept = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.Assign)]
    scope: dict[str, Any] = {
        "re": importlib.import_module("re"),
        "difflib": importlib.import_module("difflib"),
        "tqdm": lambda rows: rows,
    }
    exec(compile(ast.Module([*kept], []), str(path), "exec"), scope)

    def whole(name: str, pair: Pair, **more: Any) -> float:
        row = {
            "original_answer": pair["answer"],
            "crop_answer": pair["answer"],
            "labels": pair["labels"],
            **more,
        }
        return float(scope[name]([row])[0]) / 100

    def of_pope(pair: Pair) -> float:
        return whole("evaluate_pope", pair, labels=pair["labels"][0])

    def of_vstar(pair: Pair) -> float:
        lines = [f"({letter}) {option}" for letter, option in zip("ABCD", pair["options"], strict=True)]
        text = "\n".join(["What is it?", *lines, "Answer with the option's letter."])
        return whole("evaluate_vstar", pair, labels=pair["labels"] * 4, question=text)

    return {
        "paper textvqa": ("votes", lambda pair: whole("evaluate_textvqa", pair)),
        "paper gqa": ("single", lambda pair: whole("evaluate_gqa", pair)),
        "paper docvqa": ("several", lambda pair: whole("evaluate_docvqa", pair)),
        "paper pope": ("yes_no", of_pope),
        "paper vstar": ("letters", of_vstar),
    }


if __name__ == "__main__":
    main()
