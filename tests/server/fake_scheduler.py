"""A scheduler whose handles end when the test says so."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tests.server.running import MODEL, wait_until
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import read_manifest
from vicrop_engine.engine_dir.registry import find_engine
from vicrop_engine.errors import ViCropError
from vicrop_engine.server.ops.readiness import QUESTION
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.vicrop.answer import Answer, EngineInfo, TokenCounts
from vicrop_engine.vicrop.params import AskParams


def an_answer(text: str = "K7", **more: Any) -> Answer:
    """An answer as an engine would give it, without a crop, ended by the model's end sign."""
    end = read_manifest(find_engine(MODEL)).tokens.eos[0]
    facts: dict[str, Any] = {
        "answer": text,
        "answer_without_crop": text,
        "method": "rel-att",
        "high_res": False,
        "crop_box": None,
        "image_size": (20, 20),
        "heatmap": None,
        "heatmap_box": None,
        "layers": (3,),
        "confidence": 0.5,
        "timings": {"prefill": 0.25, "decode": 0.5, "total": 0.75},
        "tokens": TokenCounts(prefill=100, reused=40, decoded=5),
        "engine": EngineInfo(MODEL, "fp32", "CPUExecutionProvider"),
        "token_ids": (7, 8, end),
    }
    return Answer(**(facts | more))


@dataclass
class Submitted:
    """What was submitted and its handle."""

    handle: RequestHandle
    image: Any
    question: str
    params: AskParams | None
    keywords: dict[str, Any]


class FakeScheduler:
    """Takes everything, or raises `refuse`; the warm-up's question is answered unless `cold`.

    With an `answer` every other one ends with it at once, after 0.03 seconds in the queue and 2 to a token.
    """

    def __init__(self, *, refuse: ViCropError | None = None, cold: bool = False) -> None:
        self.engine = SimpleNamespace(model=SimpleNamespace(manifest=read_manifest(find_engine(MODEL))))
        self.running, self.waiting, self.kv_usage = 3, 2, 0.25
        self.refuse, self.cold = refuse, cold
        self.answer: Answer | None = None
        self.tally: dict[str, int] = {}
        self.shared = False
        self.warm_up: RequestHandle | None = None
        self.submitted: list[Submitted] = []

    def submit(
        self,
        image: Any,
        question: str,
        params: AskParams | None = None,
        *,
        deadline: float | None = None,
        **keywords: Any,
    ) -> RequestHandle:
        handle = RequestHandle(len(self.submitted), deadline or 60.0, Tally())
        if question == QUESTION:
            self.warm_up = handle
            if not self.cold:
                handle.future.set_result(an_answer())
            return handle
        if self.refuse is not None:
            raise self.refuse
        self.submitted.append(Submitted(handle, image, question, params, keywords))
        if self.answer is not None:
            handle.tally.add(**self.tally)
            handle.shared, handle.began = self.shared, handle.arrived + 0.03
            handle.first_token = handle.arrived + 2.0
            handle.future.set_result(self.answer)
        return handle

    def next(self) -> Submitted:
        """The one request that was or will be submitted."""
        wait_until(lambda: self.submitted, "a request")
        (submitted,) = self.submitted
        return submitted


def is_cancelled(handle: RequestHandle) -> bool:
    """Whether somebody gave the handle up."""
    try:
        handle.check()
    except ViCropError as error:
        return type(error).__name__ == "RequestCancelledError"
    return False
