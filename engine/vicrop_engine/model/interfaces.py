"""What the parts of an open model promise each other: vision tower, decoder, prefix store.

On a processor states are arrays; on a device they are tensors that stay there. Whoever makes them takes them
back: a part that is handed another's refuses it by `of_kind`. Knows no graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from vicrop_engine.arrays import Floats
from vicrop_engine.images.seen import VisionInputs
from vicrop_engine.model.answers.greedy import FREE, Generation, OnTokens, TokenRules
from vicrop_engine.model.prefix_cache import Prefix, PrefixKey
from vicrop_engine.model.prompts import Prompt
from vicrop_engine.model.states import AttentionRows, ImageEmbeds, States


class VisionTower(Protocol):
    """Pictures to image embeds, remembered by what the tower takes of them.

    Where the vision part is a chain of two, they are the states that its second stage takes.
    """

    def embed(self, inputs: VisionInputs) -> States:
        """Image embeds [1 + added, tokens, hidden] of a picture. Raises RunError."""

    def embed_all(self, pictures: Sequence[VisionInputs]) -> Sequence[States]:
        """The same for several pictures; those that are new go through the graph together if they can."""

    def forget(self) -> None:
        """Let go of all embeds."""

    def check_integrity(self) -> None:
        """Raises AssertionError when the cache does not hold what it says it holds."""


class InstructedEmbeds(Protocol):
    """A picture's states and an instruction to image embeds, where the vision part is a chain of two."""

    def embed_all(self, pictures: Sequence[VisionInputs], tower: VisionTower) -> Sequence[ImageEmbeds]:
        """Embeds of each picture for its instruction, and what makes cells of its tokens. Raises RunError."""

    def forget(self) -> None:
        """Let go of all embeds."""

    def check_integrity(self) -> None:
        """Raises AssertionError when the cache does not hold what it says it holds."""


class HelpfulLooks(Protocol):
    """How prompts' answers hang on what a second stage looked at."""

    def helpful(self, inputs: VisionInputs, prompt: Prompt, tower: VisionTower) -> Floats:
        """Attention of the picture's tokens to its cells, times its gradient, [tokens, cells]."""


class Prefilled(Protocol):
    """What prompts left that went through the decoder; the first of them can be continued."""

    def rows(self, suffix: int) -> Mapping[int, AttentionRows]:
        """Attention [heads, total] of the last token of suffix number `suffix`, by absolute layer."""


class BothAnswers(Protocol):
    """First and final answer of one request, decoded in whatever order costs least."""

    def begin_final(self, suffix: Sequence[int], images: Sequence[ImageEmbeds]) -> None:
        """Prefill the final answer's prompt after the picture's prefix."""

    def finish(self) -> tuple[Generation, Generation]:
        """Both answers, decoded to their ends."""


class Decoder(Protocol):
    """The language model: prompts after an image prefix, and greedy answers."""

    @property
    def answers_side_by_side(self) -> bool:
        """Whether first and final answer lie in one prefix's buffers, which then need room for both."""

    def begin(self, ids: Sequence[int], images: Sequence[ImageEmbeds], capacity: int) -> Prefix:
        """A prefix with room for `capacity` tokens, whose image tokens take the rows of `images` in order.

        It is run with its first suffixes.
        """

    def reserve(self, prefix: Prefix, capacity: int) -> None:
        """Make room for `capacity` tokens; a prefix with less moves to larger buffers."""

    def prefill(
        self,
        prefix: Prefix,
        suffixes: Sequence[Sequence[int]],
        images: Sequence[ImageEmbeds] = (),
        *,
        answer: bool = True,
        layers: Sequence[int] = (),
        gradients: bool = False,
    ) -> Prefilled:
        """Run what is left of `prefix`, then `suffixes`, each right after it and blind to the others.

        With `answer` the first can be answered; `layers` are those whose attention is read, with `gradients`
        also the loss's gradient at it.
        """

    def logits(self, output: Prefilled) -> Floats:
        """Logits [vocab] after the first suffix. Raises ValueError if it was not to be answered."""

    def gradients(self, output: Prefilled, suffix: int) -> tuple[Floats, Floats]:
        """Attention of a suffix's last token and the loss's gradient at it, [layers, heads, total] each.

        To be asked for right after the prefill. Raises ValueError for one without gradients.
        """

    def decode(
        self, output: Prefilled, max_new_tokens: int, on_tokens: OnTokens = None, rules: TokenRules = FREE
    ) -> Generation:
        """Greedy tokens after the first suffix by `rules`, until an end sign or `max_new_tokens`.

        `on_tokens` is told their ids whenever there is one more.
        """

    def begin_both(
        self,
        output: Prefilled,
        prefix: Prefix,
        question: Sequence[int],
        max_new_tokens: int,
        on_tokens: OnTokens = None,
        rules: TokenRules = FREE,
    ) -> BothAnswers:
        """Begin the first answer after `question`, the suffix that went first; the final one comes beside.

        `on_tokens` is told the first answer's ids whenever there is one more.
        """


class PrefixStore(Protocol):
    """Image prefixes by key, each there once however many use it."""

    @property
    def capacity(self) -> int:
        """Bytes that are kept at most."""

    def __contains__(self, key: PrefixKey) -> bool: ...

    def get(self, key: PrefixKey) -> Prefix | None:
        """The prefix, kept or in use by somebody; None where there is none."""

    def get_or_begin(self, key: PrefixKey, begin: Callable[[], Prefix]) -> tuple[Prefix, bool]:
        """The prefix, begun now if there is none, and whether it was there."""

    def put(self, key: PrefixKey, prefix: Prefix) -> None:
        """Keep the prefix with the bytes it has now, as far as there is room."""

    def clear(self) -> None:
        """Let go of everything."""

    def check_integrity(self) -> None:
        """Raises AssertionError when it does not hold what it says it holds."""
