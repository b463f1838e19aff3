"""What the package needs beside its Python files is declared, so that an installed copy has it too."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {"vicrop_engine": "engine", "vicrop_export": "export", "vicrop_kernels": "kernels"}


def test_every_file_that_is_no_program_is_package_data() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    declared = tool["setuptools"]["package-data"]
    for package, folder in FOLDERS.items():
        home = ROOT / folder / package
        files = [path for path in home.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
        names = [path.relative_to(home).as_posix() for path in files]
        assert names
        forgotten = [name for name in names if not any(fnmatch(name, each) for each in declared[package])]
        assert forgotten == []
