"""Answers of all requests decoded together: one step for the next token of each, on slots of one KV arena.

The slots in use are always the first ones, so that their buffers are one piece of memory; the last moves into
the place of one that is done. What an answer's numbers are does not depend on who else is decoded: attention
is computed slot by slot, and products of weights round every row alike, if there is an even number of them:
the four-bit kernels take rows in pairs and round a single one in another way. So a slot that is not in use
makes up the number. Knows tokens and slots; nothing of requests or pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from vicrop_engine.arrays import Floats
from vicrop_engine.counters import Tally
from vicrop_engine.errors import RequestCancelledError, ViCropError
from vicrop_engine.model.answers.greedy import AnswerTokens, Generation
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.forward import DecodeSteps
from vicrop_engine.model.kv_cache import KVCache
from vicrop_engine.serving.worker_slots import Lasting, WorkerSlot, WorkerSlots

URGENT = (float("-inf"), 0)


@dataclass(eq=False)
class DecodingSequence:
    """An answer that is being decoded; `length` rows of its slot are in use.

    Its next token's position is `ahead` of their number.
    `ended` is asked before every step and gives the error that ends the answer early; so does no longer
    being wanted.
    """

    tokens: AnswerTokens
    length: int
    tally: Tally
    ended: Callable[[], ViCropError | None]
    ahead: int = 0
    future: Future[Generation] = field(default_factory=Future)
    is_wanted: bool = True


class DecodeBatch:
    """Up to `count` answers decoded at a time by a thread of its own, each of at most `capacity` tokens."""

    def __init__(
        self, decoder: HostDecoder, worker_slots: WorkerSlots, count: int, capacity: int, tally: Tally
    ) -> None:
        self._decoder, self._tally = decoder, tally
        assert count % 2 == 0, "a spare slot makes up an even number"
        self.count, self.capacity = count, capacity
        self._arena = decoder.arena(count, capacity)
        self._steps: dict[int, DecodeSteps] = {}
        self._answers: list[DecodingSequence] = []
        self._changed = threading.Condition()
        self._closed = False
        self._worker = WorkerSlot(worker_slots, URGENT, Lasting())
        self._worker.is_early = True
        self._thread = threading.Thread(target=self._decode, name="decode", daemon=True)
        self._thread.start()

    @property
    def num_answers(self) -> int:
        """Answers being decoded now."""
        return len(self._answers)

    @property
    def num_rows(self) -> int:
        """Rows of all slots in use now."""
        return sum(answer.length for answer in list(self._answers))

    def fits(self, length: int, max_new_tokens: int) -> bool:
        """Whether a slot has room for such an answer."""
        return length + max_new_tokens <= self.capacity

    def begin(self, answer: DecodingSequence, cache: KVCache, logits: Floats) -> None:
        """Decode on from `logits` [vocab] after the tokens of `cache`, whose rows go to a slot now."""
        answer.tokens.take(logits)
        if answer.tokens.is_done:
            answer.future.set_result(answer.tokens.generation)
            return
        with self._changed:
            assert len(self._answers) < self.count, "there are slots for all answers of all requests"
            self._arena.take(len(self._answers), cache.buffers, cache.length)
            self._answers.append(answer)
            self._changed.notify()

    def close(self) -> None:
        """Finish what is being decoded and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _decode(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._answers or self._closed)
                if not self._answers:
                    return
            with self._worker:
                grown = self._step()
            for answer in grown:
                answer.tokens.tell()
                if answer.tokens.is_done:
                    answer.future.set_result(answer.tokens.generation)

    def _step(self) -> list[DecodingSequence]:
        """One token more for every answer that is still wanted; those that are done leave their slots."""
        with self._changed:
            self._leave(_has_ended)
            answers = list(self._answers)
            if not answers:
                return []
            try:
                logits = self._logits(answers)
            except Exception as error:  # ends these answers, never the thread that all others need
                for answer in answers:
                    answer.future.set_exception(error)
                self._answers.clear()
                return []
            for answer, row in zip(answers, logits, strict=True):
                answer.length += 1
                answer.tokens.take(row, tell=False)
            self._leave(lambda answer: answer.tokens.is_done)
            return answers

    def _logits(self, answers: list[DecodingSequence]) -> Floats:
        """Logits [answers, vocab] after each one's latest token."""
        number = len(answers)
        spare = number % 2
        lengths = np.array([*(answer.length for answer in answers), *[0] * spare])
        positions = lengths + np.array([*(answer.ahead for answer in answers), *[0] * spare])
        tokens = [*(answer.tokens.ids[-1] for answer in answers), *[0] * spare]
        if len(tokens) not in self._steps:
            self._steps[len(tokens)] = self._decoder.steps(self._arena.first(len(tokens)), len(tokens))
        total = int(lengths.max()) + 1
        bias = np.where(np.arange(total) <= lengths[:, None], np.float32(0), np.float32(-np.inf))
        embeds = self._decoder.table.embed(tokens)[0]
        self._tally.add(lower_passes=1, upper_passes=1, shared_steps=number > 1, **_of_tokens(number))
        for answer in answers:
            answer.tally.add_own(lower_passes=1, upper_passes=1, **_of_tokens(1))
        return self._steps[len(tokens)].run(embeds, positions[None], bias[:, None, None])[:number]

    def _leave(self, leaves: Callable[[DecodingSequence], bool]) -> None:
        """Free the slots of answers that leave; the last one in use takes the place of each."""
        for slot in reversed(range(len(self._answers))):
            if not leaves(self._answers[slot]):
                continue
            last = self._answers.pop()
            if slot < len(self._answers):
                self._arena.move(len(self._answers), slot, last.length)
                self._answers[slot] = last


def _of_tokens(number: int) -> dict[str, int]:
    return {"decode_steps": number, "lower_tokens": number, "upper_tokens": number}


def _has_ended(answer: DecodingSequence) -> bool:
    """Whether the answer is no longer wanted; then its future has the reason."""
    error = answer.ended() if answer.is_wanted else RequestCancelledError("the answer is not wanted")
    if error is not None:
        answer.future.set_exception(error)
    return error is not None
