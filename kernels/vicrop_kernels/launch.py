"""How the Triton kernel is launched: programs, blocks, options, and the numbers it reads of every picture."""

from __future__ import annotations

from vicrop_kernels.arguments import Arguments, Mode, PictureGrid
from vicrop_kernels.placement import window_sizes

BLOCKS = {
    **{"BLOCK_PATCHES": 64, "BLOCK_HEADS": 32, "BLOCK_CELLS": 256, "BLOCK_SIDE": 32},
    **{"BLOCK_SIZES": 8, "BLOCK_PLACES": 64},
}
WARPS = 8
OPTIONS = {"num_warps": WARPS, "maxnreg": 128, "enable_fp_fusion": False}
"""Room for every register without a spill; products rounded before they are added, as on a processor."""


def num_programs(arguments: Arguments) -> int:
    """Programs of one launch: one for every BLOCK_PATCHES patches of every map."""
    return arguments.num_maps * -(-arguments.patches // BLOCKS["BLOCK_PATCHES"])


def constants(mode: Mode, num_ratios: int) -> dict[str, int | bool]:
    """What the kernel is compiled for; up to eight ratios are one kernel's."""
    sizes = max(BLOCKS["BLOCK_SIZES"], 1 << (num_ratios - 1).bit_length())
    return {"GRADIENT": mode == "gradient", **BLOCKS, "BLOCK_SIZES": sizes}


def corners(arguments: Arguments) -> list[list[float]]:
    """How the map lies on every picture, in pixels [batch, 4]: left, top, cell width, cell height."""
    return [[each.left, each.top, each.cell_width, each.cell_height] for each in arguments.pictures]


def facts(arguments: Arguments) -> list[list[int]]:
    """The whole numbers of every picture [batch, 7 + 3 * ratios].

    First and last row and column inside; width and height; how many window sizes are tried; height, width and
    half side of each.
    """
    return [_facts(arguments, picture) for picture in arguments.pictures]


def _facts(arguments: Arguments, picture: PictureGrid) -> list[int]:
    inside = arguments.inside(picture)
    sizes = window_sizes(picture, inside, arguments.window, arguments.ratios)
    windows = [number for size in sizes for number in (size.height, size.width, size.half)]
    unused = [0] * (3 * (len(arguments.ratios) - len(sizes)))
    edges = [inside.first_row, inside.last_row, inside.first_col, inside.last_col]
    return [*edges, *picture.size, len(sizes), *windows, *unused]
