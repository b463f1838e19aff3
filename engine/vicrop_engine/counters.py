"""What an engine has run so far, so that tests and users can see what was reused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Counters:
    """Totals since loading; passes and tokens include decode steps, and upper tokens went through lower too.

    A pass reads the weights of its graph once. Moves are prefixes that were given larger KV buffers. A pixel
    gradient pass goes through the whole model and back to the pixels, with a gradient for each prompt.
    Uploads and copies are tensors that go to a device and come back, of engines for one.
    """

    vision_passes: int = 0
    vision_images: int = 0
    vision_hits: int = 0
    prefix_prefills: int = 0
    prefix_hits: int = 0
    prefix_moves: int = 0
    general_prefills: int = 0
    general_hits: int = 0
    lower_passes: int = 0
    upper_passes: int = 0
    lower_tokens: int = 0
    upper_tokens: int = 0
    decode_steps: int = 0
    gradient_passes: int = 0
    pixel_gradient_passes: int = 0
    pixel_gradient_tokens: int = 0
    pixel_gradients: int = 0
    uploads: int = 0
    host_copies: int = 0
    host_bytes: int = 0


class Tally:
    """The running totals behind `Counters`."""

    def __init__(self) -> None:
        self._totals = dataclasses.asdict(Counters())

    def add(self, **amounts: int) -> None:
        """Add to the named counters. Raises KeyError for a name there is not."""
        for name, amount in amounts.items():
            self._totals[name] += amount

    def snapshot(self) -> Counters:
        """The totals as they are now."""
        return Counters(**self._totals)
