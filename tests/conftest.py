"""Settings every test runs under: no test reaches the network, and Triton needs no GPU."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRITON_INTERPRET"] = "1"  # Triton asks when it is first imported, by torch or by a test
