"""The graphs of an engine for ONNX Runtime's CUDA provider, as modules to export in float32.

They are those for processors with three operators in another form; `half_graph` makes float16 of them. There
is no gradient graph among them. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from onnxscript import FLOAT
from torch import nn

from vicrop_engine.engine_dir.manifest import GRADIENT
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.modules.decoder import DecoderLayer
from vicrop_export.modules.interfaces import ROWS_AXIS, TAPS, TOTAL_AXIS, Parts, graph_modules
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.ops import contrib as contrib_ops
from vicrop_export.ops.causal_attention import TRANSLATIONS as ATTENTION
from vicrop_export.ops.small import FULL_ATTENTION, Translations, fused_full_attention

BIAS = "attention_bias"


def cuda_modules(
    tensors: CheckpointTensors, model: Parts, num_lower_layers: int, first_heatmap_layer: int
) -> Iterator[tuple[str, nn.Module, GraphInterface]]:
    """Name, module and interface of each graph without a way back, each made when wanted.

    `attention_bias` [1, 1, rows, total] holds the lines of the tapped tokens alone. Raises CheckpointError.
    """
    graphs = graph_modules(
        tensors, model, num_lower_layers, first_heatmap_layer=first_heatmap_layer, batched=False
    )
    for name, module, interface in graphs:
        if name == GRADIENT:
            return
        for part in module.modules():
            if isinstance(part, DecoderLayer):
                part.causal = True
        yield name, module, _of_rows(interface)


def onnx_rms_norm(x: FLOAT, weight: FLOAT, eps: float) -> FLOAT:
    """ONNX Runtime's fused operator, which takes the mean in float32 whatever the type of x."""
    normed: FLOAT = contrib_ops.simplified_layer_normalization(x, weight, axis=-1, epsilon=eps)
    return normed


def _of_rows(interface: GraphInterface) -> GraphInterface:
    """The interface with a bias of the taps alone, where there is one."""
    interface = replace(interface, translations=TRANSLATIONS)
    if BIAS not in interface.inputs:
        return interface
    arguments = list(interface.arguments)
    place = list(interface.inputs).index(BIAS)
    arguments[place] = arguments[place][:, :, list(TAPS)]
    axes = {**interface.axes, BIAS: {2: ROWS_AXIS, 3: TOTAL_AXIS}}
    return replace(interface, arguments=tuple(arguments), axes=axes)


TRANSLATIONS: Translations = {
    **ATTENTION,
    torch.ops.vicrop.rms_norm.default: onnx_rms_norm,
    FULL_ATTENTION: fused_full_attention,
}
