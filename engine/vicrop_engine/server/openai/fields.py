"""OpenAI's keys of a chat request beside its messages: which mean something here, and which do not.

An answer is the model's most likely one, the same every time: keys that ask for another kind are accepted
with the value that asks for nothing; any other is left out and said, or refused by a strict server. Null is
the same as leaving a key out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vicrop_engine.errors import nearest_key, shown
from vicrop_engine.server.openai.manner import Manner
from vicrop_engine.server.problem import bad_request

GREEDY = "an answer is always the model's most likely one"
ONLY_TEXT = "an answer is text alone"

AS_WRITTEN = "prompt and answer are written as the model's template does"
# Keys of other servers (vLLM, SGLang, TGI, llama.cpp, transformers) with the value that asks for nothing.
GREEDY_ELSEWHERE: dict[str, Any] = {
    **{"min_p": 0, "typical_p": 1, "epsilon_cutoff": 0, "eta_cutoff": 0, "top_a": 0, "tfs": 1, "tfs_z": 1},
    **{"min_tokens": 0, "min_new_tokens": 0, "min_length": 0, "no_repeat_ngram_size": 0, "mirostat": 0},
    **{"do_sample": False, "use_beam_search": False, "early_stopping": False, "num_beams": 1, "best_of": 1},
    **{"length_penalty": 1, "repeat_penalty": 1, "penalty_alpha": 0, "num_return_sequences": 1},
    **{"stop_token_ids": [], "bad_words": [], "logits_processors": [], "prompt_logprobs": 0},
}
TEXT_ELSEWHERE: dict[str, tuple[Any, ...]] = {
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True, False),
    "include_stop_str_in_output": (False,),
    "echo": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "add_special_tokens": (True, False),
    "chat_template_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "detokenize": (True,),
    "cache_prompt": (True, False),
}

READ = ("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "vicrop")
IGNORED = (
    *("user", "seed", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    *("service_tier", "parallel_tool_calls"),
)
NEUTRAL: dict[str, tuple[tuple[Any, ...], str]] = {
    "temperature": ((0,), GREEDY),
    "top_p": ((1,), GREEDY),
    "top_k": ((-1, 0, 1), GREEDY),
    "frequency_penalty": ((0,), GREEDY),
    "presence_penalty": ((0,), GREEDY),
    "repetition_penalty": ((1,), GREEDY),
    "logit_bias": (({},), GREEDY),
    "n": ((1,), "there is one answer to a request"),
    "logprobs": ((False,), "token probabilities are not given; vicrop.confidence is the answer's"),
    "top_logprobs": ((0,), "token probabilities are not given; vicrop.confidence is the answer's"),
    "stop": (([], ""), "an answer ends where the model ends it, or at max_tokens"),
    "ignore_eos": ((False,), "an answer ends where the model ends it, or at max_tokens"),
    "tools": (([],), "the model calls no tools"),
    "tool_choice": (("none", "auto"), "the model calls no tools"),
    "functions": (([],), "the model calls no functions"),
    "function_call": (("none", "auto"), "the model calls no functions"),
    "response_format": (({"type": "text"},), "an answer is plain text"),
    "modalities": ((["text"],), ONLY_TEXT),
    "audio": ((), ONLY_TEXT),
    "prediction": ((), "nothing is predicted"),
    "reasoning_effort": (("none",), "the model does not reason aloud"),
    "verbosity": (("medium",), "answers are as long as the model makes them, up to max_tokens"),
    "web_search_options": ((), "nothing is looked up"),
    "store": ((False,), "nothing is stored"),
    **{key: ((value,), GREEDY) for key, value in GREEDY_ELSEWHERE.items()},
    **{key: (values, AS_WRITTEN) for key, values in TEXT_ELSEWHERE.items()},
}
ELSEWHERE = {*GREEDY_ELSEWHERE, *TEXT_ELSEWHERE}  # accepted where they ask for nothing, and never suggested
KNOWN = (*READ, *IGNORED, *NEUTRAL)
FORM = ("stop", "ignore_eos", "logprobs", "top_logprobs", "n", "response_format")  # done unless strict
STRICTLY = Manner(strict=True)

_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    str: "text",
    dict: "an object",
    list: "a list",
}


def given(document: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that are not null."""
    return {key: value for key, value in document.items() if value is not None}


