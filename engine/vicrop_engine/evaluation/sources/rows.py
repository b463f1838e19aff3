"""What every source of questions is: so many of them, each read when it is asked for."""

from __future__ import annotations

from typing import Protocol

from vicrop_engine.evaluation.question import Origin, PictureFile, Question


class Questions(Protocol):
    """Questions in a fixed order; a picture is read when it is asked about and not kept."""

    @property
    def origin(self) -> Origin:
        """Where they are from."""

    def question(self, number: int) -> Question:
        """Question `number`, from 0. Raises DatasetError for a row that is not as it should be."""

    def picture(self, number: int) -> PictureFile:
        """Its picture. Raises ImageError where it cannot be had."""
