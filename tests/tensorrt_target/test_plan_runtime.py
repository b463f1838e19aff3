"""The whole engine on plans, with a GPU of host memory in the place of the real one."""

from __future__ import annotations

import gc
import hashlib
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.tensorrt_target.conftest import ARCHITECTURE
from tests.tensorrt_target.fake_gpu import FakeLibrary, FakeTensorRT
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.manifest import GRAPHS, plan_file, read_manifest
from vicrop_engine.errors import EngineDamagedError, ProviderError, RunError
from vicrop_engine.examples import signs
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.states import ImageEmbeds
from vicrop_engine.runtime import cuda, nvidia
from vicrop_engine.runtime.tensorrt_plans import DeviceTensor
from vicrop_export.trt.lengths import plan_lengths

FEW = {"max_new_tokens": 5}
PREFILL, SUFFIX, DECODE = 2, 1, 0  # the order plans have them in
PIXELS = np.random.default_rng(3).integers(0, 256, (400, 500, 3), np.uint8)


class Machine(NamedTuple):
    """A machine with a GPU."""

    library: FakeLibrary
    tensorrt: FakeTensorRT


def machine_for(directory: Path, monkeypatch: pytest.MonkeyPatch, **facts: tuple[int, int]) -> Machine:
    """A driver and TensorRT that know the plans of one engine."""
    manifest, library = read_manifest(directory), FakeLibrary(**facts)
    graphs = {
        hashlib.sha256((directory / plan_file(name, ARCHITECTURE)).read_bytes()).digest(): directory
        / f"{name}.onnx"
        for name in GRAPHS
    }
    module = FakeTensorRT(library, graphs, plan_lengths(manifest.vision, manifest.decoder))
    monkeypatch.setattr(nvidia, "open_library", lambda _name: library)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    return Machine(library, module)


