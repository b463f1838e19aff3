"""Rows taken by DLPack from the runtime's tensors: seen where they lie, for NumPy and for Triton alike."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnxruntime
import torch
from torch.utils.dlpack import from_dlpack

from vicrop_kernels.dlpack_operator import DeviceRow, gathered

PROGRAM = """
import numpy as np, onnxruntime
from vicrop_kernels.arguments import Arguments, Cells, PictureGrid, Tiles
from vicrop_kernels.dlpack_operator import DeviceRow, locate

noise = np.random.default_rng(0)
def rows(layers):
    values = noise.random((3, 2, 4, 40), np.float32)
    tensor = onnxruntime.OrtValue.ortvalue_from_numpy(values)
    return [DeviceRow(tensor._ortvalue, layer, 1, slice(2, 38)) for layer in layers], tensor

for maps, tiles in ((1, Tiles()), (4, Tiles(2, 2, Cells(0, 6, 1, 5), True))):
    for layers in ((1, 2), (2, 0)):
        made = [[rows(layers) for _ in range(maps)] for _ in range(2)]
        first, second = ([one for one, _ in part] for part in made)
        told = Arguments(6, 6, (PictureGrid((900, 500), 0.0, 0.0, 70.0, 40.0),), 168, (1.0, 1.4), tiles=tiles)
        wanted, got = (locate(first, second, told, on_gpu=on_gpu) for on_gpu in (False, True))
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
        np.testing.assert_array_equal(got[1], wanted[1])
        print(got[1].tolist())
"""


def row(tensor: object, layer: int, number: int) -> DeviceRow:
    return DeviceRow(tensor, layer, number, slice(1, 4))


def test_rows_that_follow_each_other_are_not_copied() -> None:
    values = np.arange(2 * 3 * 2 * 5, dtype=np.float32).reshape(2, 3, 2, 5)
    held = onnxruntime.OrtValue.ortvalue_from_numpy(values)
    tensor = held._ortvalue
    seen = gathered([[row(tensor, 0, 2), row(tensor, 1, 2)]], np.from_dlpack, np.stack)
    assert np.shares_memory(seen, values)
    np.testing.assert_array_equal(seen, values[None, :, 2, :, 1:4])
    apart = gathered([[row(tensor, 1, 0), row(tensor, 0, 0)]] * 2, np.from_dlpack, np.stack)
    np.testing.assert_array_equal(apart, np.stack([values[::-1, 0, :, 1:4]] * 2))
    on_torch = gathered([[row(tensor, 0, 2), row(tensor, 1, 2)]], from_dlpack, torch.stack)
    assert on_torch.data_ptr() == held.data_ptr() + 4 * (2 * 2 * 5 + 1)
    np.testing.assert_array_equal(on_torch.numpy(), seen)


def test_tritons_operator_takes_them_as_numpys_does() -> None:
    """The way of a GPU under Triton's interpreter, in a process of its own, where that is chosen."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
