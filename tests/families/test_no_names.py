"""A family's name stands in its own folder and in the tables, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from vicrop_engine.families.table import FAMILIES
from vicrop_export.families import table

ROOT = Path(__file__).resolve().parents[2]
KINDS = set(FAMILIES) | set(table.FAMILIES)


def constants(path: Path) -> Iterator[str]:
    """The strings of a module's code; its docstrings say what they like."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def modules() -> Iterator[Path]:
    """All of both packages but the families' own folders, the tables and the list of known models."""
    for package in ("engine/vicrop_engine", "export/vicrop_export"):
        for path in sorted((ROOT / package).rglob("*.py")):
            inside = path.relative_to(ROOT / package).as_posix()
            if not inside.startswith("families/") and inside != "engine_dir/registry.py":
                yield path


def test_the_names_are_those_that_are_looked_for() -> None:
    assert {"llava-1.5", "smolvlm", "llava", "idefics3"} <= KINDS
    own = ROOT / "engine/vicrop_engine/families/table.py"
    assert {"llava-1.5", "smolvlm"} <= set(constants(own))


def test_no_other_file_says_one() -> None:
    said = {
        str(path.relative_to(ROOT)): found for path in modules() if (found := KINDS & set(constants(path)))
    }
    assert not said
