"""A step for several sequences is the same as a step for each: rows and logits, to the last bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.serving.conftest import Small
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.kv_cache import KVArena
from vicrop_export.ops.attention import attention

LENGTHS = np.array([40, 7, 129, 64, 1, 90])
Floats = npt.NDArray[np.float32]


def filled(decoder: HostDecoder, seed: int) -> KVArena:
    arena = decoder.arena(len(LENGTHS), 192)
    random = np.random.default_rng(seed)
    for arrays in (arena.lower, arena.upper):
        for array in arrays.values():
            array[:] = 0.3 * random.standard_normal(array.shape, np.float32)
    return arena


def step(decoder: HostDecoder, arena: KVArena, slots: list[int], tokens: list[int]) -> Floats:
    """Logits of one token more in these slots, which are moved to the front first."""
    lengths = LENGTHS[slots]
    for place, slot in enumerate(slots):
        arena.move(slot, place, arena.capacity)
    bias = np.where(np.arange(lengths.max() + 1) <= lengths[:, None], np.float32(0), np.float32(-np.inf))
    steps = decoder.steps(arena.first(len(slots)), len(slots))
    return steps.run(decoder.table.embed(tokens), lengths[None], bias[:, None, None])


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_a_step_of_several_sequences_is_a_step_of_each(small: Small, precision: str) -> None:
    """In pairs, for the four-bit kernels round a single row in another way."""
    decoder = small(precision).model.decoder
    together = filled(decoder, 1)
    logits = step(decoder, together, [0, 1, 2, 3, 4, 5], [3, 9, 27, 81, 5, 15])
    for first, tokens in ((0, [3, 9]), (2, [27, 81]), (4, [5, 15])):
        alone = filled(decoder, 1)
        assert np.array_equal(step(decoder, alone, [first, first + 1], tokens), logits[first : first + 2])
        for arrays, others in ((alone.lower, together.lower), (alone.upper, together.upper)):
            for name, array in arrays.items():
                assert np.array_equal(array[:2], others[name][first : first + 2])


def test_slots_of_an_arena_are_of_one_memory(small: Small) -> None:
    arena = small("fp32").model.decoder.arena(4, 64)
    buffers = arena.first(3)
    for arrays, graph in ((arena.lower, buffers.lower), (arena.upper, buffers.upper)):
        assert list(graph.buffers) == list(arrays)
        for name, tensor in graph.buffers.items():
            assert tensor.numpy().ctypes.data == arrays[name].ctypes.data
            assert tensor.numpy().shape == arrays[name][:3].shape


def test_the_definition_of_attention_takes_each_sequence_by_itself() -> None:
    """In torch, as the exporter sees it: three sequences of which each sees its own rows alone."""
    seeded = torch.Generator().manual_seed(0)
    lengths, heads, kv_heads, dim, capacity = (4, 0, 9), 4, 2, 8, 16
    query, key, value = (torch.randn(1, 3, n * dim, generator=seeded) for n in (heads, kv_heads, kv_heads))
    past = [torch.randn(3, kv_heads, capacity, dim, generator=seeded) for _ in range(2)]
    angles = torch.tensor(lengths, dtype=torch.float32)[None, None, :, None] * torch.rand(dim // 2)
    bias = torch.full((3, 1, 1, max(lengths) + 1), float("-inf"))
    for index, length in enumerate(lengths):
        bias[index, ..., : length + 1] = 0
    none = torch.zeros(0, dtype=torch.int64)
    mixed, _, keys, values = attention(query, key, value, *past, angles.cos(), angles.sin(), bias, none, True)
    for index, length in enumerate(lengths):
        own = slice(index, index + 1)
        alone = attention(
            *(x[:, own] for x in (query, key, value)),
            *(x[own] for x in past),
            *(angles[:, :, own].cos(), angles[:, :, own].sin()),
            torch.zeros(1, 1, 1, length + 1),
            none,
            True,
        )
        for together, expected in ((mixed[:, own], alone[0]), (keys[own], alone[2]), (values[own], alone[3])):
            torch.testing.assert_close(together, expected, rtol=0, atol=1e-6)
