"""clip: zoom in on what CLIP finds most similar to the question (arXiv 2502.17422, appendix F)."""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.external.clip import Similarity
from vicrop_engine.images.geometry import Box, covering_square
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request_state import RequestState

STEPS = 20
CUT = 0.1  # the share of a side that one step takes away


@dataclass(frozen=True)
class ClipZoom:
    """Each step cuts a tenth off one of the four sides and keeps the most similar of the four.

    The most similar crop of all steps is the one looked at. The published text says so; the published code
    takes that of the last step.
    """

    similarity: Similarity

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """None."""
        return ()

    def locate(self, state: RequestState) -> Localization:
        """The square around the best crop of all steps."""
        state.watch.enter("heatmap")
        picture = state.picture
        text = self.similarity.embed_text(state.text)
        box: Box = (0, 0, *picture.size)
        best, highest = box, float("-inf")
        for _ in range(STEPS):
            smaller = cut_sides(box)
            scores = self.similarity.scores(picture, smaller, text)
            chosen = int(scores.argmax())
            box = smaller[chosen]
            if scores[chosen] > highest:
                best, highest = box, float(scores[chosen])
        return Localization("clip", covering_square(best, picture.size))


def cut_sides(box: Box) -> tuple[Box, Box, Box, Box]:
    """The box with a tenth cut off at the bottom, the top, the right and the left, in whole pixels."""
    x0, y0, x1, y1 = box
    wide, high = int((x1 - x0) * CUT), int((y1 - y0) * CUT)
    return (x0, y0, x1, y1 - high), (x0, y0 + high, x1, y1), (x0, y0, x1 - wide, y1), (x0 + wide, y0, x1, y1)