def check_keys(
    document: Mapping[str, Any], known: tuple[str, ...], where: str = "", manner: Manner = STRICTLY
) -> None:
    """Leave out keys there are not. Raises Problem where that is strict, naming the nearest that there is."""
    for key in document:
        if key not in known:
            place = f" in {where}" if where else ""
            hint = nearest_key(key[:100], [name for name in known if name not in ELSEWHERE])
            path = _path(where, key[:100])
            problem = bad_request(f"unknown key {key[:100]!r}{place}{hint or '; leave it out'}", path)
            manner.leave_out(problem, f"{path} is not known here and was left out")


def typed(document: Mapping[str, Any], key: str, kind: type, where: str = "") -> Any:
    """The key's value, None where it is not given. Raises Problem unless it is of `kind`."""
    value = document.get(key)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        path = _path(where, key)
        raise bad_request(f"got {path} {shown(value)}, wanted {_KINDS[kind]}", path)
    return value


def check_neutral(document: Mapping[str, Any], manner: Manner) -> None:
    """Leave out keys that ask for what is not done; those of FORM a lenient server does. Raises Problem."""
    if not manner.strict:
        _check_tools(document)
    for key, (neutral, why) in NEUTRAL.items():
        value = document.get(key)
        if value is None or any(_same(value, each) for each in neutral):
            continue
        if not manner.strict and key in FORM:
            continue
        wanted = f"leave it out{f', or give {shown(neutral[0])}' if neutral else ''}"
        message = f"got {key} {shown(value)} and {why}; {wanted}"
        notice = f"{key} {shown(value)} was left out: {why}"
        manner.leave_out(bad_request(message, key, "unsupported_value"), notice)


def _check_tools(document: Mapping[str, Any]) -> None:
    """Raises Problem for a call that is demanded: an answer without it would be of no use."""
    for key in ("tool_choice", "function_call"):
        choice = document.get(key)
        if choice is not None and choice not in ("none", "auto"):
            message = f"got {key} {shown(choice)} and the model calls no tools; leave it out, or give 'auto'"
            raise bad_request(message, key, "unsupported_value")


def token_limit(document: Mapping[str, Any], default: int, context: int, manner: Manner) -> int:
    """The most tokens of the answer, by either of its names. Raises Problem.

    A lenient server takes -1 for as many as the model's `context` holds, and shortens what it does not.
    """
    old, new = (typed(document, key, int) for key in ("max_tokens", "max_completion_tokens"))
    if old is not None and new is not None and old != new:
        problem = bad_request(
            f"got max_tokens {old} and max_completion_tokens {new}; give one of them", "max_tokens"
        )
        manner.leave_out(problem, f"max_tokens {old} was left out beside max_completion_tokens {new}")
    key, limit = ("max_tokens", old) if new is None else ("max_completion_tokens", new)
    if limit is None:
        return default
    if limit == -1 and not manner.strict:
        return context
    if limit < 1:
        raise bad_request(f"got {key} {limit}, wanted a whole number from 1 up", key)
    if limit >= context and not manner.strict:
        manner.note(key, "")  # the engine says what is left for it
    return int(limit)


def wants_usage(document: Mapping[str, Any], *, stream: bool, manner: Manner) -> bool:
    """Whether the last chunk is to have the tokens. Raises Problem."""
    options = typed(document, "stream_options", dict)
    if options is None:
        return False
    if not stream:
        problem = bad_request("got stream_options without stream; give both or neither", "stream_options")
        manner.leave_out(problem, "stream_options was left out without stream")
    known = ("include_usage", "continuous_usage_stats", "include_obfuscation")
    check_keys(options, known, "stream_options", manner)
    return bool(typed(options, "include_usage", bool, "stream_options"))


def _same(value: Any, neutral: Any) -> bool:
    return bool(value == neutral) and isinstance(value, bool) == isinstance(neutral, bool)


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
