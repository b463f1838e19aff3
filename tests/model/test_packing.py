"""Positions and bias of a pass, against a plain definition of who may look where."""

from __future__ import annotations

import numpy as np
import pytest

from vicrop_engine.model.packing import PackedPrompt


def looked_at(block: PackedPrompt) -> list[list[int]]:
    """For each new token the rows of the buffers it may look at, from the definition."""
    rows = []
    for new in range(block.done, block.prefix):
        rows.append(list(range(new + 1)))
    start = block.prefix
    for length in block.suffixes:
        for index in range(length):
            rows.append([*range(block.prefix), *range(start, start + index + 1)])
        start += length
    return rows


@pytest.mark.parametrize(
    "block",
    [
        PackedPrompt(0, 5, (3, 2)),
        PackedPrompt(5, 5, (3, 2, 4)),
        PackedPrompt(2, 5, (1,)),
        PackedPrompt(7, 7, (1,)),
        PackedPrompt(0, 1, (6,)),
    ],
)
def test_positions_ends_and_bias(block: PackedPrompt) -> None:
    wanted = looked_at(block)
    assert block.num_new == len(wanted)
    assert block.total == block.done + block.num_new
    bias = block.bias()
    assert bias.shape == (1, 1, block.num_new, block.total)
    assert bias.dtype == np.float32
    assert [np.flatnonzero(row == 0).tolist() for row in bias[0, 0]] == wanted
    assert (bias[bias != 0] == -np.inf).all()
    assert block.position_ids.tolist() == [[len(rows) - 1 for rows in wanted]]
    ends = np.cumsum(block.suffixes) + block.prefix - block.done - 1
    assert block.ends.tolist() == ends.tolist()
    assert block.position_ids.dtype == block.ends.dtype == np.int64
