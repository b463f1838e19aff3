"""What an answer has to look like beside being the likeliest: where it ends, its JSON, its probabilities.

Knows texts; nothing of tokens or graphs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from vicrop_engine.errors import SchemaError, SettingError, shown

MOST_STOPS = 16
LONGEST_STOP = 256  # characters
MOST_TOP = 20  # likeliest tokens listed at each place
MOST_SCHEMA = 64 * 1024  # characters
ANY_OBJECT = '{"type":"object"}'


@dataclass(frozen=True)
class AnswerForm:
    """The form of both answers of an ask.

    An answer is cut before the first of the texts in `stop`; with `ignore_eos` the model's end signs do not
    end it, only its longest length does. `json_schema` is a JSON schema as text: only tokens are taken that
    keep the answer within it (`ANY_OBJECT` for any object). With `top_logprobs`, 0 to 20, the final answer
    has the log probability of each of its tokens and of so many likeliest ones. With `fits` an answer that
    is too long for the model's context is shortened to what is left there, and earlier turns that do not fit
    are left out; `notices` say so. Raises SettingError.
    """

    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    json_schema: str | None = None
    top_logprobs: int | None = None
    fits: bool = False

    def __post_init__(self) -> None:
        _check_stops(self.stop)
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= MOST_TOP:
            raise SettingError(f"got top_logprobs {self.top_logprobs}, wanted 0 to {MOST_TOP}")
        if self.json_schema is not None:
            _check_schema(self.json_schema)
            if self.ignore_eos:
                raise SettingError(
                    "got ignore_eos and a JSON schema, whose answers have an end; leave one of them out"
                )

    def cut(self, text: str) -> str:
        """The text up to the first stop text in it; the whole where there is none."""
        ends = [at for each in self.stop if (at := text.find(each)) >= 0]
        return text[: min(ends)] if ends else text

    def settled(self, text: str) -> str:
        """What of a text that still grows will surely stay: nothing that may be the beginning of a stop."""
        ready = self.cut(text)
        if ready != text:
            return ready
        held = max((_begun(text, each) for each in self.stop), default=0)
        return text[: len(text) - held]


def _begun(text: str, stop: str) -> int:
    """How many characters of `stop` the text ends with."""
    return next((size for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size])), 0)


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MOST_STOPS:
        raise SettingError(f"got {len(stops)} stop texts, wanted at most {MOST_STOPS}")
    for each in stops:
        if not isinstance(each, str) or not 0 < len(each) <= LONGEST_STOP:
            raise SettingError(f"got stop {shown(each)}, wanted texts of 1 to {LONGEST_STOP} characters")


def _check_schema(schema: str) -> None:
    if len(schema) > MOST_SCHEMA:
        raise SchemaError(
            f"got a JSON schema of {len(schema)} characters, and the limit is {MOST_SCHEMA}; "
            "give a smaller one"
        )
    try:
        document = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise SchemaError("the JSON schema is not JSON; give one as text") from error
    if not isinstance(document, dict):
        raise SchemaError(f"got {shown(document)} as a JSON schema, wanted an object")


PLAIN = AnswerForm()
