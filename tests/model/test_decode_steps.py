"""Decode steps: what is bound once, and the same logits whichever way a token is told what it sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vicrop_engine import ViCropEngine
from vicrop_engine.model.answers.greedy import probability
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.forward import DecodeSteps, HostOutput
from vicrop_engine.model.states import of_kind


@pytest.fixture
def decoder(engine: ViCropEngine) -> HostDecoder:
    return of_kind(HostDecoder, engine.model.decoder)


@pytest.fixture
def output(decoder: HostDecoder) -> HostOutput:
    """Nine tokens prefilled, with room for many more."""
    return decoder.prefill(decoder.begin(range(5, 11), (), 64), [(11, 12, 13)])


def test_a_bias_of_all_rows_gives_the_same_as_one_of_those_in_use(
    decoder: HostDecoder, output: HostOutput
) -> None:
    """Also after a later token, whose row is not seen any more."""
    assert decoder.takes_batches
    whole = decoder.steps(output.cache.buffers)
    for length in (9, 10, 9, 11):
        embeds = decoder.table.embed([20 + length])
        alone = decoder.steps(output.cache.buffers)
        wanted = alone.run(embeds, np.array([[length]]), np.zeros((1, 1, 1, length + 1), np.float32))
        assert np.array_equal(whole.after(embeds[0, 0], length), wanted[0])


def test_graphs_that_count_rows_by_their_bias_get_no_more_than_those_in_use(
    decoder: HostDecoder, output: HostOutput
) -> None:
    buffers, biases = output.cache.buffers, []

    def tensor(array: np.ndarray) -> Any:
        if array.ndim == 4:
            biases.append(array.shape[3])
        return decoder._graphs.lower.tensor(array)

    sizes = decoder._vocab_size, decoder.table.rows.shape[1]
    wanted = decoder.steps(buffers).after(decoder.table.rows[7], 9).copy()
    steps = DecodeSteps(buffers, tensor, *sizes)
    assert np.array_equal(steps.after(decoder.table.rows[7], 9), wanted)
    assert biases == [10]


def test_a_token_alone_binds_nothing_after_its_first_step(decoder: HostDecoder, output: HostOutput) -> None:
    steps = decoder.steps(output.cache.buffers)
    bound: list[str] = []

    class Watched:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def bind_ortvalue_input(self, name: str, value: Any) -> None:
            bound.append(name)
            self.inner.bind_ortvalue_input(name, value)

    steps.after(decoder.table.rows[7], 9)
    lower: Any = steps._lower
    session = lower._graph.session
    lower._graph = replace(lower._graph, session=WatchedSession(session))
    lower._binding = Watched(lower._binding)
    steps.after(decoder.table.rows[8], 10)
    assert bound == []
    steps.run(decoder.table.embed([9]), np.array([[11]]), np.zeros((1, 1, 1, 12), np.float32))
    assert bound == ["attention_bias"]


class WatchedSession:
    """Runs what is inside of a watched binding."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def run_with_iobinding(self, binding: Any) -> None:
        self.inner.run_with_iobinding(binding.inner)


def test_the_probability_is_that_of_the_likeliest_token() -> None:
    logits = np.array([0.5, 3.0, -2.0, 2.5], np.float32)
    exact = np.exp(logits.astype(np.float64))
    assert probability(logits, 1) == pytest.approx(exact[1] / exact.sum(), rel=1e-14)
    assert probability(np.array([-1e9, 80, -np.inf], np.float32), 1) == 1
