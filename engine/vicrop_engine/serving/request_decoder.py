"""The decoder as one request among many sees it: passes in bounded chunks, answers decoded with all others.

Every pass is a function of its own prefix and tokens alone, whoever asks and whatever is kept already: the
image prefix goes by itself, then each suffix by itself. So a request's numbers do not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.counters import Tally
from vicrop_engine.errors import ViCropError
from vicrop_engine.model.answers.greedy import FREE, AnswerTokens, Generation, OnTokens, TokenRules
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.forward import HostOutput
from vicrop_engine.model.interfaces import BothAnswers, Prefilled
from vicrop_engine.model.kv_cache import KVCache
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.states import ImageEmbeds, of_kind
from vicrop_engine.serving.decode_batch import DecodeBatch, DecodingSequence
from vicrop_engine.serving.worker_slots import WorkerSlot


@dataclass(frozen=True)
class BackgroundOutput:
    """What a pass over each suffix left; `answer` is decoded on from the first one, where that was wanted."""

    passes: tuple[HostOutput, ...]
    answer: Future[Generation] | None = None
    gradients: tuple[Floats, Floats] | None = None

    @property
    def cache(self) -> KVCache:
        """Ends with the first suffix."""
        return self.passes[0].cache

    def rows(self, suffix: int) -> dict[int, Floats]:
        """Attention [heads, total] of a suffix's last token, by absolute layer."""
        return self.passes[suffix].rows(0)


class BothInBackground:
    """Two answers that are decoded with all other requests' answers."""

    def __init__(self, decoder: RequestDecoder, first: Prefilled, prefix: Prefix) -> None:
        self._decoder, self._first, self._prefix = decoder, first, prefix
        self._final: Prefilled | None = None

    def begin_final(self, suffix: Sequence[int], images: Sequence[ImageEmbeds]) -> None:
        """Prefill the final answer's prompt after the picture's prefix."""
        self._final = self._decoder.prefill(self._prefix, [suffix], images)

    def finish(self) -> tuple[Generation, Generation]:
        """Both answers, decoded to their ends."""
        assert self._final is not None, "the final answer has begun"
        final = self._decoder.decode(self._final, self._decoder.max_new_tokens)
        return self._decoder.decode(self._first, self._decoder.max_new_tokens), final


