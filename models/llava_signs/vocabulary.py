"""The tokenizer of llava-signs: BPE with byte fallback in the style of Llama's.

Words of the question templates are single tokens and a digit is one token; anything else falls apart into
letters and bytes, so no text is refused.
"""

from __future__ import annotations

from pathlib import Path

from questions import (
    COUNT_QUESTION,
    GENERAL_QUESTION,
    PRESENCE_QUESTION,
    PROMPT,
    READ_QUESTIONS,
    SHAPE_QUESTION,
)
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from world import COLOUR_NAMES, DIGITS, SHAPES

UNK, BOS, EOS, PAD, IMAGE = "<unk>", "<s>", "</s>", "<pad>", "<image>"
MARK = "\u2581"  # stands for a blank, as in SentencePiece


def build_tokenizer() -> Tokenizer:
    """Build the tokenizer from the question templates; the same on every machine."""
    vocab: dict[str, int] = {}
    merges: list[tuple[str, str]] = []
    for token in (UNK, BOS, EOS, *(f"<0x{byte:02X}>" for byte in range(256)), MARK):
        vocab.setdefault(token, len(vocab))
    for code in range(33, 127):
        vocab.setdefault(chr(code), len(vocab))
    for word in _words():
        _add_word(word, vocab, merges)
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token=UNK, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in (UNK, BOS, EOS, PAD, IMAGE)]
    )
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, bos_id)]
    )
    return tokenizer


def _words() -> list[str]:
    templates = (
        PROMPT, *READ_QUESTIONS, PRESENCE_QUESTION, SHAPE_QUESTION, COUNT_QUESTION, GENERAL_QUESTION
    )  # fmt: skip
    text = " ".join(templates).replace("{name}", "").replace("{shape}", "").replace("{colour}", "")
    words = (
        {word.strip("?.:,{}") for word in text.split()}
        | set(COLOUR_NAMES)
        | set(SHAPES)
        | {"yes", "no", "signs", "color"}
    )
    marked = [MARK + word for word in (*sorted(words - {"", "USER", "ASSISTANT"}), *DIGITS)]
    return [*marked, "USER", "ASSISTANT"]


def _add_word(word: str, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """Add the merges that build `word` from left to right."""
    for end in range(2, len(word) + 1):
        pair = (word[: end - 1], word[end - 1])
        if word[:end] not in vocab:
            vocab[word[:end]] = len(vocab)
            merges.append(pair)


def save_tokenizer(directory: Path) -> None:
    """Write tokenizer.json into `directory`."""
    build_tokenizer().save(str(directory / "tokenizer.json"))


if __name__ == "__main__":
    tokenizer = build_tokenizer()
    print(tokenizer.get_vocab_size(), tokenizer.encode(PROMPT.format(question=READ_QUESTIONS[0])).tokens)
