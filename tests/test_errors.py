"""Memory that ran out, recognised in what libraries say of it."""

from __future__ import annotations

import pickle

import pytest

from vicrop_engine.errors import (
    NotEnoughMemoryError,
    QuestionError,
    RunError,
    not_enough_memory,
    ran_out_of_memory,
)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        OSError("out of memory when reading image file"),
        RuntimeError("can't start new thread"),
        Exception("[ONNXRuntimeError] : 1 : FAIL : std::bad_alloc"),
        Exception("bad allocation"),
        Exception("Failed to allocate memory for requested buffer of size 134217728"),
        Exception("CUDA failure 2: out of memory ; GPU=0"),
        ImportError("libx.so: failed to map segment from shared object"),
        not_enough_memory("for this"),
    ],
    ids=str,
)
def test_what_means_that_memory_ran_out(error: Exception) -> None:
    assert ran_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(2, "No such file or directory", "out of memory.png"),
        OSError("broken data stream when reading image file"),
        QuestionError("the question 'out of memory?' does not fit"),
        RunError("decoder_lower failed while running (bad_alloc of ours)"),
        ValueError("got 3"),
    ],
    ids=str,
)
def test_what_does_not(error: Exception) -> None:
    assert not ran_out_of_memory(error)


def test_it_is_handed_from_process_to_process_whole() -> None:
    error = pickle.loads(pickle.dumps(not_enough_memory("to run the decoder")))
    assert isinstance(error, NotEnoughMemoryError)
    assert str(error).startswith("not enough memory to run the decoder; give a smaller picture")
