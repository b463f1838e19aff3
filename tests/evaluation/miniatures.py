"""Miniatures of the hub's repositories: parquet files with its features, and the card that names them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Features, Image, List, Value
from PIL import Image as Pillow

from tests.evaluation.hub_rows import ROWS

TEXT, INT, LONG = Value("string"), Value("int32"), Value("int64")
TEXTS = List(TEXT)


@dataclass(frozen=True)
class Hub:
    """Where a benchmark's rows lie in its repository, and the columns that are not text."""

    repository: str
    config: str
    split: str
    columns: dict[str, Any]
    image: str = "image"
    base64: bool = False


DOC, INFO = {"docId": LONG}, {}
GQA_GROUPS = {"global": TEXT, "local": TEXT}
VQA_ANSWER = {"answer": TEXT, "answer_confidence": TEXT, "answer_id": LONG}
HUBS = {
    "textvqa": Hub(
        "lmms-lab-encoder/textvqa",
        "default",
        "validation",
        {"question_id": INT, "image_width": INT, "image_height": INT},
    ),
    "vstar": Hub("lmms-lab-encoder/vstar-bench", "default", "test", {}),
    "pope": Hub("lmms-lab-encoder/POPE", "default", "test", {}),
    **{
        f"pope-{split}": Hub("lmms-lab-encoder/POPE", "Full", split, {})
        for split in ("adversarial", "popular", "random")
    },
    "docvqa": Hub("lmms-lab-encoder/DocVQA", "DocVQA", "validation", DOC),
    "infovqa": Hub("lmms-lab-encoder/DocVQA", "InfographicVQA", "validation", INFO),
    "gqa": Hub(
        "lmms-lab-encoder/GQA",
        "testdev_balanced_instructions",
        "testdev",
        {"isBalanced": Value("bool"), "groups": GQA_GROUPS},
        image="",
    ),
    "vqav2": Hub(
        "lmms-lab-encoder/VQAv2",
        "default",
        "validation",
        {"answers": List(VQA_ANSWER), "image_id": LONG, "question_id": LONG},
    ),
    **{
        f"hrbench{side}": Hub(
            "DreamMr/HR-Bench", "hrbench_version_split", f"hrbench_{side}", {"index": LONG}, base64=True
        )
        for side in ("4k", "8k")
    },
    **{
        name: Hub("nyu-visionx/CV-Bench", config, "test", {"idx": LONG})
        for name, config in (("cvbench", "default"), ("cvbench-2d", "2D"), ("cvbench-3d", "3D"))
    },
    "mme-realworld-lite": Hub(
        "yifanzhang114/MME-RealWorld-lite-lmms-eval", "default", "train", {}, "bytes", base64=True
    ),
    **{
        name: Hub(
            "HuggingFaceM4/A-OKVQA",
            "default",
            "validation",
            {"correct_choice_idx": LONG, "difficult_direct_answer": Value("bool")},
        )
        for name in ("aokvqa", "aokvqa-choice")
    },
    "textvqa-boxes": Hub("jrzhang/TextVQA_GT_bbox", "default", "train", {"bbox": List(Value("float64"))}),
}


def png(seed: int, size: tuple[int, int] = (90, 60)) -> bytes:
    """A seeded picture of a few colours, encoded."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(coarse).resize(size).save(file, format="PNG")
    return file.getvalue()


def write_hub(name: str, root: Path) -> Path:
    """The repository of a benchmark below `root`, with the rows of this one alone; its directory."""
    hub = HUBS[name]
    directory = root / hub.repository
    parts = {hub.config: {hub.split: with_pictures(name)}}
    if name == "gqa":
        parts["testdev_balanced_images"] = {"testdev": gqa_pictures()}
    for config, splits in parts.items():
        for split, table in splits.items():
            path = directory / config / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_parquet(str(path))
    (directory / "README.md").write_text(card(parts), encoding="utf-8")
    return directory


def with_pictures(name: str) -> datasets.Dataset:
    """The rows with a picture each, in the types of the hub."""
    hub, rows = HUBS[name], ROWS[name]
    if hub.image:
        contents = [png(number) for number in range(len(rows))]
        held = (
            [base64.b64encode(content).decode() for content in contents]
            if hub.base64
            else [{"bytes": content, "path": None} for content in contents]
        )
        rows = [{hub.image: content, **row} for content, row in zip(held, rows, strict=True)]
    features = {column: feature_of(hub, column, value) for column, value in rows[0].items()}
    return datasets.Dataset.from_list(rows, features=Features(features))


def feature_of(hub: Hub, column: str, value: object) -> Any:
    """The hub's type of a column: as it is said there, else text or texts."""
    if column == hub.image:
        return TEXT if hub.base64 else Image()
    return hub.columns.get(column, TEXTS if isinstance(value, list) else TEXT)


def gqa_pictures() -> datasets.Dataset:
    """GQA's pictures, which stand apart from its questions."""
    rows = [
        {"id": name, "image": {"bytes": png(seed), "path": None}} for seed, name in enumerate(("n22", "n11"))
    ]
    return datasets.Dataset.from_list(rows, features=Features({"id": TEXT, "image": Image()}))


def card(parts: dict[str, dict[str, datasets.Dataset]]) -> str:
    """The beginning of a repository's page, which says where configurations and splits lie."""
    lines = ["---", "configs:"]
    for config, splits in parts.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    return "\n".join([*lines, "---", ""])
