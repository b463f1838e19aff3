"""Products of bytes give the exact whole numbers on every x86 from AVX2 up, in every layout that has them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.processors.haswell import run_on_haswell
from tests.products import product_model
from vicrop_engine.runtime.sessions import BYTE_PRODUCT, open_session, session_options
from vicrop_export.precision.block_layout import Blocks
from vicrop_export.precision.layouts import Bytes, Layout
from vicrop_export.precision.prefill_products import AsBytes, prefill_product
from vicrop_export.precision.rules import PRECISIONS

LAYOUTS: dict[str, Layout] = {
    "bytes": Bytes(),
    "tokens of two bytes": Bytes(fine_tokens=True),
    "both of two bytes": Bytes(fine_tokens=True, fine_weights=True),
    "8 bits in blocks": Blocks(8),
    "4 bits in blocks": Blocks(4),
}
SIZES = [(128, 48), (200, 33), (129, 7), (513, 5)]  # inputs and outputs; sums stay below 2^24
OPERATORS = ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
ROWS = (2, 4, 6, 16, 64)  # always an even number: 4 bits in blocks take rows in pairs with AVX-512
ON_HASWELL = (
    f"ROWS = {ROWS}"
    + """
import json, sys
import numpy as np
from vicrop_engine.runtime.sessions import adds_in_16_bits, open_session, session_options
assert adds_in_16_bits()
wrong = []
for case in json.load(open(sys.argv[1] + "/cases.json")):
    options = session_options(1)
    stem = sys.argv[1] + "/" + case["file"]
    model = open(stem + ".onnx", "rb").read()
    session = open_session(model, options, fits_16_bits=case["fits_16_bits"])
    x, wanted = np.load(stem + ".x.npy"), np.load(stem + ".y.npy")
    got = session.run(None, {"x": x})[0]
    if not np.allclose(got, wanted, rtol=case["tolerance"], atol=0):
        wrong.append(case["name"])
    if case["fits_16_bits"]:
        x = np.random.default_rng(0).standard_normal((ROWS[-1], x.shape[1]), np.float32)
        rows = session.run(None, {"x": x})[0]
        for count in ROWS:
            if not np.array_equal(session.run(None, {"x": x[:count]})[0], rows[:count]):
                wrong.append(f"{case['name']}: {count} rows")
print(json.dumps(wrong))
"""
)


@dataclass(frozen=True)
class Case:
    """A graph, its tokens, and the product to the relative `tolerance`: 0 where it is whole numbers."""

    name: str
    model: bytes
    x: np.ndarray
    wanted: np.ndarray
    tolerance: float = 0.0
    fits_16_bits: bool = True


def signs(rows: int, columns: int, seed: int) -> np.ndarray:
    """±1, the first row or column all ones, the second in pairs: the largest sums of neighbours."""
    made = np.random.default_rng(seed).choice([-1.0, 1.0], (rows, columns))
    made[0] = 1
    made[-1] = np.where(np.arange(columns) % 4 < 2, 1, -1)
    return made


def layout_cases() -> list[Case]:
    """For each layout the largest tokens times the largest weights, whose steps are whole numbers."""
    cases = []
    for name, layout in LAYOUTS.items():
        largest_weight, largest_token = (8 if layout == Blocks(4) else 127), 127
        if isinstance(layout, Bytes):
            largest_weight, largest_token = layout.range.weight, layout.range.token
        for size in SIZES:
            ends = signs(size[1], size[0], seed=1)
            weight = largest_weight * (-np.abs(ends) if layout == Blocks(4) else ends)
            arrays = layout.encode(torch.from_numpy(weight).float())
            decoded = layout.decode(arrays)[: size[0]].astype(np.float64)
            assert (decoded == weight.T).all(), "the worst weights are stored as they are"
            x = (largest_token * signs(5, size[0], seed=2)).astype(np.float32)
            wanted = (x @ decoded).astype(np.float32)
            cases.append(Case(f"{name} {size}", product_model(layout.nodes, arrays, size), x, wanted))
            product = prefill_product(layout)
            if product is not None:
                # A byte's step of an output is no whole number here, so that the last bit is rounded.
                tolerance = 1e-6 if isinstance(product, AsBytes) else 0.0
                held = product.encode(arrays, size[0]) if isinstance(product, AsBytes) else arrays
                model = product_model(product.nodes, held, size)
                wanted = (x.astype(np.float64) @ decoded).astype(np.float32)
                cases.append(Case(f"{name} {size}, of a prompt", model, x, wanted, tolerance))
    return cases


def operator_cases() -> list[Case]:
    """Any graph's own operators on bytes: all of 255 times ±127, which is beyond 16 bits twice over."""
    cases = []
    for operator in OPERATORS:
        for size in SIZES:
            weight = (127 * signs(size[1], size[0], seed=3)).T.astype(np.int8)
            x = np.full((3, size[0]), 255, np.uint8)
            if operator == "DynamicQuantizeMatMul":  # its tokens become 0 to 255 with one scale for all
                x = x.astype(np.float32)
            wanted = np.full((3, size[0]), 255.0) @ weight
            cases.append(
                Case(
                    f"{operator} {size}",
                    operator_model(operator, weight),
                    x,
                    wanted,
                    1e-6,
                    fits_16_bits=False,
                )
            )
    return cases


