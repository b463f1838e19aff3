"""The open engine as one request among many sees it, and the image prefixes that all requests share."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vicrop_engine.arrays import Floats
from vicrop_engine.byte_cache import ByteCache
from vicrop_engine.images.preprocessing import pixel_digest
from vicrop_engine.model.model import Model
from vicrop_engine.model.prefix_cache import Prefix, PrefixKey
from vicrop_engine.model.prompts import Ids
from vicrop_engine.serving.worker_slots import WorkerSlot
from vicrop_engine.timing import Stopwatch


@dataclass
class SharedPrefix(Prefix):
    """An image prefix that is one request's at a time, for as long as a pass takes."""

    lock: threading.Lock = field(default_factory=threading.Lock)


class SharedPrefixes:
    """Prefixes by key: each is there once while anybody uses it, and kept within `cache_bytes` afterwards."""

    def __init__(self, cache_bytes: int) -> None:
        self._lock = threading.Lock()
        self._live: weakref.WeakValueDictionary[PrefixKey, SharedPrefix] = weakref.WeakValueDictionary()
        self.cache: ByteCache[SharedPrefix] = ByteCache(cache_bytes)

    def get(self, key: PrefixKey) -> SharedPrefix | None:
        """The prefix, in use or kept; None when there is none."""
        with self._lock:
            self.cache.get(key)
            return self._live.get(key)

    def get_or_begin(self, key: PrefixKey, begin: Callable[[], Prefix]) -> tuple[SharedPrefix, bool]:
        """The prefix, begun now if there is none, and whether it was there."""
        with self._lock:
            held = self._live.get(key)
            if held is not None:
                self.cache.get(key)
                return held, True
            made = self._live[key] = SharedPrefix(**vars(begin()))
            return made, False

    def keep(self, key: PrefixKey, prefix: SharedPrefix) -> None:
        """Hold the prefix for later questions, with the bytes it has now."""
        with self._lock:
            self.cache.put(key, prefix)


@dataclass(frozen=True, kw_only=True)
class ServedModel(Model):
    """The model of one request; `shared` are all requests' prefixes, `gradients_lock` lets one compute."""

    shared: SharedPrefixes
    worker: WorkerSlot
    gradients_lock: threading.Lock

    def prefixes_of(
        self, pictures: Sequence[Floats], ids: Ids, capacity: int, watch: Stopwatch
    ) -> Iterator[tuple[PrefixKey, Prefix]]:
        """`Model.prefixes_of`, from those of all requests."""
        keys = [PrefixKey(self.digest, pixel_digest(pixels), ids) for pixels in pictures]
        known = {key: held for key in keys if (held := self.shared.get(key)) is not None}
        new = [pixels for key, pixels in zip(keys, pictures, strict=True) if key not in known]
        if new and ids:
            watch.enter("vision")
        embeds = iter([[one] for one in self.vision.embed_all(new)] if ids else [[]] * len(new))
        for key in keys:
            yield key, self._prefix(key, None if key in known else next(embeds), ids, capacity)

    def keep(self, key: PrefixKey, prefix: Prefix) -> None:
        """Hold the prefix for the next question, with the bytes it has now."""
        assert isinstance(prefix, SharedPrefix), "prefixes of a served model are shared"
        self.shared.keep(key, prefix)

    def boundary(self) -> None:
        """Let somebody more urgent go first. Raises where going on makes no sense."""
        self.worker.boundary()

    @contextlib.contextmanager
    def alone_on(self, prefix: Prefix) -> Iterator[None]:
        """With the prefix's buffers to oneself."""
        assert isinstance(prefix, SharedPrefix), "prefixes of a served model are shared"
        with self.worker.holding(prefix.lock):
            yield

    def _prefix(self, key: PrefixKey, embeds: Any, ids: Ids, capacity: int) -> SharedPrefix:
        prefix, was_there = self.shared.get_or_begin(
            key, lambda: self.decoder.begin(ids, embeds or [], capacity)
        )
        self.tally.add(prefix_hits=was_there, prefix_prefills=not was_there and bool(ids))
        with self.alone_on(prefix):
            self.decoder.reserve(prefix, capacity)
        return prefix