@dataclass
class RequestDecoder:
    """The decoder of one request; `on_tokens` hear the ids of its first and its final answer."""

    decoder: HostDecoder
    batch: DecodeBatch
    worker: WorkerSlot
    tally: Tally
    ended: Callable[[], ViCropError | None]
    chunk: int
    max_new_tokens: int
    on_tokens: tuple[OnTokens, OnTokens]
    rules: TokenRules = FREE
    answers_side_by_side: bool = field(default=False, init=False)
    _begun: list[DecodingSequence] = field(default_factory=list, init=False)

    def begin(self, ids: Sequence[int], images: Sequence[ImageEmbeds], capacity: int) -> Prefix:
        """`HostDecoder.begin`."""
        return self.decoder.begin(ids, images, capacity)

    def reserve(self, prefix: Prefix, capacity: int) -> None:
        """`HostDecoder.reserve`."""
        self.decoder.reserve(prefix, capacity)

    def prefill(
        self,
        prefix: Prefix,
        suffixes: Sequence[Sequence[int]],
        images: Sequence[ImageEmbeds] = (),
        *,
        answer: bool = True,
        layers: Sequence[int] = (),
        gradients: bool = False,
    ) -> BackgroundOutput:
        """`HostDecoder.prefill`, and with `answer` go on decoding it at once.

        The images are of the first suffix, which is run last: its rows are what the answer continues.
        """
        passes, found = self._passes(prefix, suffixes, images, answer, layers, gradients)
        going_on = self._go_on(passes[0], is_final=bool(images)) if answer else None
        return BackgroundOutput(tuple(passes), going_on, found)

    def generate(self, prefix: Prefix, suffix: Sequence[int], max_new_tokens: int) -> Generation:
        """Greedy tokens after `suffix`, decoded at once and told to nobody."""
        (output,), _ = self._passes(prefix, [suffix], (), answer=True, layers=(), gradients=False)
        return self.decoder.decode(output, max_new_tokens)

    def _passes(
        self,
        prefix: Prefix,
        suffixes: Sequence[Sequence[int]],
        images: Sequence[ImageEmbeds],
        answer: bool,
        layers: Sequence[int],
        gradients: bool,
    ) -> tuple[list[HostOutput], tuple[Floats, Floats] | None]:
        """What the pass over each suffix left, and gradients of the last one where they were wanted."""
        above = gradients or self.decoder.reaches_upper(layers)
        while self.decoder.extend_prefix(prefix, self.chunk, above=answer or above):
            self.worker.boundary()
        passes: list[HostOutput] = []
        found: tuple[Floats, Floats] | None = None
        for number in reversed(range(len(suffixes))):
            seen = images if number == 0 else ()
            embeds = self.decoder.table.embed(suffixes[number], seen)
            positions = self.decoder.table.positions(suffixes[number], seen, prefix.next_position)
            goes_up = above or (answer and number == 0)
            start = self._extend(prefix, embeds, positions, above=goes_up)
            run = start.length - prefix.length
            rest = embeds[:, run:]
            output = self.decoder.prefill_embeds(
                start,
                rest,
                (rest.shape[1],),
                None if positions is None else positions[:, run:],
                answer=goes_up,
                layers=layers,
                gradients=gradients,
            )
            passes.insert(0, output)
            if gradients and found is None:  # of the last suffix, which is the one to look with
                found = self.decoder.gradients(output, 0)
            self.worker.boundary()
        return passes, found

    def gradients(self, output: Prefilled, suffix: int) -> tuple[Floats, Floats]:
        """`HostDecoder.gradients` of the last suffix. Raises ValueError for another."""
        made = of_kind(BackgroundOutput, output)
        if made.gradients is None or suffix != len(made.passes) - 1:
            raise ValueError("gradients are of the last suffix of a pass made with gradients")
        return made.gradients

    def logits(self, output: Prefilled) -> Floats:
        """`HostDecoder.logits`."""
        return self.decoder.logits(of_kind(BackgroundOutput, output).passes[0])

    def decode(
        self, output: Prefilled, max_new_tokens: int, on_tokens: OnTokens = None, rules: TokenRules = FREE
    ) -> Generation:
        """The answer that has been decoded on since the prefill; who hears it was said then."""
        answer = of_kind(BackgroundOutput, output).answer
        assert answer is not None, "the answer's pass was made for an answer"
        return self.worker.result(answer)

    def begin_both(
        self,
        output: Prefilled,
        prefix: Prefix,
        question: Sequence[int],
        max_new_tokens: int,
        on_tokens: OnTokens = None,
        rules: TokenRules = FREE,
    ) -> BothAnswers:
        """The first answer is being decoded already; so is the final one from its prefill on."""
        return BothInBackground(self, output, prefix)

    def __enter__(self) -> RequestDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """The request is over: what it still decodes is wanted by nobody."""
        for answer in self._begun:
            answer.is_wanted = False

    def _extend(self, prefix: Prefix, embeds: Floats, positions: Ints | None, *, above: bool) -> Prefix:
        """The prefix with all chunks of a suffix's `embeds` but the last, which have been run."""

        def stand(stop: int) -> Ints | None:
            if prefix.positions is None or positions is None:
                return None
            return np.concatenate((prefix.positions, positions[:, : stop - prefix.length]), axis=1)

        length = prefix.length
        last = length + (embeds.shape[1] - 1) // self.chunk * self.chunk
        while length < last:
            begin = length - prefix.length
            stop = length + self.chunk
            chunk = embeds[:, begin : begin + self.chunk]
            part = Prefix(prefix.buffers, stop, chunk, positions=stand(stop))
            while self.decoder.extend_prefix(part, self.chunk, above=above):
                self.worker.boundary()
            length += self.chunk
        return Prefix(prefix.buffers, length, positions=stand(length))

    def _between_tokens(self, on_tokens: OnTokens) -> OnTokens:
        """Tells the ids, and lets somebody more urgent go first; the answer ends when it is not wanted."""

        def told(ids: tuple[int, ...]) -> None:
            self.worker.boundary()
            if on_tokens is not None:
                on_tokens(ids)

        return told

    def _go_on(self, output: HostOutput, *, is_final: bool) -> Future[Generation]:
        """Decode the answer with all others', or now and alone where it does not fit a slot."""
        on_tokens = self.on_tokens[is_final]
        logits = self.decoder.logits(output)
        if not self.batch.fits(output.cache.length, self.max_new_tokens):
            alone: Future[Generation] = Future()
            told = self._between_tokens(on_tokens)
            alone.set_result(self.decoder.decode(output, self.max_new_tokens, told, self.rules))
            return alone
        tokens = AnswerTokens(self.decoder.end_signs, self.max_new_tokens, on_tokens, self.rules)
        length = output.cache.length
        answer = DecodingSequence(tokens, length, self.tally, self.ended, output.next_position - length)
        if self.on_tokens[0] is None:  # a first answer that nobody hears was only to be looked into
            self.leave()
        self._begun.append(answer)
        self.batch.begin(answer, output.cache, logits)
        return answer.future
