"""Triton runs under its interpreter where there is no GPU; it asks whether to when it is first imported."""

from __future__ import annotations

import os
import sys

import torch

if not torch.cuda.is_available():
    assert "triton" not in sys.modules, "Triton was imported before its interpreter was asked for"
    os.environ["TRITON_INTERPRET"] = "1"
