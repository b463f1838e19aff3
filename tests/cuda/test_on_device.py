"""What stays on the device, by counters and by the runtime's own tensors; and where it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from PIL import Image

from tests.cuda.builds import seeded
from vicrop_engine import AnswerForm, AskParams, ViCropEngine
from vicrop_engine.counters import Counters
from vicrop_engine.model.decoder_on_device import DeviceDecoder
from vicrop_engine.model.kv_cache import HostKVBuffers
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.states import ImageEmbeds
from vicrop_engine.runtime.device import AttentionRow, DeviceTensor
from vicrop_engine.runtime.device_graph import DeviceGraph
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.request_state import RequestState
from vicrop_engine.vicrop.text_alone import TEXT_ALONE

QUESTION = "What is written on the red sign?"
FEW: dict[str, Any] = {"max_new_tokens": 3}
Floats = npt.NDArray[np.floating]


def spent(engine: ViCropEngine, ask: Callable[[], Any]) -> tuple[Any, Counters]:
    before = asdict(engine.counters)
    result = ask()
    after = asdict(engine.counters)
    return result, Counters(**{name: after[name] - before[name] for name in after})


@pytest.fixture
def decoder(engine: ViCropEngine) -> DeviceDecoder:
    found: Any = engine._model.decoder
    assert isinstance(found, DeviceDecoder)
    return found


@pytest.fixture
def begin(engine: ViCropEngine, decoder: DeviceDecoder) -> Callable[[], Prefix]:
    """Makes the same image prefix again, with room for 64 tokens more; nothing has been run."""
    vision, tokens, device = engine.manifest.vision, engine.manifest.tokens, engine._model.device
    assert device is not None
    shape = (1, vision.image_tokens, engine.manifest.decoder.hidden_size)
    embeds = device.upload(np.random.default_rng(5).standard_normal(shape).astype(np.float16))
    ids = [1, *[tokens.image] * vision.image_tokens]
    return lambda: decoder.begin(ids, [ImageEmbeds(embeds)], len(ids) + 64)


def buffers_of(buffers: HostKVBuffers) -> list[DeviceTensor]:
    sides: list[Any] = [buffers.lower, buffers.upper]
    return [buffer for side in sides for buffer in side.buffers.values()]


def values(buffers: HostKVBuffers) -> list[Floats]:
    return [buffer.value.numpy().copy() for buffer in buffers_of(buffers)]


def test_only_heatmap_and_window_come_to_the_host(
    engine: ViCropEngine, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From pixels to crop: two copies by the counter, and none by the runtime's tensors themselves."""
    taken: list[str] = []
    monkeypatch.setattr(onnxruntime.OrtValue, "numpy", lambda self: taken.append("numpy"))
    monkeypatch.setattr(onnxruntime.IOBinding, "copy_outputs_to_cpu", lambda self: taken.append("copy"))
    for layers in (None, "all"):
        found, cost = spent(engine, lambda layers=layers: engine.locate(picture, QUESTION, layers=layers))
        assert (cost.host_copies, cost.host_bytes) == (2, found.heatmap.nbytes + 4 * 4)
        assert found.heatmap.shape == (16, 16)
        assert found.heatmap.max() > 0
        assert cost.uploads > 0
    assert cost.upper_passes > 0, "layers of the upper graph were read as well"
    assert taken == []


def test_a_whole_ask_brings_logits_heatmap_and_window(engine: ViCropEngine, picture: Image.Image) -> None:
    """Nothing else: image embeds, states between the graphs, keys, values and rows never come."""
    answer, cost = spent(engine, lambda: engine.ask(picture, QUESTION, **FEW))
    tokens = len(answer.first_token_ids) + len(answer.token_ids)
    vocabulary = engine.manifest.decoder.vocab_size
    assert cost.host_copies == tokens + 2
    assert cost.host_bytes == tokens * vocabulary * 2 + answer.heatmap.nbytes + 4 * 4
    _, again = spent(engine, lambda: engine.ask(picture, "How many?", first_answer=False, **FEW))
    assert (again.general_hits, again.prefix_hits, again.general_prefills) == (1, 1, 0)


