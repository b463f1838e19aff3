"""Where the GPU tests run: on the GPU whose number is in VICROP_GPU, by default the first.

Without a GPU every one of them fails. VICROP_GPU=rehearsal runs them on the processor: the kernel under
Triton's interpreter, engines by their stand-in. That proves the tests, and nothing of a GPU.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from vicrop_engine.runtime.nvidia import find_driver

NUMBER = os.environ.get("VICROP_GPU", "0")
REHEARSAL = NUMBER == "rehearsal"
if REHEARSAL:
    os.environ["TRITON_INTERPRET"] = (
        "1"  # asked for when Triton is first imported, which no import above does
    )


@dataclass(frozen=True)
class Place:
    """A device for tensors, the keywords that load an engine there, and the provider that then runs it."""

    device: torch.device
    provider: str
    load: dict[str, Any] = field(default_factory=dict)

    @property
    def rehearsed(self) -> bool:
        """Whether there is no GPU."""
        return self.device.type == "cpu"


@pytest.fixture(scope="session")
def place() -> Place:
    """The GPU; a test without one fails."""
    if REHEARSAL:
        return Place(torch.device("cpu"), "CPUExecutionProvider", {"provider": "cpu"})
    problem = find_driver().problem
    if problem is not None:
        pytest.fail(
            f"this test needs an NVIDIA GPU and there is none here: {problem}; run scripts/gpu_check.sh"
        )
    return Place(torch.device("cuda", int(NUMBER)), "CUDAExecutionProvider", {"device": int(NUMBER)})


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "vicrop-home"))
