"""Values wanted by several at once: made once, and an error is its maker's alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vicrop_engine.arrays import Floats
from vicrop_engine.images.single_flight import SingleFlight


def test_what_several_want_is_made_once() -> None:
    flights: SingleFlight[Floats] = SingleFlight(1 << 20)
    begun, go_on, made = threading.Event(), threading.Event(), []

    def make() -> Floats:
        made.append(None)
        begun.set()
        assert go_on.wait(10)
        return np.ones(3, np.float32)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(flights.get, "key", make)
        assert begun.wait(10)
        others = [pool.submit(flights.get, "key", make) for _ in range(3)]
        go_on.set()
        assert all(other.result(10) is first.result(10) for other in others)
    assert len(made) == 1


def test_who_waited_for_an_error_makes_the_value_itself() -> None:
    flights: SingleFlight[Floats] = SingleFlight(1 << 20)
    begun, go_on, value = threading.Event(), threading.Event(), np.ones(3, np.float32)

    def fail() -> Floats:
        begun.set()
        assert go_on.wait(10)
        raise ValueError("of this one alone")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flights.get, "key", fail)
        assert begun.wait(10)
        second = pool.submit(flights.get, "key", lambda: value)
        go_on.set()
        with pytest.raises(ValueError, match="of this one alone"):
            first.result(10)
        assert second.result(10) is value
