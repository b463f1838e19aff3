"""Both flavours of decoder attention as ONNX Runtime runs them, against the definition in torch."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.config import Rope
from vicrop_export.modules.decoder import causal_bias
from vicrop_export.modules.rotary import RotaryAngles
from vicrop_export.ops.attention import TRANSLATIONS, attention
from vicrop_export.quiet import quiet

HEADS, DIM = 4, 16
NAMES = ("query", "key", "value", "past_key", "past_value", "position_ids", "bias", "taps")
FLAVOURS = {"in place": True, "standard": False}
SPARE = 5


class Attention(nn.Module):
    """The operator alone, with the rotation of its positions."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.angles, self.in_place = RotaryAngles(DIM, Rope(10000.0)), in_place

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        past_key: Tensor,
        past_value: Tensor,
        position_ids: Tensor,
        bias: Tensor,
        taps: Tensor,
    ) -> tuple[Tensor, ...]:
        past, rotation = (past_key, past_value), self.angles(position_ids)
        return attention(query, key, value, *past, *rotation, bias, taps, self.in_place)


def values(
    num_past: int, num_new: int, num_rows: int, kv_heads: int, in_place: bool, seed: int = 0
) -> list[Tensor]:
    """Arguments of the module; buffers hold what must not matter beyond the past."""
    random = torch.Generator().manual_seed(seed)
    shapes = [(1, num_new, heads * DIM) for heads in (HEADS, kv_heads, kv_heads)]
    shape = (1, kv_heads, num_past + num_new + SPARE, DIM) if in_place else (1, num_past, kv_heads, DIM)
    past = [torch.randn(shape, generator=random) for _ in range(2)]
    for buffer in past if in_place else ():
        buffer[:, :, num_past:] = 1e6
    positions = torch.arange(num_past, num_past + num_new)[None]
    taps = torch.randperm(num_new, generator=random)[:num_rows]
    projected = [torch.randn(shape, generator=random) for shape in shapes]
    return [*projected, *past, positions, causal_bias(num_new, num_past), taps]


@cache
def exported(kv_heads: int, in_place: bool) -> bytes:
    """The module as ONNX, every length dynamic."""
    past = {2: "capacity"} if in_place else {1: "past"}
    axes: list[Any] = [{1: "seq"}] * 3 + [past] * 2 + [{1: "seq"}, {2: "seq", 3: "total"}, {0: "rows"}]
    with quiet():
        program = torch.onnx.export(
            Attention(in_place).eval(),
            tuple(values(5, 7, 3, kv_heads, in_place)),
            dynamo=True,
            opset_version=18,
            input_names=list(NAMES),
            output_names=["mixed", "rows", "present_key", "present_value"],
            dynamic_shapes=dict(zip(NAMES, axes, strict=True)),
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    assert program is not None
    model: bytes = program.model_proto.SerializeToString()
    return model


def run(model: bytes, arguments: list[Tensor]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {name: value.numpy() for name, value in zip(NAMES, arguments, strict=True)}
    wanted = {value.name for value in session.get_inputs()}
    return list(session.run(None, {name: value for name, value in feeds.items() if name in wanted}))


def check(in_place: bool, arguments: list[Tensor], kv_heads: int) -> None:
    total = arguments[6].shape[3]
    got = run(exported(kv_heads, in_place), arguments)
    wanted = [value.numpy() for value in Attention(in_place)(*arguments)]
    np.testing.assert_allclose(got[0], wanted[0], atol=2e-6)
    np.testing.assert_allclose(got[1], wanted[1], atol=2e-6)
    assert got[2].shape == wanted[2].shape
    for buffer, truth in zip(got[2:], wanted[2:], strict=True):
        used = np.s_[:, :, :total] if in_place else np.s_[:]
        np.testing.assert_allclose(buffer[used], truth[used], atol=2e-6)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize(
    ("num_past", "num_new", "num_rows"), [(0, 9, 2), (0, 1, 1), (6, 5, 0), (6, 5, 5), (30, 1, 0), (30, 1, 1)]
)
def test_lengths(flavour: str, kv_heads: int, num_past: int, num_new: int, num_rows: int) -> None:
    in_place = FLAVOURS[flavour]
    check(in_place, values(num_past, num_new, num_rows, kv_heads, in_place), kv_heads)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("num_past", [0, 1, 6])
def test_suffixes_side_by_side_with_restarted_positions(flavour: str, num_past: int) -> None:
    in_place = FLAVOURS[flavour]
    arguments = values(num_past, 9, 2, 2, in_place)
    arguments[5][0, 6:] -= 4
    arguments[6][:, :, 6:, num_past + 2 : num_past + 6] = -torch.inf
    check(in_place, arguments, 2)


def test_the_definition_is_attention_and_a_past_makes_no_difference() -> None:
    """Torch's own attention on the whole sequence; the last tokens after the first ones as their past."""
    random = torch.Generator().manual_seed(3)
    projected = [torch.randn(1, 8, HEADS * DIM, generator=random) for _ in range(3)]
    still = torch.ones(1, 1, 8, DIM // 2), torch.zeros(1, 1, 8, DIM // 2)
    past, last = [torch.zeros(1, 0, HEADS, DIM)] * 2, torch.tensor([7])
    mixed, rows, *_ = attention(*projected, *past, *still, causal_bias(8, 0), last, False)
    split = [x.reshape(1, 8, HEADS, DIM).transpose(1, 2) for x in projected]
    wanted = nn.functional.scaled_dot_product_attention(*split, is_causal=True)
    torch.testing.assert_close(mixed, wanted.transpose(1, 2).flatten(2))
    torch.testing.assert_close(rows.sum(-1), torch.ones(1, HEADS))
    for start, stop in ((0, 6), (6, 8)):
        part = [x[:, start:stop] for x in projected]
        turned = [x[:, :, start:stop] for x in still]
        bias = causal_bias(stop - start, start)
        later, _, *new = attention(*part, *past, *turned, bias, last[:0], False)
        past = [torch.cat(pair, dim=1) for pair in zip(past, new, strict=True)]
        torch.testing.assert_close(later, mixed[:, start:stop])


def test_each_flavour_has_only_the_operators_it_may_have() -> None:
    for kv_heads in (2, 4):
        standard = onnx.load_from_string(exported(kv_heads, False))
        assert {node.domain for node in standard.graph.node} <= {"", "ai.onnx"}
        fused = onnx.load_from_string(exported(kv_heads, True)).graph.node
        contrib = [node.op_type for node in fused if node.domain == "com.microsoft"]
        assert sorted(contrib) == ["FusedMatMul", "GroupQueryAttention", "RotaryEmbedding", "RotaryEmbedding"]