def test_states_go_from_lower_to_upper_graph_as_the_same_tensor(
    engine: ViCropEngine, decoder: DeviceDecoder, begin: Callable[[], Prefix], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By address: what one graph gives is what the next one is fed."""
    made: dict[str, int] = {}
    real = DeviceGraph._run

    def watched(self: DeviceGraph, binding: Any, feeds: Any, buffers: Any) -> dict[str, DeviceTensor]:
        if self.graph.name == "decoder_upper":
            fed.append((feeds["hidden_states"].address, made["hidden_states"]))
        outputs = real(self, binding, feeds, buffers)
        made.update({name: tensor.address for name, tensor in outputs.items()})
        return outputs

    fed: list[tuple[int, int]] = []
    monkeypatch.setattr(DeviceGraph, "_run", watched)
    output = decoder.prefill(begin(), [[5, 6, 7]])
    decoder.decode(output, 4)
    assert len(fed) == engine.counters.upper_passes == 1 + engine.counters.decode_steps
    assert all(address == wanted for address, wanted in fed)


def test_buffers_stay_where_they_are_and_only_new_rows_are_written(
    decoder: DeviceDecoder, begin: Callable[[], Prefix]
) -> None:
    prefix = begin()
    places = [buffer.address for buffer in buffers_of(prefix.buffers)]
    assert all((rows == 0).all() for rows in values(prefix.buffers))
    assert {rows.dtype for rows in values(prefix.buffers)} == {np.dtype(np.float16)}
    output = decoder.prefill(prefix, [[5, 6, 7], [9, 10]], layers=(1, 3))
    length = output.cache.length
    before = values(prefix.buffers)
    made = decoder.decode(output, 3)
    steps = len(made.ids) - 1
    assert [buffer.address for buffer in buffers_of(prefix.buffers)] == places
    for old, new in zip(before, values(prefix.buffers), strict=True):
        np.testing.assert_array_equal(new[:, :, :length], old[:, :, :length])
        assert (new[:, :, length : length + steps] != 0).any(axis=(0, 1, 3)).all()
        assert (new[:, :, length + steps :] == 0).all()


def test_suffixes_one_after_the_other_are_as_if_each_were_alone(
    decoder: DeviceDecoder, begin: Callable[[], Prefix]
) -> None:
    suffixes = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    together = decoder.prefill(begin(), suffixes, layers=range(4))
    for index, suffix in enumerate(suffixes):
        alone = decoder.prefill(begin(), [suffix], layers=range(4))
        for layer, row in alone.rows(0).items():
            np.testing.assert_allclose(together.rows(index)[layer], row, rtol=2e-2, atol=1e-5)
            assert np.asarray(row).dtype == np.float32
            np.testing.assert_allclose(np.asarray(row).sum(-1), 1, rtol=1e-5)
    alone = decoder.prefill(begin(), [suffixes[0]])
    assert decoder.decode(together, 5).ids == decoder.decode(alone, 5).ids


def test_a_look_alone_waits_for_the_upper_layers(
    engine: ViCropEngine, decoder: DeviceDecoder, begin: Callable[[], Prefix]
) -> None:
    prefix = begin()
    looked = decoder.prefill(prefix, [[9, 10, 11]], answer=False, layers=(1,))
    assert looked.logits is None
    assert prefix.hidden.shape == (1, prefix.length, engine.manifest.decoder.hidden_size)
    with pytest.raises(ValueError, match="lower layers only"):
        decoder.decode(looked, 2)
    after = decoder.decode(decoder.prefill(prefix, [[5, 6]]), 3)
    assert prefix.hidden is None
    assert after.ids == decoder.decode(decoder.prefill(begin(), [[5, 6]]), 3).ids


def test_a_larger_request_moves_the_prefix_on_the_device(
    engine: ViCropEngine, decoder: DeviceDecoder, begin: Callable[[], Prefix]
) -> None:
    prefix, other = begin(), begin()
    decoder.prefill(prefix, [[5, 6]])
    old, capacity = values(prefix.buffers), prefix.buffers.capacity
    _, cost = spent(engine, lambda: decoder.reserve(prefix, capacity + 64))
    assert (cost.prefix_moves, cost.host_copies) == (1, 0)
    for before, after in zip(old, values(prefix.buffers), strict=True):
        assert after.shape[2] == capacity + 64
        np.testing.assert_array_equal(after[:, :, :capacity], before)
        assert (after[:, :, capacity:] == 0).all()
    moved, stayed = (decoder.decode(decoder.prefill(one, [[7, 8]]), 3) for one in (prefix, other))
    assert moved.ids == stayed.ids


def test_rows_asked_for_as_arrays_are_counted_copies(engine: ViCropEngine, picture: Image.Image) -> None:
    """A localizer of one's own sees arrays, as on any engine, and the copies are counted."""

    class Own:
        def layers_read(self, size: tuple[int, int], window: int) -> tuple[int, ...]:
            return (1,)

        def locate(self, state: RequestState) -> Localization:
            rows.append(state.question_rows())
            rows.append(state.general_rows())
            return Localization("own", (0, 0, 300, 300))

    rows: list[Floats] = []
    _, cost = spent(engine, lambda: engine.locate(picture, QUESTION, method=Own()))
    assert [one.shape for one in rows] == [(1, 4, 256)] * 2
    assert cost.host_copies == 2


def test_a_row_is_no_copy_until_it_is_made_an_array(engine: ViCropEngine) -> None:
    device = engine._model.device
    assert device is not None
    tensor = device.upload(np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4))
    row = AttentionRow(device, tensor, 1, 0)[:, slice(1, 3)]
    assert (engine.counters.host_copies, row.copy() is row, row.nbytes) == (0, True, 48)
    np.testing.assert_array_equal(row, [[13, 14], [17, 18], [21, 22]])
    assert engine.counters.host_copies == 1


