"""What the heatmap operator is told beside its rows: how maps lie on pictures, and what is searched for.

Plain values, the same for every implementation; knows nothing of arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["relative", "gradient"]
MOST_CELLS = 1 << 20  # of a map put together: its sums in whole units stay within 62 bits


@dataclass(frozen=True)
class Cells:
    """A rectangle of cells; rows and columns are half open."""

    first_row: int
    last_row: int
    first_col: int
    last_col: int

    @property
    def rows(self) -> int:
        """Their number from top to bottom."""
        return self.last_row - self.first_row

    @property
    def cols(self) -> int:
        """Their number from left to right."""
        return self.last_col - self.first_col

    def within(self, rows: int, cols: int) -> bool:
        """Whether there is at least one and all lie in a grid of this size."""
        down, across = 0 <= self.first_row < self.last_row, 0 <= self.first_col < self.last_col
        return down and across and self.last_row <= rows and self.last_col <= cols


@dataclass(frozen=True)
class Tiles:
    """How pictures were cut to be read: `rows` by `cols` tiles, whose maps are put together as one.

    Of each tile's map only the cells `kept` are taken (None: all), with `over_mean` each over their mean; a
    mean that is not above zero in float32 leaves them as they are.
    """

    rows: int = 1
    cols: int = 1
    kept: Cells | None = None
    over_mean: bool = False


@dataclass(frozen=True)
class PictureGrid:
    """How a map put together lies on one picture: corner and cell size in picture pixels.

    `size` is (width, height). Cells that are not `inside` (None: all are) saw padding: they are zero in the
    heatmap and not searched.
    """

    size: tuple[int, int]
    left: float
    top: float
    cell_width: float
    cell_height: float
    inside: Cells | None = None


@dataclass(frozen=True)
class Arguments:
    """One call of the operator for a batch of pictures that are read and cut alike.

    `rows` and `cols` are the patch grid of one map. `window` is the smallest crop side in picture pixels and
    `ratios` its enlargements in order. `weights` [layers] sum to one and are equal when not given. Raises
    ValueError for what makes no sense.
    """

    rows: int
    cols: int
    pictures: tuple[PictureGrid, ...]
    window: int
    ratios: tuple[float, ...]
    mode: Mode = "relative"
    weights: tuple[float, ...] | None = None
    tiles: Tiles = Tiles()

    def __post_init__(self) -> None:
        self._demand(self.mode in get_args(Mode), f"mode {self.mode!r}", f"one of {get_args(Mode)}")
        self._demand(bool(self.pictures), "no picture", "at least one")
        whole = min(self.rows, self.cols, self.tiles.rows, self.tiles.cols) >= 1
        grid = f"a grid of {self.rows} x {self.cols} in {self.tiles.rows} x {self.tiles.cols} tiles"
        self._demand(
            whole and self.kept.within(self.rows, self.cols), f"{grid} of {self.kept}", "cells of it"
        )
        cells = self.map_rows * self.map_cols
        self._demand(cells <= MOST_CELLS, f"a map of {cells} cells", f"at most {MOST_CELLS}")
        for picture in self.pictures:
            fits = self.inside(picture).within(self.map_rows, self.map_cols)
            self._demand(fits, f"{picture.inside}", f"cells of a map of {self.map_rows} x {self.map_cols}")
            real = min(*picture.size, picture.cell_width, picture.cell_height) > 0
            corner = math.isfinite(picture.left) and math.isfinite(picture.top)
            self._demand(real and corner, f"{picture}", "sizes above zero and a finite corner")
        crops = self.window > 0 and bool(self.ratios) and min(self.ratios) > 0
        self._demand(
            crops, f"window {self.window}, ratios {self.ratios}", "all above zero, at least one ratio"
        )

    @property
    def kept(self) -> Cells:
        """The cells of one map that are taken."""
        return self.tiles.kept or Cells(0, self.rows, 0, self.cols)

    @property
    def map_rows(self) -> int:
        """Rows of the map put together."""
        return self.kept.rows * self.tiles.rows

    @property
    def map_cols(self) -> int:
        """Columns of the map put together."""
        return self.kept.cols * self.tiles.cols

    @property
    def patches(self) -> int:
        """Cells of one map."""
        return self.rows * self.cols

    @property
    def maps_per_picture(self) -> int:
        """Tiles of a picture."""
        return self.tiles.rows * self.tiles.cols

    @property
    def num_maps(self) -> int:
        """Maps of all pictures: the rows' first axis, a picture's tiles one after the other, row by row."""
        return len(self.pictures) * self.maps_per_picture

    def inside(self, picture: PictureGrid) -> Cells:
        """The cells of the map put together that are searched."""
        return picture.inside or Cells(0, self.map_rows, 0, self.map_cols)

    def check_rows(self, first: tuple[int, ...], second: tuple[int, ...]) -> None:
        """Raises ValueError when rows of these shapes are not those of the pictures, tiles and weights."""
        wanted = f"[{self.num_maps}, layers, heads, {self.patches}]"
        agree = first == second and len(first) == 4 and (first[0], first[3]) == (self.num_maps, self.patches)
        self._demand(agree and min(first) > 0, f"rows {first} and {second}", f"twice {wanted}")
        weights = first[1] if self.weights is None else len(self.weights)
        self._demand(weights == first[1], f"{weights} weights", f"one for each of {first[1]} layers")

    @staticmethod
    def _demand(right: bool, got: str, wanted: str) -> None:
        if not right:
            raise ValueError(f"got {got}, wanted {wanted}")
