"""The comparisons a build makes with transformers: the exported graphs in float32, and the files written.

Large graphs are run in pieces. Knows which figures are demanded; not how a graph is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vicrop_engine.config import Parity
from vicrop_export.exported import ExportedGraph
from vicrop_export.parity import check_parity, open_whole
from vicrop_export.pieces import PIECE_BYTES, open_in_pieces
from vicrop_export.plan import Plan
from vicrop_export.reference import Probe, Reference
from vicrop_export.tensors import CheckpointTensors

ROUNDED = 1.0  # weights in few bits move logits; only what has nothing to do with the model is above this


def check_exported(
    exported: list[ExportedGraph],
    directory: Path,
    plan: Plan,
    tensors: CheckpointTensors,
    probe: Probe,
    reference: Reference,
) -> Parity:
    """The exported graphs on the checkpoint's float32 weights against transformers, all layers.

    The token table is read from `directory`. Raises ParityError above 1e-4.
    """
    graphs = {graph.name: graph for graph in exported}

    def open_graph(path: Path) -> Any:
        return graphs[path.stem].on_checkpoint(tensors)

    return check_parity(directory, plan.decoder, probe, reference, open_graph=open_graph)


def check_written(directory: Path, plan: Plan, probe: Probe, reference: Reference) -> Parity:
    """The graphs as they were written against transformers in float32. Raises ParityError."""
    limit = {} if plan.precision == "fp32" else {"tolerance": ROUNDED}
    return check_parity(directory, plan.decoder, probe, reference, open_graph=open_fitting, **limit)


def open_fitting(path: Path) -> Any:
    """The graph as one session, or in pieces where its weights are large."""
    data = path.with_name(f"{path.name}.data")
    large = data.is_file() and data.stat().st_size > PIECE_BYTES
    return open_in_pieces(path) if large else open_whole(path)
