"""Packages as pip leaves them, without installing any: their metadata in a folder of a test's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from vicrop_engine.runtime import onnx_runtime
from vicrop_engine.runtime import onnx_runtime as runtime_package


def pretend_installed(monkeypatch: pytest.MonkeyPatch, folder: Path, **versions: str) -> None:
    """Add distributions, by name with `_` for `-`, to what `importlib.metadata` finds."""
    for name, version in versions.items():
        described = folder / f"{name}-{version}.dist-info"
        described.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        (described / "METADATA").write_text(text)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    importlib.invalidate_caches()
    monkeypatch.setattr(onnx_runtime, "sound", runtime_package.sound.__wrapped__)
