"""The comparisons a build makes with transformers: the exported graphs in float32, and the files written.

Large graphs are run in pieces. Knows which figures are demanded; not how a graph is run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vicrop_engine.engine_dir.manifest import CPU
from vicrop_engine.engine_dir.records import Parity
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checks.parity import (
    TOLERANCE,
    USUAL,
    demand_parity,
    is_within,
    measure_parity,
    open_whole,
    reference_parity,
)
from vicrop_export.checks.reference import Reference
from vicrop_export.onnx_files.exported import ExportedGraph
from vicrop_export.onnx_files.in_pieces import PIECE_BYTES, open_in_pieces
from vicrop_export.plan import Plan
from vicrop_export.probe import Probe

LAST_BIT = 2.0**-23  # of a float32, by which pixels are moved to see what rounding alone may do
OWN_SLACK = 3  # of a limit over how far transformers' own numbers move then
# Relative L2 from float32 of graphs in few bits, for a device: only what has nothing to do with the model is
# above this. Those for a processor are judged product by product, whatever the model makes of it.
ROUNDED = Parity(1.0, 1.0, 1.0)
FAR = 0.5  # from where a build says how badly a checkpoint quantises
logger = logging.getLogger("vicrop_engine.build")


def check_exported(
    exported: list[ExportedGraph],
    directory: Path,
    plan: Plan,
    tensors: CheckpointTensors,
    probe: Probe,
    reference: Reference,
    run_again: Callable[[Probe], Reference],
) -> tuple[Parity, Parity]:
    """The exported graphs on the checkpoint's float32 weights against transformers, all layers; the limits.

    These are 1e-4, or for a model that makes more of rounding, what it makes of it: `run_again` runs
    transformers on another probe. The token table is read from `directory`. Raises ParityError.
    """
    graphs = {graph.name: graph for graph in exported}

    def open_graph(path: Path) -> Any:
        return graphs[path.stem].on_checkpoint(tensors)

    parity = measure_parity(directory, plan.decoder, probe, reference, open_graph=open_graph)
    limits = USUAL if is_within(parity, USUAL) else own_limits(probe, reference, run_again)
    demand_parity(parity, limits)
    return parity, limits


def own_limits(probe: Probe, reference: Reference, run_again: Callable[[Probe], Reference]) -> Parity:
    """What is allowed where transformers' own numbers move when each pixel does by its last bit."""
    moved = replace(probe, picture=probe.picture.moved(LAST_BIT, 0))
    own = reference_parity(run_again(moved), reference, probe)
    return Parity(
        image_embeds=_limit(own.image_embeds),
        attention=_limit(own.attention),
        logits=_limit(own.logits),
        gradient=None if own.gradient is None else _limit(own.gradient),
    )


def _limit(own: float) -> float:
    return max(TOLERANCE, OWN_SLACK * own)


def check_written(
    directory: Path, plan: Plan, probe: Probe, reference: Reference, limits: Parity = USUAL
) -> Parity:
    """The graphs as they were written against transformers in float32; says so where they are FAR from it.

    Raises ParityError above `limits` in float32, and above ROUNDED for a device.
    """
    parity = measure_parity(directory, plan.decoder, probe, reference, open_graph=open_fitting)
    if plan.precision == "fp32":
        demand_parity(parity, limits)
    elif plan.target != CPU:
        demand_parity(parity, ROUNDED)
    figures = {"image embeds": parity.image_embeds, "attention": parity.attention, "logits": parity.logits}
    far = [f"{name} by {figure:.0%}" for name, figure in figures.items() if figure > FAR]
    if far:
        logger.warning(
            "%s moves this checkpoint's %s (relative L2) from float32: answers and crops may be others; "
            "compare them on pictures of your own, or build with --precision fp32 or fp16",
            plan.precision,
            ", ".join(far),
        )
    return parity


def open_fitting(path: Path) -> Any:
    """The graph as one session, or in pieces where its weights are large."""
    data = path.with_name(f"{path.name}.data")
    large = data.is_file() and data.stat().st_size > PIECE_BYTES
    return open_in_pieces(path) if large else open_whole(path)
