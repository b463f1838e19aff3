"""Forks of KV buffers by length: what still stands after another continuation wrote, and what does not."""

from __future__ import annotations

import pytest

from tests.samples import FakeGraph
from vicrop_engine.model.kv_cache import HostKVBuffers


@pytest.fixture
def buffers() -> HostKVBuffers:
    return HostKVBuffers(FakeGraph(), FakeGraph(), 10)


def test_a_continuation_stands_until_another_goes_back_before_its_end(buffers: HostKVBuffers) -> None:
    question = buffers.write(0, 8, 6)
    answer = question.grown(1)
    assert (answer.length, buffers.holds(question), buffers.holds(answer)) == (7, True, True)
    general = buffers.write(4, 7, 4)
    assert buffers.holds(general)
    assert not buffers.holds(question)
    assert not buffers.holds(answer)
    with pytest.raises(ValueError, match="wrote over these keys and values"):
        question.grown(1)


def test_writing_right_after_its_end_leaves_a_continuation_whole(buffers: HostKVBuffers) -> None:
    prefix = buffers.write(0, 4, 4)
    for _ in range(3):
        fork = prefix.grown(2)
        assert buffers.holds(prefix)
        assert buffers.holds(fork)
    other = prefix.grown(1)
    assert not buffers.holds(fork)
    assert buffers.holds(other)


def test_decoding_after_going_back_makes_the_first_answer_stale(buffers: HostKVBuffers) -> None:
    prefix = buffers.write(0, 4, 4)
    first = prefix.grown(1).grown(1)
    second = prefix.grown(1)
    assert not buffers.holds(first)
    assert buffers.holds(second.grown(1))


def test_no_more_than_there_is_room_for(buffers: HostKVBuffers) -> None:
    buffers.write(0, 10, 10)
    with pytest.raises(ValueError, match="11 tokens do not fit buffers for 10; reserve more"):
        buffers.write(9, 11, 11)
