"""The model that lmms-eval asks: an engine behind the scheduler, several questions at a time."""

from __future__ import annotations

from collections import deque
from typing import Any, NoReturn

from lmms_eval.api.model import lmms

from vicrop_engine.engine import ViCropEngine
from vicrop_engine.engine_dir.registry import DEFAULT
from vicrop_engine.errors import SettingError, ViCropError, one_of
from vicrop_engine.harness.requests import Turn, turn_of
from vicrop_engine.serving.ask_batch import NO_DEADLINE
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.serving.settings import SchedulerSettings
from vicrop_engine.vicrop.params import AskParams

OWN = ("method", "high_res", "layers", "when", "crop_tokens", "compat", "picture_tiles", "crop_tiles")
THEIRS = ("max_batch_size", "device")  # which lmms-eval gives every model


class ViCrop(lmms):
    """`--model vicrop --model_args engine=llava-1.5,method=rel-att`, with the settings of `ask` by name.

    `batch_size` questions are under way at a time (1, lmms-eval's own, leaves it to the scheduler).
    """

    is_simple = False

    def __init__(
        self,
        engine: str = DEFAULT,
        batch_size: int | str = 1,
        threads: int | None = None,
        **settings: Any,
    ) -> None:
        """Open the engine. Raises SettingError, and what `ViCropEngine.load` raises."""
        super().__init__()
        for name in settings:
            if name not in (*OWN, *THEIRS):
                raise SettingError(one_of("setting", name, ("engine", "threads", *OWN)))
        self._params = AskParams.of({name: value for name, value in settings.items() if name in OWN})
        running = int(batch_size) if str(batch_size).isdecimal() and int(batch_size) > 1 else None
        self._bounds = SchedulerSettings(running=running, deadline=NO_DEADLINE)
        self._engine = ViCropEngine.load(engine, threads=threads).as_given()

    def generate_until(self, requests: list[Any]) -> list[str]:
        """An answer for each request, in their order. Raises what the first that fails raises."""
        answers: list[str] = []
        asked: deque[tuple[Any, Turn, RequestHandle]] = deque()
        with Scheduler(self._engine, self._bounds) as scheduler:
            for request in requests:
                if len(asked) == 2 * scheduler.settings.num_running:
                    answers.append(self._told(*asked.popleft()))
                turn = self._turn(request)
                handle = scheduler.submit(turn.image, turn.text, turn.params)
                asked.append((request, turn, handle))
            answers += [self._told(*each) for each in asked]
        return answers

    def loglikelihood(self, requests: list[Any]) -> NoReturn:
        """Raises NotImplementedError: it answers; it does not score continuations."""
        raise NotImplementedError("vicrop answers questions and scores no continuations; take another task")

    def generate_until_multi_round(self, requests: list[Any]) -> NoReturn:
        """Raises NotImplementedError: a question is asked once."""
        raise NotImplementedError("vicrop answers one question about a picture; take a task of one round")

    def _turn(self, request: Any) -> Turn:
        _, to_messages, generation, doc_id, task, split = request.args
        return turn_of(to_messages(self.task_dict[task][split][doc_id]), generation, self._params)

    def _told(self, request: Any, turn: Turn, handle: RequestHandle) -> str:
        """The answer, kept for lmms-eval's cache. Raises ViCropError with the document it is of."""
        try:
            answer = turn.cut(handle.future.result().answer)
        except ViCropError as error:
            error.add_note(f"of document {request.args[3]} of {request.args[4]}")
            raise
        self.cache_hook.add_partial("generate_until", request.args, answer)
        return answer
