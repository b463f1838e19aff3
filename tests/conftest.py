"""Settings every test runs under: no test reaches the network, and Triton is interpreted without a GPU."""

from __future__ import annotations

import os
import sys

import torch

os.environ["HF_HUB_OFFLINE"] = "1"
if not torch.cuda.is_available():  # Triton asks when it is first imported, which exporting a graph does too
    assert "triton" not in sys.modules, "Triton was imported before its interpreter was asked for"
    os.environ["TRITON_INTERPRET"] = "1"