def operator_model(operator: str, weight: np.ndarray) -> bytes:
    initializers = [onnx.numpy_helper.from_array(weight, "w")]
    names = {"MatMulInteger": ["x", "w"], "MatMulIntegerToFloat": ["x", "w", "one", "one"]}
    inputs = names.get(operator, ["x", "w", "one"])
    initializers += [onnx.numpy_helper.from_array(np.float32(1), "one")] if "one" in inputs else []
    domain = "" if operator == "MatMulInteger" else "com.microsoft"
    kind = TensorProto.FLOAT if operator == "DynamicQuantizeMatMul" else TensorProto.UINT8
    result = TensorProto.INT32 if operator == "MatMulInteger" else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], domain=domain)],
        "product",
        [helper.make_tensor_value_info("x", kind, ["rows", weight.shape[0]])],
        [helper.make_tensor_value_info("y", result, None)],
        initializers,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def every_case() -> list[Case]:
    return [*layout_cases(), *operator_cases()]


def test_every_layout_on_bytes_is_here() -> None:
    used = {
        layout
        for precision in (PRECISIONS["int8"], PRECISIONS["int4"])
        for layout in vars(precision).values()
        if isinstance(layout, Bytes | Blocks)
    }
    assert used == set(LAYOUTS.values())


@pytest.mark.parametrize("case", every_case(), ids=lambda case: case.name)
def test_products_are_exact_on_this_processor(case: Case) -> None:
    session = open_session(case.model, session_options(1), fits_16_bits=case.fits_16_bits)
    (got,) = session.run(None, {"x": case.x})
    np.testing.assert_allclose(got, case.wanted, rtol=case.tolerance, atol=0)


@pytest.mark.parametrize("case", layout_cases(), ids=lambda case: case.name)
def test_every_row_is_rounded_alike_however_many_there_are(case: Case) -> None:
    """What answers under load that are equal to the last bit stand on; docs/scheduling.md."""
    session = open_session(case.model, session_options(1), fits_16_bits=True)
    x = np.random.default_rng(0).standard_normal((ROWS[-1], case.x.shape[1]), np.float32)
    (rows,) = session.run(None, {"x": x})
    for count in ROWS:
        np.testing.assert_array_equal(session.run(None, {"x": x[:count]})[0], rows[:count])


def test_products_are_exact_and_rows_alike_with_avx2_alone(tmp_path: Path) -> None:
    listed = []
    for number, case in enumerate(every_case()):
        stem = tmp_path / str(number)
        stem.with_suffix(".onnx").write_bytes(case.model)
        np.save(stem.with_suffix(".x.npy"), case.x)
        np.save(stem.with_suffix(".y.npy"), case.wanted)
        facts = {"tolerance": case.tolerance, "fits_16_bits": case.fits_16_bits}
        listed.append({"file": str(number), "name": case.name, **facts})
    (tmp_path / "cases.json").write_text(json.dumps(listed))
    assert json.loads(run_on_haswell(ON_HASWELL, tmp_path)) == []


def test_without_the_option_products_of_eight_bit_tokens_are_wrong_there(tmp_path: Path) -> None:
    """Or the test above would prove nothing."""
    weight = (127 * signs(33, 200, seed=3)).T.astype(np.int8)
    (tmp_path / "p.onnx").write_bytes(operator_model("MatMulInteger", weight))
    script = """
import sys
import numpy as np
from vicrop_engine.runtime.sessions import open_session, session_options
session = open_session(open(sys.argv[1], "rb").read(), session_options(1), fits_16_bits=True)
print(session.run(None, {"x": np.full((1, 200), 255, np.uint8)})[0][0, 0])
"""
    got = int(run_on_haswell(script, tmp_path / "p.onnx"))
    assert abs(got) < 0.9 * 255 * abs(int(weight[:, 0].astype(int).sum()))


def test_the_product_asked_of_the_runtime_is_what_it_says() -> None:
    axes = [helper.make_tensor_value_info(*facts) for facts in (("x", 2, ["m", "k"]), ("w", 3, ["k", "n"]))]
    result = helper.make_tensor_value_info("y", 6, ["m", "n"])
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "g", axes, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert onnx.load_from_string(BYTE_PRODUCT).SerializeToString() == model.SerializeToString()
