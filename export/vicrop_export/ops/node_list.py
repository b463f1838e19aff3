"""ONNX nodes as they are made one after the other, for what is written as a few operators in a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir


class NodeList:
    """Nodes in the order they were added."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def add(self, kind: str, *inputs: ir.Value, domain: str = "", **attributes: Any) -> ir.Value:
        self.nodes.append(ir.node(kind, list(inputs), attributes, domain=domain))
        return self.nodes[-1].outputs[0]

    def constant(self, value: object, dtype: type[np.generic]) -> ir.Value:
        return self.add("Constant", value=ir.tensor(np.array(value, dtype)))

    def split(self, x: ir.Value, axis: int) -> tuple[ir.Value, ir.Value]:
        self.nodes.append(ir.node("Split", [x], {"axis": axis, "num_outputs": 2}, num_outputs=2))
        first, second = self.nodes[-1].outputs
        return first, second

    def floats(self, x: ir.Value, step: float = 1.0, middle: int | None = None) -> ir.Value:
        """Whole numbers as floats: (x - middle) · step, for bytes quicker than a Cast."""
        offset = () if middle is None else (self.constant(middle, np.uint8),)
        return self.add("DequantizeLinear", x, self.constant(step, np.float32), *offset)
