"""What VLMEvalKit's own code says of answers, and how it words questions: for harness_fixture.py.

Its packages import hundreds of benchmarks when they are imported, so that its modules are loaded without
those, and of files that import more than is here the functions that are asked, as they stand there.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scripts.harness_pairs import Pair
from tests.evaluation.hub_rows import ROWS

Says = Callable[[Pair], float]


def bare_package(name: str, path: Path) -> None:
    """A package whose own __init__ is not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(path)]
    sys.modules[name] = module


def vlmevalkit_modules(checkout: Path) -> tuple[Any, Any, Any]:
    """Its modules for short answers, yes or no, and options."""
    for name in ("vlmeval", "vlmeval.dataset", "vlmeval.dataset.utils", "vlmeval.utils"):
        bare_package(name, checkout / name.replace(".", "/"))
    bare_package("vlmeval.smp", checkout / "vlmeval" / "smp")
    smp, helpers = sys.modules["vlmeval.smp"], ("process_punctuation", "listinstr", "istype")
    misc = own_functions(checkout / "vlmeval" / "smp" / "misc.py", *helpers)
    log = types.ModuleType("vlmeval.smp.log")
    log.get_logger = lambda _: None  # type: ignore[attr-defined]
    sys.modules["vlmeval.smp.log"] = log
    for function in helpers:
        setattr(smp, function, misc[function])
    vqa = importlib.import_module("vlmeval.dataset.utils.vqa_eval")
    matching = importlib.import_module("vlmeval.utils.matching_util")
    utils = checkout / "vlmeval" / "dataset" / "utils"
    yorn = own_functions(utils / "yorn.py", "YOrN_Extraction", known=misc)
    choice = own_functions(utils / "multiple_choice.py", "extract_characters_regex")
    return vqa, matching, types.SimpleNamespace(**yorn, mme=choice["extract_characters_regex"])


def own_functions(path: Path, *names: str, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Functions of a file by name, as they stand there, without what it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kept = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    assert len(kept) == len(names), (path, names)
    found: dict[str, Any] = {**(known or {}), "re": importlib.import_module("re")}
    exec(compile(ast.Module([*kept], []), str(path), "exec"), found)
    return {name: value for name, value in found.items() if not name.startswith("__")}


def vlmevalkit(checkout: Path) -> dict[str, tuple[str, Says]]:
    """VLMEvalKit's scorers."""
    vqa, matching, others = vlmevalkit_modules(checkout)

    def line(pair: Pair, method: str, dataset: str) -> float:
        row = {"answer": str(pair["labels"]), "prediction": pair["answer"], "index": 0}
        [score] = vqa.hit_calculate([vqa.process_line(row, method=method)], dataset)
        return float(score)

    def of_gqa(pair: Pair) -> float:
        row = {"answer": pair["labels"][0], "prediction": pair["answer"], "index": 0}
        [score] = vqa.hit_calculate([vqa.process_line(row, method="accuracy")], "GQA_TestDev_Balanced")
        return float(score)

    def of_pope(pair: Pair) -> float:
        return float(others.YOrN_Extraction(pair["answer"]) == pair["labels"][0].capitalize())

    def of_option(pair: Pair) -> float:
        said = matching.can_infer(pair["answer"], dict(zip("ABCD", pair["options"], strict=True)))
        return float((said or "Z") == pair["labels"][0])

    def of_mme(pair: Pair) -> float:
        tagged = re.search(r"<answer>(.*?)</answer>", pair["answer"], re.DOTALL)
        said = others.mme(tagged.group(1).strip().upper() if tagged else pair["answer"])
        return float(said == pair["labels"][0])

    return {
        "vlmevalkit textvqa": ("votes", lambda pair: line(pair, "vqa_score", "TextVQA_VAL")),
        "vlmevalkit docvqa": ("several", lambda pair: line(pair, "anls", "DocVQA_VAL")),
        "vlmevalkit gqa": ("single", of_gqa),
        "vlmevalkit pope": ("yes_no", of_pope),
        "vlmevalkit vstar": ("letters", of_option),
        "vlmevalkit mme-realworld-lite": ("letters", of_mme),
    }


def vlmevalkit_prompts(checkout: Path) -> dict[str, list[str]]:
    """VLMEvalKit's prompts, by the methods of its data sets' classes."""
    folder = checkout / "vlmeval" / "dataset"
    base = methods(folder / "image_base.py", "ImageBaseDataset")
    mcq = methods(folder / "image_mcq.py", "ImageMCQDataset")
    mme = methods(folder / "image_mcq.py", "MMERealWorld")
    cv = methods(folder / "image_mcq.py", "CVBench")
    vqa = methods(folder / "image_vqa.py", "ImageVQADataset", base)
    plain = ("textvqa", "docvqa", "infovqa", "gqa")
    return {
        **{f"vlmevalkit {name}": written(vqa, ROWS[name]) for name in plain},
        "vlmevalkit pope": written(base, ROWS["pope"]),
        "vlmevalkit vstar": written(mcq, map(vstar_row, ROWS["vstar"])),
        "vlmevalkit hrbench4k": written(mcq, ROWS["hrbench4k"]),
        "vlmevalkit aokvqa-choice": written(mcq, map(choice_row, ROWS["aokvqa-choice"])),
        "vlmevalkit cvbench-2d": written(cv, ROWS["cvbench-2d"]),
        "vlmevalkit mme-realworld-lite": written(
            mme, map(mme_row, ROWS["mme-realworld-lite"]), "MME-RealWorld-Lite"
        ),
    }


def methods(path: Path, name: str, parent: type | None = None) -> type:
    """A class of a file with its prompt alone, as it stands there."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    [found] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    wanted = ("build_prompt",), ("SYS",)
    found.body = [
        node
        for node in found.body
        if (isinstance(node, ast.FunctionDef) and node.name in wanted[0])
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in wanted[1])
    ]
    found.decorator_list, found.keywords, found.bases = [], [], [ast.Name("Parent", ast.Load())]
    scope: dict[str, Any] = {
        "Parent": parent or object,
        "string": importlib.import_module("string"),
        "pd": importlib.import_module("pandas"),
        "toliststr": lambda value: [value],
    }
    tree = ast.fix_missing_locations(ast.Module([found], []))
    exec(compile(tree, str(path), "exec"), scope)
    return type(name, (scope[name],), {"meta_only": True})


def written(kind: Any, rows: Iterable[Any], dataset: str = "") -> list[str]:
    """The texts of a data set's prompts."""
    data = kind()
    data.dataset_name = dataset
    return [data.build_prompt({"image_path": "x.jpg", **row})[-1]["value"] for row in rows]


def vstar_row(row: dict[str, Any]) -> dict[str, Any]:
    """V*'s row as VLMEvalKit's file has it: the options in columns of their own."""
    question, *lines = row["text"].split("\n")
    options = {line[1]: line[4:] for line in lines if line.startswith("(")}
    return {"question": question, **options}


def choice_row(row: dict[str, Any]) -> dict[str, Any]:
    """A-OKVQA's row likewise."""
    return {"question": row["question"], **dict(zip("ABCD", row["choices"], strict=True))}


def mme_row(row: dict[str, Any]) -> dict[str, Any]:
    """MME-RealWorld's row as its loader makes it."""
    listed = "The choices are listed below:\n" + "\n".join(row["multi-choice options"])
    return {"question": row["question"], "multi-choice options": listed}
