"""Cells of a data set's rows, checked: a column that is missing or of another type is said by its name."""

from __future__ import annotations

import ast
import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path

from vicrop_engine.errors import DatasetError, ImageError, nearest_key, shown
from vicrop_engine.evaluation.question import PictureFile
from vicrop_engine.images.geometry import Box

Row = Mapping[str, object]


def cell(row: Row, column: str) -> object:
    """The cell. Raises DatasetError where there is no such column."""
    if column not in row:
        raise DatasetError(
            f"a row has no column {column!r}; there are {', '.join(sorted(row))}{nearest_key(column, row)}"
        )
    return row[column]


def text(row: Row, column: str) -> str:
    """A text, or a number as text. Raises DatasetError for anything else."""
    value = cell(row, column)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DatasetError(f"column {column!r} holds {shown(value)}, wanted text")
    return str(value)


def texts(row: Row, column: str) -> tuple[str, ...]:
    """A list of texts, perhaps written as Python writes one. Raises DatasetError for anything else."""
    value = cell(row, column)
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            value = None
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise DatasetError(f"column {column!r} holds {shown(cell(row, column))}, wanted a list of texts")
    return tuple(value)


def numbers(row: Row, column: str) -> tuple[float, ...]:
    """A list of numbers. Raises DatasetError for anything else."""
    value = cell(row, column)
    if not isinstance(value, Sequence) or not all(isinstance(each, int | float) for each in value):
        raise DatasetError(f"column {column!r} holds {shown(value)}, wanted a list of numbers")
    return tuple(float(each) for each in value)


def options(row: Row, letters: str) -> tuple[str, ...]:
    """The columns of these letters as options, up to the first that is missing or empty."""
    found = []
    for letter in letters:
        value = row.get(letter)
        if value is None:
            break
        found.append(str(value))
    return tuple(found)


def picture(row: Row, column: str) -> PictureFile:
    """The picture of a cell: an Image feature left as it lies, encoded bytes, or base64 text.

    Raises DatasetError for another column, ImageError for what holds no picture.
    """
    value = cell(row, column)
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), bytes):
            return bytes(value["bytes"])
        if isinstance(value.get("path"), str):
            return Path(value["path"])
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"column {column!r} is no base64 ({error}); fetch the data set again") from error
    raise ImageError(f"column {column!r} holds {shown(value)}, wanted a picture")


def boxes(row: Row, column: str) -> tuple[Box, ...]:
    """One box x0, y0, x1, y1. Raises DatasetError for what is none."""
    x0, y0, x1, y1 = _four(row, column, numbers(row, column))
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise DatasetError(
            f"column {column!r} holds {shown(cell(row, column))}, wanted corners x0, y0, x1, y1 with x0 < x1 "
            "and y0 < y1"
        )
    return ((x0, y0, x1, y1),)


def rectangles(row: Row, column: str) -> tuple[Box, ...]:
    """Boxes given as x, y, width, height: one, or a list of them. Raises DatasetError for what is none."""
    value = cell(row, column)
    nested = isinstance(value, Sequence) and bool(value) and isinstance(value[0], Sequence)
    found = []
    for each in value if nested and isinstance(value, Sequence) else [value]:
        x, y, width, height = _four(row, column, numbers({column: each}, column))
        found.append((x, y, x + width, y + height))
    return tuple(found)


def _four(row: Row, column: str, values: tuple[float, ...]) -> tuple[int, int, int, int]:
    if len(values) != len(("x", "y", "width", "height")):
        raise DatasetError(f"column {column!r} holds {shown(cell(row, column))}, wanted four numbers")
    first, second, third, fourth = map(round, values)
    return first, second, third, fourth
