"""The one place that makes sessions of ONNX Runtime, so that none of them can give inexact products of bytes.

On x86 without VNNI ONNX Runtime adds pairs of u8·s8 products in 16 bits, which overflow. The graphs of
engines keep their bytes so small that pairs fit; any other graph's weights are made unsigned when it is
opened, which is exact too and slower. Knows options and products; nothing of which graph is which.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vicrop_engine.runtime.onnx_runtime import installed_runtime

CPU = "CPUExecutionProvider"
UNSIGNED_WEIGHTS = "session.x64quantprecision"  # where products of bytes would overflow, and only there
# A graph of one MatMulInteger, x [m, k] of uint8 times w [k, n] of int8: tests make it again and compare.
BYTE_PRODUCT = (
    b'\x08\n:b\n\x18\n\x01x\n\x01w\x12\x01y"\rMatMulInteger\x12\x01g'
    b"Z\x15\n\x01x\x12\x10\n\x0e\x08\x02\x12\n\n\x03\x12\x01m\n\x03\x12\x01k"
    b"Z\x15\n\x01w\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01n"
    b"b\x15\n\x01y\x12\x10\n\x0e\x08\x06\x12\n\n\x03\x12\x01m\n\x03\x12\x01nB\x04\n\x00\x10\x12"
)


def session_options(threads: int | None = None) -> Any:
    """Options as all sessions have them: quiet, and on `threads` cores (as the runtime likes when None)."""
    options = installed_runtime().SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def open_session(
    model: Path | bytes, options: Any, provider: Any = CPU, *, fits_16_bits: bool = False
) -> Any:
    """A session of a graph in a file, or of its bytes; `provider` is a name, or a name and its settings.

    `fits_16_bits` is for graphs alone in which two products of bytes do. Raises what ONNX Runtime raises, and
    ProviderError without a sound one.
    """
    if not fits_16_bits:
        options.add_session_config_entry(UNSIGNED_WEIGHTS, "1")
    source = model if isinstance(model, bytes) else str(model)
    return installed_runtime().InferenceSession(source, options, providers=[provider])


@cache
def adds_in_16_bits() -> bool:
    """Whether products of bytes are those of a processor without VNNI: half as fast, and easily overflowing.

    Asked of ONNX Runtime itself, by a product that is exact with VNNI and on other architectures alone.
    """
    session = open_session(BYTE_PRODUCT, session_options(1), fits_16_bits=True)
    tokens, weights = np.full((4, 32), 255, np.uint8), np.full((32, 16), 127, np.int8)
    (product,) = session.run(None, {"x": tokens, "w": weights})
    return bool((product != 32 * 255 * 127).any())
