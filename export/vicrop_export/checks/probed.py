"""What the graphs just written give for the probe, and how far from that they may be on another processor.

Rounding differs between processors by about a millionth, and tokens that are rounded to bytes may make much
of that: how much is measured by moving the input so far, and by the twins that multiply otherwise. Graphs
larger than memory are run in pieces.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.manifest import PREFILL, PROBE, WIDE, Manifest
from vicrop_engine.engine_dir.records import Probed
from vicrop_engine.model.positions import counted, next_position, positions_of
from vicrop_engine.model.probe import SLACK, Outputs, ProbeInput, distances
from vicrop_engine.model.states import on_host
from vicrop_engine.runtime.proofs import this_machine
from vicrop_export.checks.against_transformers import open_fitting
from vicrop_export.checks.parity import EngineGraphs, OpenGraph

MOVED = 1e-6  # of each pixel, as far as sums of float32 may be apart
MOVES, MOVES_OF_LARGE = 3, 1


def with_probe(directory: Path, manifest: Manifest, given: ProbeInput, *, large: bool) -> Manifest:
    """Write the probe's outputs into an engine that has all else but its manifest, and give it with them.

    A `large` model's input is moved once. Raises OSError.
    """
    usual = _graphs(directory, manifest, given, open_fitting)
    wanted = graph_outputs(usual, manifest, given)
    others = [
        graph_outputs(usual, manifest, given.moved(MOVED, seed))
        for seed in range(1, 1 + (MOVES_OF_LARGE if large else MOVES))
    ]
    if manifest.twins:
        others.append(graph_outputs(_graphs(directory, manifest, given, open_twin), manifest, given))
    found = [distances(other, wanted) for other in others]
    arrays: dict[str, Any] = {**wanted}
    np.savez(directory / PROBE, **arrays)
    here = this_machine()
    tolerances = {name: SLACK * max(each[name] for each in found) for name in wanted}
    probed = Probed(here.processor, here.onnxruntime, tolerances)
    return replace(manifest, probe=probed, files=manifest.files | {PROBE: hash_file(directory / PROBE)})


def open_twin(path: Path) -> object:
    """The twin of a graph that differs most from it, where it has one."""
    twins = (path.with_name(f"{path.stem}{kind}.onnx") for kind in (WIDE, PREFILL))
    return open_fitting(next((twin for twin in twins if twin.is_file()), path))


def graph_outputs(graphs: EngineGraphs, manifest: Manifest, given: ProbeInput) -> Outputs:
    """What the runtime's `run_probe` gives, of graphs without a runtime."""
    graphs.forget()
    image = given.shown(graphs.image_embeds(given.inputs.arrays, given.inputs.instruction))
    shown, axes = on_host(image.states), manifest.decoder.position_axes
    prompt = np.concatenate((graphs.embed(given.before), shown, graphs.embed(given.after)), axis=1)
    is_image = np.zeros(prompt.shape[1], bool)
    is_image[len(given.before) :][: shown.shape[1]] = True
    positions = positions_of(is_image, [image.offsets], 0, axes)
    rows, logits = graphs.forward(prompt, positions, taps=[len(is_image) - 1])
    all_logits = [logits[0]]
    for number, id in enumerate(given.steps, next_position(positions)):
        all_logits.append(graphs.forward(graphs.embed([id]), counted(number, 1, axes), taps=[])[1][0])
    attention = rows[list(manifest.crop.layers), 0, :, : len(is_image)]
    flat = shown.reshape(-1, shown.shape[-1])
    return {"image_embeds": flat, "attention": attention, "logits": np.stack(all_logits)}


def _graphs(directory: Path, manifest: Manifest, given: ProbeInput, open_graph: OpenGraph) -> EngineGraphs:
    capacity = len(given.ids) + manifest.vision.image_tokens
    return EngineGraphs(directory, manifest.decoder, capacity, open_graph)
