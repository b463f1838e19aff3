"""Arrays by what they hold, each name once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Heatmap = npt.NDArray[np.float32]  # [rows, cols]
