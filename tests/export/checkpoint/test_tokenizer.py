"""The checkpoint's tokenizer as transformers uses it, and the ids with a meaning of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import AutoTokenizer

from tests.checkpoints import CORPUS, small_tokenizer, write_json
from tests.export.conftest import edit_json
from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.tokenizer import begin_token, image_placeholder, load_tokenizer, stop_tokens


def image_token(checkpoint: Path) -> int:
    token: int = json.loads((checkpoint / "config.json").read_text())["image_token_index"]
    return token


def test_the_ids_are_transformers(checkpoint: Path) -> None:
    tokenizer, loaded = load_tokenizer(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    for text in (*CORPUS, "<image>\nUSER: zwölf?", ""):
        assert tokenizer.encode(text).ids == loaded(text)["input_ids"]


def test_tokens_named_only_beside_the_tokenizer_are_there(checkpoint: Path) -> None:
    size = small_tokenizer().get_vocab_size()
    write_json(checkpoint / "added_tokens.json", {"<late>": size})
    assert load_tokenizer(checkpoint).encode("<late>", add_special_tokens=False).ids == [size]


def test_padding_and_truncation_are_off(checkpoint: Path) -> None:
    def pad(document: dict[str, Any]) -> None:
        document["truncation"] = {
            "direction": "Right",
            "max_length": 2,
            "strategy": "LongestFirst",
            "stride": 0,
        }

    edit_json(checkpoint / "tokenizer.json", pad)
    tokenizer = load_tokenizer(checkpoint)
    assert len(tokenizer.encode(CORPUS[0]).ids) > 2
    assert tokenizer.padding is None


@pytest.mark.parametrize("text", ["{}", "{", "", '{"model": 5}'])
def test_a_damaged_tokenizer(text: str, checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").write_text(text)
    with pytest.raises(
        CheckpointError, match=r"tokenizer\.json cannot be loaded as a tokenizer .* fetch"
    ) as got:
        load_tokenizer(checkpoint)
    assert "\n" not in str(got.value)


def test_the_begin_token() -> None:
    tokenizer = small_tokenizer()
    assert begin_token(tokenizer) == tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    assert begin_token(tokenizer) is None
    marks = [("<s>", 1), ("</s>", 2)]
    for template in ("<s> $A </s>", "$A </s>", "<s> <s> $A"):
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=marks)
        with pytest.raises(CheckpointError, match="wanted at most one token in front; choose"):
            begin_token(tokenizer)


def test_the_image_placeholder(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    assert image_placeholder(tokenizer, image_token(checkpoint)) == "<image>"


def test_an_image_token_the_tokenizer_lacks(checkpoint: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"image token is 99999, and tokenizer\.json has no such token; the"
    ):
        image_placeholder(load_tokenizer(checkpoint), 99999)


def test_an_image_token_that_text_does_not_encode_to(checkpoint: Path) -> None:
    byte = 5
    with pytest.raises(
        CheckpointError, match="does not encode '<0x02>' as the one token 5; add it as a special"
    ):
        image_placeholder(load_tokenizer(checkpoint), byte)


@pytest.mark.parametrize(("eos", "wanted"), [(None, ()), (2, (2,)), ([2, 7], (2, 7))])
def test_stop_tokens(eos: int | list[int] | None, wanted: tuple[int, ...]) -> None:
    assert stop_tokens(eos) == wanted
