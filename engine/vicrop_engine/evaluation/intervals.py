"""How sure a number is: Wilson's interval of a share, and the bootstrap of anything else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Interval = tuple[float, float]
Z = 1.959964  # 95 %
RESAMPLES, SEED = 1000, 0
TAILS = (2.5, 97.5)  # percent


def wilson(share: float, count: int) -> Interval:
    """Wilson's 95 % score interval of a share of `count`, as (low, high).

    For scores between 0 and 1 it is at least as wide as need be: none vary more than right and wrong.
    """
    share = min(max(share, 0.0), 1.0)
    centre = share + Z * Z / (2 * count)
    half = Z * (share * (1 - share) / count + Z * Z / (4 * count * count)) ** 0.5
    whole = 1 + Z * Z / count
    return max(0.0, (centre - half) / whole), min(1.0, (centre + half) / whole)


def bootstrap(statistic: Callable[[Values], float], count: int) -> Interval:
    """The middle 95 % of a statistic of weights [count] over resampled questions; the same each time."""
    rng = np.random.default_rng(SEED)
    found = [statistic(_weights(rng, count)) for _ in range(RESAMPLES)]
    low, high = np.percentile(found, TAILS)
    return float(low), float(high)


def _weights(rng: np.random.Generator, count: int) -> Values:
    """How often each of `count` questions is drawn, among as many draws."""
    return np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)
