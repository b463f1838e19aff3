"""The KV cache in place: one address for good, nothing copied to fork, one pass for suffixes side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vicrop_engine import ViCropEngine
from vicrop_engine.counters import Counters
from vicrop_engine.errors import RunError, SettingError
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.forward import HostOutput
from vicrop_engine.model.kv_cache import HostKVBuffers
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.states import ImageEmbeds
from vicrop_engine.vicrop.answer import Answer

QUESTION = "What is written on the red sign?"
FEW = {"max_new_tokens": 4}
Floats = npt.NDArray[np.float32]


@pytest.fixture
def decoder(engine: ViCropEngine) -> HostDecoder:
    return engine._model.decoder


@pytest.fixture
def begin(engine: ViCropEngine, decoder: HostDecoder) -> Callable[[], Prefix]:
    """Makes the same image prefix again, with room for 64 tokens more; nothing has been run."""
    vision, tokens = engine.manifest.vision, engine.manifest.tokens
    shape = (vision.image_tokens, engine.manifest.decoder.hidden_size)
    embeds = np.random.default_rng(5).standard_normal(shape, np.float32)
    ids = [1, *[tokens.image] * vision.image_tokens]
    return lambda: decoder.begin(ids, [ImageEmbeds(embeds[None])], len(ids) + 64)


def arrays(buffers: HostKVBuffers) -> list[Floats]:
    graphs = (buffers.lower, buffers.upper)
    return [buffer.numpy() for graph in graphs for buffer in graph.buffers.values()]


def addresses(buffers: HostKVBuffers) -> list[int]:
    return [array.ctypes.data for array in arrays(buffers)]


def spent(engine: ViCropEngine, ask: Callable[[], Any]) -> Counters:
    before = asdict(engine.counters)
    ask()
    return Counters(**{name: value - before[name] for name, value in asdict(engine.counters).items()})


def test_no_graph_outputs_attention_of_all_tokens(engine: ViCropEngine) -> None:
    """From the graphs themselves: no output has an axis of new tokens beside one of keys."""
    graphs = engine._model.decoder._graphs
    shapes = {
        f"{graph.name}.{output.name}": output.shape
        for graph in (graphs.lower, graphs.upper, graphs.vision)
        for output in graph.session.get_outputs()
    }
    assert shapes["decoder_lower.attention"] == [2, "rows", 4, "total"]
    assert shapes["decoder_upper.attention"] == [2, "rows", 4, "total"]
    assert shapes["decoder_lower.hidden_states"] == [1, "seq", 64]
    assert shapes["decoder_upper.logits"] == ["answers", 454]
    present = {name: shape for name, shape in shapes.items() if ".present." in name}
    assert len(present) == 8
    assert all(shape == ["batch", 2, "capacity", 16] for shape in present.values())
    for name, shape in shapes.items():
        assert sum(axis in ("seq", "total", "capacity") for axis in shape) <= 1, name


def test_buffers_stay_where_they_are_and_only_the_new_row_is_written(
    decoder: HostDecoder, begin: Callable[[], Prefix]
) -> None:
    prefix = begin()
    output = decoder.prefill(prefix, [[5, 6, 7]])
    places = addresses(prefix.buffers)
    length = output.cache.length
    for steps in (1, 2, 5):
        before = [array.copy() for array in arrays(prefix.buffers)]
        made = decoder.decode(output, max_new_tokens=steps + 1)
        assert len(made.ids) == steps + 1
        assert addresses(prefix.buffers) == places
        for old, new in zip(before, arrays(prefix.buffers), strict=True):
            np.testing.assert_array_equal(new[:, :, :length], old[:, :, :length])
            assert (new[:, :, length : length + steps] != 0).any(axis=(0, 1, 3)).all()
            assert (new[:, :, length + steps :] == 0).all()


def test_suffixes_side_by_side_are_as_if_each_were_alone(
    decoder: HostDecoder, begin: Callable[[], Prefix]
) -> None:
    suffixes = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    layers = range(4)
    together = decoder.prefill(begin(), suffixes, layers=layers)
    for index, suffix in enumerate(suffixes):
        alone = decoder.prefill(begin(), [suffix], layers=layers)
        total = alone.cache.length
        for layer in layers:
            wanted, got = alone.rows(0)[layer], together.rows(index)[layer]
            assert wanted.shape == (4, total)
            start = total - len(suffix)
            own = start + sum(map(len, suffixes[:index]))
            columns = [*range(start), *range(own, own + len(suffix))]
            np.testing.assert_allclose(got[:, columns], wanted, rtol=1e-5)
            assert (np.delete(got, columns, axis=1) == 0).all()
        if index == 0:
            np.testing.assert_array_equal(together.logits, alone.logits)
            assert decoder.decode(together, 5) == decoder.decode(alone, 5)


def test_what_waits_for_the_upper_layers_goes_up_with_the_next_suffix(
    engine: ViCropEngine, decoder: HostDecoder, begin: Callable[[], Prefix]
) -> None:
    prefix, fresh = begin(), begin()
    looked = decoder.prefill(prefix, [[9, 10, 11]], answer=False, layers=(1,))
    assert looked.logits is None
    assert prefix.embeds is None
    assert prefix.hidden is not None
    with pytest.raises(ValueError, match="lower layers only"):
        decoder.decode(looked, 2)
    cost = spent(
        engine, lambda: check_equal(decoder.prefill(prefix, [[5, 6]]), decoder.prefill(fresh, [[5, 6]]))
    )
    assert prefix.hidden is None
    assert (cost.lower_passes, cost.upper_passes) == (2, 2)
    assert cost.upper_tokens == 2 * (prefix.length + 2)
    assert cost.lower_tokens == prefix.length + 4


def check_equal(one: HostOutput, other: HostOutput) -> None:
    assert one.logits is not None
    np.testing.assert_array_equal(one.logits, other.logits)


def test_a_stale_continuation_is_refused(decoder: HostDecoder, begin: Callable[[], Prefix]) -> None:
    prefix = begin()
    first = decoder.prefill(prefix, [[5, 6]])
    decoder.prefill(prefix, [[7]])
    with pytest.raises(ValueError, match="another continuation wrote over"):
        decoder.decode(first, 3)


@pytest.mark.parametrize("keywords", [{}, {"localize": "sign?"}, {"layers": "all"}])
def test_a_new_picture_takes_one_pass_and_the_crop_another(
    engine: ViCropEngine, picture: Image.Image, keywords: dict[str, str]
) -> None:
    """The first answer's second token goes along with the crop, its others with the final answer's."""
    answers: list[Answer] = []
    cost = spent(engine, lambda: answers.append(engine.ask(picture, QUESTION, **FEW, **keywords)))
    first, final = len(answers[0].first_token_ids), len(answers[0].token_ids)
    assert first > 2
    assert cost.lower_passes == cost.upper_passes == 2 + max(first - 2, final - 1)
    assert cost.decode_steps == first - 1 + final - 1


def test_without_the_first_answer_the_upper_layers_run_once(
    engine: ViCropEngine, picture: Image.Image
) -> None:
    cost = spent(engine, lambda: engine.ask(picture, QUESTION, first_answer=False, **FEW))
    assert (cost.lower_passes, cost.upper_passes) == (2 + cost.decode_steps, 1 + cost.decode_steps)
    other, box = picture.rotate(90), (10, 10, 400, 400)
    cost = spent(engine, lambda: engine.ask(other, QUESTION, first_answer=False, box=box, **FEW))
    assert (cost.lower_passes, cost.upper_passes) == (1 + cost.decode_steps, 1 + cost.decode_steps)


def test_a_larger_request_moves_the_prefix_once_and_changes_nothing(
    engine: ViCropEngine, engine_directory: Path, picture: Image.Image
) -> None:
    engine.ask(picture, QUESTION, method="none", **FEW)
    cost = spent(engine, lambda: engine.ask(picture, QUESTION, **FEW))
    assert (cost.prefix_hits, cost.prefix_moves) == (1, 1)
    cost = spent(engine, lambda: engine.ask(picture, "How many people?", **FEW))
    assert (cost.prefix_hits, cost.prefix_moves) == (1, 0)
    engine.check_integrity()
    fresh = ViCropEngine.load(engine_directory)
    wanted, answer = (made.ask(picture, QUESTION, **FEW) for made in (fresh, engine))
    assert (answer.token_ids, answer.crop_box) == (wanted.token_ids, wanted.crop_box)
    assert answer.confidence == wanted.confidence


def test_a_cached_picture_counts_all_of_its_buffers(engine: ViCropEngine, picture: Image.Image) -> None:
    engine.ask(picture, QUESTION, **FEW)
    decoder, prefixes = engine.manifest.decoder, engine._model.prefixes
    (prefix,) = prefixes.values()
    row = 2 * decoder.num_layers * decoder.num_kv_heads * decoder.head_dim * 4
    assert prefix.buffers.nbytes == prefix.buffers.capacity * row
    general = decoder.num_lower_layers * decoder.num_heads * 16 * 16 * 4
    assert prefixes.nbytes == prefix.buffers.nbytes + general
    tokens = 2 * engine.manifest.vision.image_tokens
    assert tokens < prefix.buffers.capacity < tokens + 192


def test_a_request_that_does_not_fit_reserves_nothing(engine: ViCropEngine, picture: Image.Image) -> None:
    with pytest.raises(SettingError, match="context of 2048"):
        engine.ask(picture, QUESTION, max_new_tokens=1990)
    assert engine.counters == Counters()
    assert len(engine._model.prefixes) == 0


def test_a_failing_run_leaves_a_prefix_that_can_be_used(
    engine: ViCropEngine, engine_directory: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vicrop_engine.model.forward.NO_TAPS", np.zeros(3, np.float64))
        with pytest.raises(RunError, match="decoder_lower failed while running"):
            engine.ask(picture, QUESTION, method="none", **FEW)
    engine.check_integrity()
    answer, wanted = (
        made.ask(picture, QUESTION, **FEW) for made in (engine, ViCropEngine.load(engine_directory))
    )
    assert engine.counters.prefix_hits == 1
    assert answer.token_ids == wanted.token_ids
