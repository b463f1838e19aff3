"""JSON schemas to the tokens that may come next, by llguidance; loaded when the first schema is.

Knows a tokenizer and grammars; nothing of prompts or graphs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Floats
from vicrop_engine.errors import SchemaError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

QUOTE, BRACKETS, COMMA = (b'"',), (b"}", b"]"), (b",",)
ESCAPE = ord("\\")
MARGIN = 32  # tokens more than the shortest answer has bytes, in which an answer is brought to its end
LONGEST = 512  # tokens of a shortest answer that is looked for
KEPT = 32  # schemas
INSTALL = "pip install 'vicrop-engine[serve]'"


@dataclass(frozen=True)
class Vocabulary:
    """The tokens' bytes, and which of them bring JSON nearer to its end inside a text, and outside of one.

    The first of these that may come are the nearest.
    """

    tokenizer: LLTokenizer
    texts: tuple[bytes, ...]
    inside: tuple[npt.NDArray[np.bool_], ...]
    outside: tuple[npt.NDArray[np.bool_], ...]

    @classmethod
    def read(cls, file: Path, end_signs: Sequence[int]) -> Vocabulary:
        """That of a tokenizer's file."""
        from llguidance import LLTokenizer

        tokenizer = LLTokenizer(str(file), eos_token=list(end_signs))
        texts = tuple(tokenizer.decode_bytes([number]) for number in range(tokenizer.vocab_size))
        ends = np.isin(np.arange(len(texts)), list(end_signs))
        quotes, brackets, commas = (
            np.array([text.startswith(signs) for text in texts]) for signs in (QUOTE, BRACKETS, COMMA)
        )
        return cls(tokenizer, texts, (quotes,), (ends, brackets, commas))


class Compiled(NamedTuple):
    """A schema's matcher before any token, and in how many of the last tokens its answers come to an end."""

    matcher: LLMatcher
    last: int


class JsonMask:
    """The tokens that keep one answer within its grammar.

    In the `last` tokens there are, but at most half of them, those that close the text, list or object that
    is open are the only ones wherever they may come: the answer is whole where the schema lets it be.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary, last: int) -> None:
        self._matcher, self._vocabulary, self._last = matcher, vocabulary, last
        self._most: int | None = None
        self._in_text = self._is_escaped = False
        self.failure: str | None = None

    def masked(self, logits: Floats, left: int) -> Floats:
        """The logits [vocab] with minus infinity where a token may not come."""
        self._most = left if self._most is None else self._most
        allowed = self._allowed(len(logits))
        if left <= min(self._last, self._most // 2):
            self._leave_closing(allowed)
        return np.where(allowed, logits, np.float32(-np.inf))

    def take(self, token: int) -> None:
        """This one comes."""
        if self.failure is None and not self._matcher.consume_token(token):
            self.failure = _reason(self._matcher)
        texts = self._vocabulary.texts
        self._follow(texts[token] if token < len(texts) else b"")

    def shortest(self) -> int:
        """Bytes of the answer that closes whatever it opens at once; nothing else may be taken before."""
        size = 0
        for _ in range(LONGEST):
            allowed = self._allowed(len(self._vocabulary.texts))
            self._leave_closing(allowed)
            token = int(allowed.argmax())
            if self._vocabulary.outside[0][token] or self.failure is not None:
                break
            size += len(self._vocabulary.texts[token])
            self.take(token)
        return size

    def _leave_closing(self, allowed: npt.NDArray[np.bool_]) -> None:
        """Of what may come leave what brings the answer nearer to its end, if there is any."""
        for closes in self._vocabulary.inside if self._in_text else self._vocabulary.outside:
            closing = allowed[: len(closes)] & closes[: len(allowed)]
            if closing.any():
                allowed[:] = False
                allowed[: len(closing)] = closing
                return

    def _follow(self, text: bytes) -> None:
        """Whether a text is open after these bytes, and the next of its signs is escaped."""
        for byte in text:
            if self._is_escaped:
                self._is_escaped = False
            elif byte == QUOTE[0][0]:
                self._in_text = not self._in_text
            else:
                self._is_escaped = self._in_text and byte == ESCAPE

    def _allowed(self, vocab: int) -> npt.NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.zeros(max(vocab, 8 * len(bits)), np.bool_)
        allowed[: 8 * len(bits)] = np.unpackbits(bits, bitorder="little")
        allowed = allowed[:vocab]
        if self._matcher.is_error() or not allowed.any():
            self.failure = _reason(self._matcher) or "no token may come next"
            allowed[:] = True  # whichever it is, the answer ends with it
        return allowed


class JsonMasks:
    """Masks of any schema for one tokenizer, which is read when the first is made. Threads may share it."""

    def __init__(self, tokenizer: Path, end_signs: Sequence[int]) -> None:
        self._file, self._end_signs = tokenizer, end_signs
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._first = lru_cache(KEPT)(self._compiled)

    def of(self, schema: str) -> Callable[[], JsonMask]:
        """What makes the mask of one answer. Raises SchemaError for a schema that cannot be used."""
        with self._lock:
            (first, last), vocabulary = self._first(schema), self._read()
        return lambda: JsonMask(first.deep_copy(), vocabulary, last)

    def _compiled(self, schema: str) -> Compiled:
        if find_spec("llguidance") is None:
            raise SchemaError(f"answers in JSON need llguidance, which is not installed; run {INSTALL}")
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
        except ValueError as error:
            raise SchemaError(f"the JSON schema cannot be used ({error}); give another one") from error
        matcher = LLMatcher(self._read().tokenizer, grammar, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()
        if matcher.is_error():
            raise SchemaError(f"the JSON schema cannot be used ({_reason(matcher)}); give another one")
        return Compiled(matcher, JsonMask(matcher.deep_copy(), self._read(), 0).shortest() + MARGIN)

    def _read(self) -> Vocabulary:
        if self._vocabulary is None:
            self._vocabulary = Vocabulary.read(self._file, self._end_signs)
        return self._vocabulary


def _reason(matcher: LLMatcher) -> str:
    """The matcher's sentence, in one line and without the state it adds."""
    text = matcher.get_error().partition("<state>")[0].removeprefix("Parser Error:")
    return " ".join(text.split())[:200]
