"""A cache directory of each test's own; a folder's conftest imports the fixture for all of its tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was built or proven elsewhere is found."""
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "vicrop-home"))
