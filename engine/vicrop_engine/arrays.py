"""From heatmap to crop box: window sizes in cells, the search, the box around the winner.

The rules are those of arXiv 2502.17422 as published, less its flaws. Knows grids and pixels; nothing of
models, prompts or files.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Heatmap = npt.NDArray[np.float32]
