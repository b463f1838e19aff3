"""Exports one whole module to a file, and measures what the file computes against the module itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from vicrop_engine.errors import ParityError
from vicrop_export.checks.parity import open_whole, relative_l2
from vicrop_export.onnx_files.export import GraphInterface, export_graph, share
from vicrop_export.onnx_files.external_data import ExternalData

TOLERANCE = 1e-4


def write_module(module: nn.Module, interface: GraphInterface, path: Path) -> None:
    """Write the module as `path` with its weights in `path`.data. Raises BuildError and OSError."""
    model = export_graph(module, interface, path.stem)
    with ExternalData(path) as data:
        for name, value in model.graph.initializers.items():
            if value.const_value is not None:
                value.const_value = data.add(name, value.const_value.numpy())
    share(model)
    ir.save(model, path)


def measure(
    path: Path, module: nn.Module, interface: GraphInterface, probes: Sequence[Sequence[Tensor]]
) -> dict[str, float]:
    """For each output the largest relative L2 distance from the module's over the probes.

    Raises ParityError above 1e-4.
    """
    session = open_whole(path)
    figures = dict.fromkeys(interface.outputs, 0.0)
    for probe in probes:
        feeds = {name: value.numpy() for name, value in zip(interface.inputs, probe, strict=True)}
        got = session.run(list(interface.outputs), feeds)
        for name, values, wanted in zip(interface.outputs, got, _outputs(module, probe), strict=True):
            figures[name] = max(figures[name], relative_l2(values, wanted))
    for name, figure in figures.items():
        if not figure <= TOLERANCE:
            raise ParityError(
                f"the exported {name} are {figure:.1e} (relative L2) from transformers, wanted at most "
                f"{TOLERANCE:.0e}; nothing was made: report this with the checkpoint's config.json"
            )
    return figures


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Seeded normal noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _outputs(module: nn.Module, probe: Sequence[Tensor]) -> list[Any]:
    with torch.no_grad():
        made = module(*probe)
    return [value.numpy() for value in (made if isinstance(made, tuple) else (made,))]
