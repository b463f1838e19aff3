"""The open engine as one request among many sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from vicrop_engine.counters import Tally
from vicrop_engine.model.answers.greedy import Generation
from vicrop_engine.model.interfaces import Decoder, HelpfulLooks, InstructedEmbeds, VisionTower
from vicrop_engine.model.model import Model
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.prompts import Ids
from vicrop_engine.model.states import of_kind
from vicrop_engine.serving.request_decoder import RequestDecoder
from vicrop_engine.serving.worker_slots import WorkerSlot


@dataclass(frozen=True, kw_only=True)
class RequestModel(Model):
    """The model of one request, which computes only while it has its worker slot."""

    worker: WorkerSlot

    def locked(self, prefix: Prefix) -> AbstractContextManager[object]:
        """Of a prefix that others use too: nothing but for the time of a pass, see `alone_on`."""
        return contextlib.nullcontext()

    def boundary(self) -> None:
        """Let somebody more urgent go first. Raises where going on makes no sense."""
        self.worker.boundary()

    def generate(self, prefix: Prefix, suffix: Ids, max_new_tokens: int) -> Generation:
        """Decoded here and now, beside all others' answers and not with them."""
        return of_kind(RequestDecoder, self.decoder).generate(prefix, suffix, max_new_tokens)

    @contextlib.contextmanager
    def alone_on(self, prefix: Prefix) -> Iterator[None]:
        """With the prefix's buffers to oneself."""
        with self.worker.holding(prefix.lock):
            yield


def request_model(
    model: Model,
    vision: VisionTower,
    decoder: Decoder,
    tally: Tally,
    worker: WorkerSlot,
    instructed: InstructedEmbeds | None,
    helpful_looks: HelpfulLooks | None,
) -> RequestModel:
    """The model's own parts, but for those that compute and count for this request."""
    return RequestModel(
        digest=model.digest,
        manifest=model.manifest,
        provider=model.provider,
        preprocessing=model.preprocessing,
        family=model.family,
        prompts=model.prompts,
        vision=vision,
        decoder=decoder,
        gradients=model.gradients,
        pictures=model.pictures,
        prefixes=model.prefixes,
        tally=tally,
        tools=model.tools,
        device=model.device,
        instructed=instructed,
        helpful_looks=helpful_looks,
        worker=worker,
    )