@pytest.fixture
def machine(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return machine_for(directory, monkeypatch)


@pytest.fixture
def on_gpu(directory: Path, machine: Machine) -> ViCropEngine:
    return ViCropEngine.load(directory)


def test_it_answers_as_on_the_cpu(on_gpu: ViCropEngine, on_cpu: ViCropEngine) -> None:
    assert on_gpu.provider == "tensorrt"
    for picture, example in signs()[:12]:
        got, wanted = (engine.ask(picture, example.question, **FEW) for engine in (on_gpu, on_cpu))
        assert (got.answer, got.answer_without_crop) == (wanted.answer, wanted.answer_without_crop)
        assert got.crop_box == wanted.crop_box
        assert got.token_ids == wanted.token_ids
        np.testing.assert_allclose(got.heatmap, wanted.heatmap, rtol=1e-4)
        assert got.engine.provider == "tensorrt"
    on_gpu.check_integrity()


def test_each_pass_takes_the_lengths_it_fits(on_gpu: ViCropEngine, machine: Machine) -> None:
    """Picture and question, then its answer, then the crop after the same prefix, then the final answer."""
    answer = on_gpu.ask(PIXELS, "What is written on the red sign?", **FEW)
    lower = machine.tensorrt.contexts[1]
    assert answer.tokens.decoded > 2
    assert len(lower.pasts) == 2 + (answer.tokens.decoded - 2)  # an answer's first token needs no pass
    assert lower.profiles == [PREFILL, DECODE, SUFFIX, DECODE]
    assert lower.pasts[0] == 0
    assert min(lower.pasts[1:]) >= on_gpu.manifest.vision.image_tokens


def test_keys_and_values_are_written_where_they_stay(on_gpu: ViCropEngine, machine: Machine) -> None:
    """The past is bound at the buffer's start, the new rows right behind it, and nothing is copied."""
    decoder: HostDecoder = on_gpu._model.decoder
    embeds = np.random.default_rng(5).standard_normal((on_gpu.manifest.vision.image_tokens, 128), np.float32)
    ids = [1, *[on_gpu.manifest.tokens.image] * len(embeds)]
    prefix = decoder.begin(ids, [ImageEmbeds(embeds[None])], len(ids) + 64)
    output = decoder.prefill(prefix, [[5, 6, 7]])
    buffers = prefix.buffers.lower.buffers
    before = {name: buffer.numpy() for name, buffer in buffers.items()}
    length = output.cache.length
    made = decoder.decode(output, max_new_tokens=4)
    context = machine.tensorrt.contexts[1]
    for name, buffer in buffers.items():
        assert isinstance(buffer, DeviceTensor)
        row = buffer.tensor_size_in_bytes() // buffer.shape[1]
        now, rows = buffer.numpy(), length + len(made.ids) - 1
        np.testing.assert_array_equal(now[:, :length], before[name][:, :length])
        assert np.isfinite(now[:, :rows]).all()
        assert np.isnan(now[:, rows:]).all()
        assert context.addresses[name] == buffer.address
        present = name.replace("past_key_values", "present")
        assert context.addresses[present] == buffer.address + (rows - 1) * row
    assert machine.library.copied_within == []


def test_larger_buffers_take_the_prefix_along_within_the_device(
    on_gpu: ViCropEngine, on_cpu: ViCropEngine, machine: Machine
) -> None:
    on_gpu.ask(PIXELS, "What is written?", method="none", **FEW)
    long = "What is written on the red sign? " * 6
    got, wanted = (engine.ask(PIXELS, long, **FEW) for engine in (on_gpu, on_cpu))
    assert on_gpu.counters.prefix_moves == 1
    row = 4 * 128
    decoder, rows = on_gpu.manifest.decoder, on_gpu.manifest.vision.image_tokens + 1
    assert machine.library.copied_within == [row * rows] * (2 * decoder.num_layers)
    assert (got.answer, got.crop_box) == (wanted.answer, wanted.crop_box)


def test_all_memory_is_given_back(directory: Path, machine: Machine) -> None:
    engine = ViCropEngine.load(directory)
    engine.ask(PIXELS, "What is written?", **FEW)
    held = engine._model.prefixes.values()[0].buffers.nbytes
    gc.collect()
    assert sum(size for _, size in machine.library.blocks.values()) == held
    del engine
    gc.collect()
    assert not machine.library.blocks
    assert machine.library.calls["cuMemAllocAsync"] == machine.library.calls["cuMemFreeAsync"]


def test_failures_are_sentences(on_gpu: ViCropEngine, machine: Machine) -> None:
    machine.tensorrt.contexts[1].fails = True
    with pytest.raises(RunError, match="decoder_lower failed while running on the GPU"):
        on_gpu.ask(PIXELS, "What is written?", **FEW)
    machine.library.failing = "cuMemAllocAsync"
    with pytest.raises(RunError, match=r"cuMemAllocAsync failed with CUDA_ERROR_OUT_OF_MEMORY \(2\)"):
        on_gpu.ask(PIXELS[::-1], "What is written?", **FEW)


def test_a_pass_longer_than_the_plans_is_refused(on_gpu: ViCropEngine, machine: Machine) -> None:
    machine.tensorrt.profiles = machine.tensorrt.profiles[:1]
    for context in machine.tensorrt.contexts:
        context.engine.num_optimization_profiles = 1
    with pytest.raises(RunError, match=r"decoder_lower was compiled for shorter lengths.*ask a shorter"):
        on_gpu.ask(PIXELS, "What is written?", **FEW)


def test_another_gpu_is_told_what_the_engine_is_for(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_for(directory, monkeypatch, architecture=(9, 0))
    with pytest.raises(
        ProviderError, match=r"GPU is sm_90 and the engine has plans for sm_86; .*--arch sm_90"
    ):
        ViCropEngine.load(directory)


def test_no_driver_no_device_and_no_tensorrt(
    directory: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.library.failing = "cuDeviceGet"
    with pytest.raises(ProviderError, match=r"GPU 0 cannot be used: .*cuDeviceGet"):
        ViCropEngine.load(directory)
    machine.library.failing = ""
    assert cuda.this_gpu() == "sm_86"
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(ProviderError, match=r"pip install 'vicrop-engine\[rtx\]'"):
        ViCropEngine.load(directory)
    monkeypatch.undo()
    monkeypatch.setattr(nvidia, "LIBRARY", "libnosuch.so.1")
    assert cuda.this_gpu() is None
    with pytest.raises(ProviderError, match=r"no NVIDIA driver.*provider='cpu'.*--target cpu"):
        ViCropEngine.load(directory)


def test_a_plan_tensorrt_cannot_read_is_named(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(directory, tmp_path / "engine"))
    machine_for(copy, monkeypatch).tensorrt.graphs.clear()
    with pytest.raises(
        EngineDamagedError, match=r"vision\.sm_86\.plan cannot be read by tensorrt_rtx 0; rebuild"
    ):
        ViCropEngine.load(copy)
