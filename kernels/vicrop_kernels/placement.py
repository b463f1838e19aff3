"""Between cells and pixels: the window sizes that are tried, and the crop box around the winner.

The arithmetic and its order are those of the published `bbox_from_att_image_adaptive` (arXiv 2502.17422), in
IEEE double. Windows hold at least one cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vicrop_kernels.arguments import Cells, PictureGrid

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class WindowSize:
    """A window in cells, and half the side in pixels of the crop that is centred on it."""

    height: int
    width: int
    half: int


def window_sizes(
    picture: PictureGrid, inside: Cells, window: int, ratios: Sequence[float]
) -> list[WindowSize]:
    """The sizes tried, in order; those from the first on that covers all cells `inside` are left out.

    None at all means that the crop is the whole picture.
    """
    sizes = []
    for ratio in ratios:
        across = min(max(int(window * ratio / picture.cell_width), 1), inside.cols)
        down = min(max(int(window * ratio / picture.cell_height), 1), inside.rows)
        if across == inside.cols and down == inside.rows:
            break
        sizes.append(WindowSize(down, across, int(window * ratio // 2)))
    return sizes


def crop_box(picture: PictureGrid, inside: Cells, size: WindowSize, row: int, col: int) -> Box:
    """The crop around a window whose top left cell is `row`, `col` of those `inside`.

    x0, y0, x1, y1 in pixels, half open, inside the picture.
    """
    corner_x = picture.left + inside.first_col * picture.cell_width
    corner_y = picture.top + inside.first_row * picture.cell_height
    centre_x = int(corner_x + (col * picture.cell_width + picture.cell_width * size.width / 2))
    centre_y = int(corner_y + (row * picture.cell_height + picture.cell_height * size.height / 2))
    x0, x1 = _pushed_inside(centre_x, size.half, picture.size[0])
    y0, y1 = _pushed_inside(centre_y, size.half, picture.size[1])
    return x0, y0, x1, y1


def _pushed_inside(centre: int, half: int, length: int) -> tuple[int, int]:
    centre = max(centre, half)
    centre = min(centre, length - half)
    return max(0, centre - half), min(length, centre + half)
