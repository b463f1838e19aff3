"""What generation_config.json asks for: done, without effect on a greedy answer, or not done and said so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DONE = ("eos_token_id",)
# Names, versions and lengths: what a caller says goes before them, or they change no greedy answer.
HARMLESS = (
    *("_from_model_config", "transformers_version", "bos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("max_length", "max_new_tokens", "max_time", "use_cache", "cache_implementation", "cache_config"),
    *("return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores"),
    *("output_logits", "num_return_sequences", "disable_compile", "trust_remote_code"),
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "do_sample"),
)
# The value that asks for nothing; with any other one transformers' own answer is another.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "bad_words_ids": ([],),
    "sequence_bias": ({},),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "length_penalty": (1,),
    "early_stopping": (False,),
    "penalty_alpha": (0,),
    "guidance_scale": (1,),
    "exponential_decay_length_penalty": (),
    "renormalize_logits": (False,),
    "remove_invalid_values": (False,),
    "stop_strings": ([],),
    "dola_layers": (),
    "prompt_lookup_num_tokens": (),
    "watermarking_config": (),
    "token_healing": (False,),
}


def generation_settings(directory: Path) -> dict[str, Any]:
    """The document, empty where there is none that can be read."""
    try:
        document = json.loads((directory / "generation_config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def not_done(settings: dict[str, Any]) -> list[str]:
    """`key = value` for each setting that changes transformers' answers and is not done here.

    A key that nobody knows is one of them.
    """
    left = []
    for key, value in settings.items():
        if value is None or key in DONE or key in HARMLESS or value in NEUTRAL.get(key, ()):
            continue
        left.append(f"{key} = {json.dumps(value)[:60]}")
    return left


def warnings_of(directory: Path, eos: tuple[int, ...]) -> list[str]:
    """Sentences about what a build does otherwise than transformers' generate would."""
    sentences = []
    if left := not_done(generation_settings(directory)):
        sentences.append(
            f"generation_config.json asks for {', '.join(left)}, which is not done: answers are the model's "
            "most likely tokens, and may differ from those of transformers' generate"
        )
    if not eos:
        sentences.append(
            "neither generation_config.json nor config.json names an end sign (eos_token_id): every answer "
            "goes on to max_new_tokens; add it and build again"
        )
    return sentences
