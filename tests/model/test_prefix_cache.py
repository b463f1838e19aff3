"""The byte-bounded cache, and that keys tell pixels apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.samples import FakeGraph
from vicrop_engine.byte_cache import ByteCache
from vicrop_engine.images.preprocessing import pixel_digest
from vicrop_engine.model.kv_cache import HostKVBuffers
from vicrop_engine.model.prefix_cache import Prefix


def block(nbytes: int) -> npt.NDArray[np.float32]:
    return np.zeros(nbytes // 4, np.float32)


def test_the_least_recently_used_goes_first() -> None:
    cache: ByteCache[npt.NDArray[np.float32]] = ByteCache(1000)
    for key in "abc":
        cache.put(key, block(300))
    assert cache.get("a") is not None
    cache.put("d", block(400))
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert cache.nbytes == 1000
    cache.check_integrity()


def test_everything_is_let_go_of_at_once() -> None:
    cache: ByteCache[npt.NDArray[np.float32]] = ByteCache(1000)
    cache.put("a", block(300))
    cache.clear()
    assert (len(cache), cache.nbytes, cache.get("a")) == (0, 0, None)
    cache.check_integrity()


def test_what_is_larger_than_the_bound_is_not_kept_and_pushes_nothing_out() -> None:
    cache: ByteCache[npt.NDArray[np.float32]] = ByteCache(1000)
    cache.put("a", block(800))
    cache.put("b", block(1004))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert len(cache) == 1


def test_putting_again_replaces() -> None:
    cache: ByteCache[npt.NDArray[np.float32]] = ByteCache(1000)
    cache.put("a", block(400))
    cache.put("a", block(600))
    assert (len(cache), cache.nbytes) == (1, 600)
    cache.put("a", block(2000))
    assert (len(cache), cache.nbytes) == (0, 0)
    cache.check_integrity()


def test_a_value_that_grew_unannounced_is_found_out() -> None:
    cache: ByteCache[Prefix] = ByteCache(1000)
    prefix = Prefix(HostKVBuffers(FakeGraph(), FakeGraph(), 0), 0)
    cache.put("a", prefix)
    prefix.general[1] = block(400)
    with pytest.raises(AssertionError, match="0 bytes counted, 400 held"):
        cache.check_integrity()
    cache.put("a", prefix)
    cache.check_integrity()


def test_no_room_at_all() -> None:
    cache: ByteCache[npt.NDArray[np.float32]] = ByteCache(0)
    cache.put("a", block(4))
    assert cache.get("a") is None
    cache.check_integrity()


def test_digests_see_every_value_and_the_shape() -> None:
    pixels = np.random.default_rng(0).random((1, 3, 8, 6), np.float32)
    changed = pixels.copy()
    changed[0, 2, 7, 5] = np.nextafter(changed[0, 2, 7, 5], np.float32(2))
    assert pixel_digest(pixels) == pixel_digest(pixels.copy())
    assert pixel_digest(pixels) != pixel_digest(changed)
    assert pixel_digest(pixels) != pixel_digest(pixels.reshape(1, 3, 6, 8))