def test_image_embeds_are_kept_on_the_device(engine: ViCropEngine, picture: Image.Image) -> None:
    engine.locate(picture, QUESTION)
    held = engine._model.vision.cache.values()
    assert held
    assert all(isinstance(embeds, DeviceTensor) for embeds in held)
    engine.check_integrity()


def test_precisions_answer_through_the_same_code(picture: Image.Image) -> None:
    for precision in ("int8", "int4"):
        engine = ViCropEngine.load(seeded(precision), provider="cpu")
        answer = engine.ask(picture, QUESTION, **FEW)
        assert answer.crop_box is not None
        assert answer.engine.precision == precision
        assert answer.engine.provider == "CPUExecutionProvider"


def test_forms_and_text_alone_are_answered_on_the_device(engine: ViCropEngine, picture: Image.Image) -> None:
    """Through a scheduler, which asks such an engine one question at a time."""
    form = AnswerForm(json_schema='{"enum": ["red", "blue"]}', top_logprobs=1, fits=True)
    with Scheduler(engine) as scheduler:
        coloured = scheduler.submit(picture, QUESTION, form=form, history=("User: Hi",)).future.result(60)
        alone = scheduler.submit(None, "Hi?", max_new_tokens=3).future.result(60)
    assert coloured.answer in ('"red"', '"blue"')
    assert coloured.answer_without_crop in ('"red"', '"blue"')
    assert coloured.logprobs is not None
    assert "".join(token.text for token in coloured.logprobs) == coloured.answer
    assert (alone.crop_box, alone.image_size, len(alone.token_ids)) == (None, (0, 0), 3)
    assert alone == engine.answer(TEXT_ALONE, "Hi?", AskParams(max_new_tokens=3))
