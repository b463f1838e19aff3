"""A graph run in pieces gives what it gives whole, with no more than a piece's weights at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.engines import STRETCH_168, built
from vicrop_export.checks.parity import open_whole
from vicrop_export.onnx_files.in_pieces import PiecewiseGraph, cut, num_bytes, open_in_pieces

GRAPHS = ("vision", "decoder_lower", "decoder_upper")
AXES = {
    "answers": 2,
    "batch": 1,
    "images": 2,
    "queries": 3,
    "seq": 3,
    "rows": 2,
    "total": 3,
    "capacity": 9,
    "past": 2,
}


@pytest.fixture(params=GRAPHS)
def path(request: pytest.FixtureRequest) -> Path:
    return built(STRETCH_168).engine / f"{request.param}.onnx"


def feeds_for(path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {}
    for port in open_whole(path).get_inputs():
        shape = [AXES[axis] if isinstance(axis, str) else axis for axis in port.shape]
        whole_numbers = port.type == "tensor(int64)"
        feeds[port.name] = np.zeros(shape, np.int64) if whole_numbers else rng.random(shape, np.float32)
    return feeds


def test_pieces_and_the_whole_agree_to_the_bit(path: Path) -> None:
    whole, feeds = open_whole(path), feeds_for(path)
    names = [port.name for port in whole.get_outputs()]
    wanted = whole.run(names, feeds)
    model, small = onnx.load(path, load_external_data=False), 1 << 14
    pieces = PiecewiseGraph(model, open_in_pieces(path)._load, piece_bytes=small)
    assert len(pieces.pieces) > 3
    for name, got, want in zip(names, pieces.run(names, feeds), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6, err_msg=name)


def test_a_piece_holds_no_more_weights_than_it_may(path: Path) -> None:
    graph, limit = onnx.load(path, load_external_data=False).graph, 1 << 15
    pieces = cut(graph, limit)
    for piece in pieces:
        sizes = [num_bytes(weight) for weight in piece.weights]
        assert sum(sizes) <= limit or max(sizes) > limit / 2
    assert sum(len(piece.nodes) for piece in pieces) == len(graph.node)


def test_ports_are_those_of_a_session(path: Path) -> None:
    pieces, whole = open_in_pieces(path), open_whole(path)
    for ours, theirs in (
        (pieces.get_inputs(), whole.get_inputs()),
        (pieces.get_outputs(), whole.get_outputs()),
    ):
        assert [(port.name, list(port.shape)) for port in ours] == [
            (port.name, port.shape) for port in theirs
        ]
