"""The checkpoint's tokenizer as transformers would use it, and the token ids with a meaning of their own.

Knows nothing of prompts beyond the placeholder of an image.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from vicrop_engine.errors import CheckpointError
from vicrop_export.quiet import reason


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a checkpoint, added tokens and special-token template included, without padding.

    Loaded by transformers, so that tokens which only `tokenizer_config.json` names are there too. Raises
    CheckpointError.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        tokenizer: Tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    except Exception as error:  # transformers and tokenizers raise bare Exception on damaged files
        raise CheckpointError(
            f"{directory / 'tokenizer.json'} cannot be loaded as a tokenizer ({reason(error)}); fetch the "
            "checkpoint again"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def demand_rows(tokenizer: Tokenizer, rows: int) -> None:
    """Raise CheckpointError for tokens that the embeddings have no row for: text would turn into them."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    beyond = sorted((id, text) for text, id in vocabulary.items() if id >= rows)
    if beyond:
        id, text = beyond[0]
        raise CheckpointError(
            f"tokenizer.json: {len(beyond)} tokens from {text!r} ({id}) on, the embeddings {rows} rows; "
            "train rows for them after resize_token_embeddings, or take this checkpoint's own tokenizer"
        )


def begin_token(tokenizer: Tokenizer) -> int | None:
    """The id the tokenizer puts before every text, if any.

    Raises CheckpointError when it adds anything but one token in front.
    """
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    if full == plain:
        return None
    if full[1:] == plain:
        return int(full[0])
    raise CheckpointError(
        f"tokenizer.json turns 'a' ({plain}) into {full}; wanted at most one token in front; "
        "choose another checkpoint"
    )


def image_placeholder(tokenizer: Tokenizer, image_token: int) -> str:
    """The text of the image token. Raises CheckpointError when it does not encode to that one token."""
    text = tokenizer.id_to_token(image_token)
    if text is None:
        raise CheckpointError(
            f"config.json says the image token is {image_token}, and tokenizer.json has no such token; "
            "the files are not from one checkpoint"
        )
    if tokenizer.encode(text, add_special_tokens=False).ids != [image_token]:
        raise CheckpointError(
            f"tokenizer.json does not encode {text!r} as the one token {image_token}; "
            "add it as a special token"
        )
    return str(text)


def demand_token(tokenizer: Tokenizer, text: str) -> int:
    """The id of a token of the prompts. Raises CheckpointError where it is not one token."""
    id = tokenizer.token_to_id(text)
    if id is None or tokenizer.encode(text, add_special_tokens=False).ids != [id]:
        raise CheckpointError(
            f"tokenizer.json does not encode {text!r} as one token, and the prompts of this model hold it; "
            "take the checkpoint's own tokenizer"
        )
    return int(id)


def stop_tokens(eos: int | list[int] | None) -> tuple[int, ...]:
    """End-of-sequence ids as transformers' generation configuration gives them."""
    if eos is None:
        return ()
    return tuple(eos) if isinstance(eos, list) else (eos,)
