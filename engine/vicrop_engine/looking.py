"""Whether to crop and where: the first pass's doubt about its answer against what a crop can be worth.

What is decided here needs no token of the first answer to be decoded.
"""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.certainty import doubt, focus
from vicrop_engine.image import Box
from vicrop_engine.localizers.localizer import Localization, Localizer
from vicrop_engine.reading import Reading


@dataclass(frozen=True)
class Look:
    """What looking came to: where the crop would be, None where nothing was looked for, and if it `crops`.

    `worth` is what the crop is worth, the most it can be where nothing was looked for, and None where the
    pass over the picture was not for an answer.
    """

    found: Localization | None
    worth: float | None
    crops: bool

    @property
    def box(self) -> Box | None:
        """The window to crop to."""
        return self.found.box if self.found is not None and self.crops else None


def look(localizer: Localizer | None, reading: Reading, threshold: float | None) -> Look:
    """Look for the crop's window, and crop if it is worth `threshold`; in any case when that is None.

    Without a localizer there is no crop. A first answer whose doubt alone is below the threshold is not
    looked any further into.
    """
    if localizer is None:
        return Look(None, None, False)
    if threshold is not None and (unsure := doubt(reading.first_logits())) < threshold:
        return Look(None, unsure, False)
    found = localizer.locate(reading)
    if not reading.wanted.answer:
        return Look(found, None, True)
    worth = doubt(reading.first_logits()) * promise(found, reading)
    return Look(found, worth, threshold is None or worth >= threshold)


def promise(found: Localization, reading: Reading) -> float:
    """How far a window can be trusted to show something new: its heatmap's focus, 1 where there is none.

    The whole picture shows nothing new.
    """
    if found.box == (0, 0, *reading.picture.size):
        return 0.0
    return 1.0 if found.heatmap is None else focus(found.heatmap, found.grid or reading.grid)
