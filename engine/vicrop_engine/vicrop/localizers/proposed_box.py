"""yolo and sam: of the boxes another model proposes, the one CLIP finds most similar to the question.

After arXiv 2502.17422, appendix F.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vicrop_engine.external.clip import Similarity
from vicrop_engine.images.geometry import Box, covering_square
from vicrop_engine.images.picture import Picture
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request_state import RequestState


class Proposer(Protocol):
    """Anything that finds boxes without a question."""

    def boxes(self, picture: Picture) -> list[Box]:
        """Boxes inside the picture, perhaps none."""


@dataclass(frozen=True)
class ProposedBox:
    """The square around the most similar proposal; the whole picture where nothing is proposed."""

    method: str
    proposer: Proposer
    similarity: Similarity

    def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
        """None."""
        return ()

    def locate(self, state: RequestState) -> Localization:
        """Proposals, their similarity to the question, and the square around the best."""
        state.watch.enter("heatmap")
        picture = state.picture
        boxes = self.proposer.boxes(picture)
        if not boxes:
            return Localization(self.method, (0, 0, *picture.size))
        best = self.similarity.most_similar(picture, boxes, state.text)
        return Localization(self.method, covering_square(best, picture.size))
