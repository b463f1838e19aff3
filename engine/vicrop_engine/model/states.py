"""Hidden states, embeddings and attention rows where the graphs leave them: on the host or on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.runtime.device import AttentionRow, DeviceTensor

States = Floats | DeviceTensor
AttentionRows = Floats | AttentionRow  # [heads, keys]
T = TypeVar("T")
Floating = npt.NDArray[np.floating]  # rows of a token table, float16 or float32


@dataclass(frozen=True)
class ImageEmbeds:
    """A picture's embeddings [1 + added, tokens, hidden], and where its tokens stand.

    `offsets` [axes, tokens] are counted from where the picture begins; None: one after the other.
    `mixer` [tokens, cells] is how much each token looked at each cell; None where a token is a cell.
    """

    states: States
    offsets: Ints | None = None
    mixer: Floats | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of embeddings and mixer."""
        return self.states.nbytes + (0 if self.mixer is None else self.mixer.nbytes)


def on_host(states: States) -> Floats:
    """The states as the host's graphs take them. Raises TypeError for a device's."""
    return of_kind(np.ndarray, states)


def num_waiting(states: States | None) -> int:
    """How many tokens' states [1, tokens, hidden] wait."""
    return 0 if states is None else states.shape[1]


def joined(waiting: States | None, new: Floats) -> Floats:
    """States that wait and new ones after them, [1, tokens, hidden] each."""
    return new if waiting is None else np.concatenate((on_host(waiting), new), axis=1)


def of_kind(kind: type[T], thing: object) -> T:
    """The thing, which has to be of this kind. Raises TypeError for what another part made."""
    if not isinstance(thing, kind):
        raise TypeError(f"got {type(thing).__name__}, wanted {kind.__name__}: it is another model's")
    return thing
