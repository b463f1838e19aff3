"""The tokenizer of what a vision part reads beside its pictures; knows its bound, nothing of templates."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from vicrop_engine.engine_dir.records import InstructionReader
from vicrop_engine.errors import QuestionError


class InstructionTokenizer:
    """Turns prompts without their pictures to the ids that the vision part reads."""

    def __init__(self, tokenizer: Path, reader: InstructionReader) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._most = reader.most_tokens

    @property
    def signs(self) -> frozenset[str]:
        """Texts that it reads as a sign wherever they stand."""
        return frozenset(token.content for token in self._tokenizer.get_added_tokens_decoder().values())

    def ids(self, text: str) -> tuple[int, ...]:
        """Those of an instruction. Raises QuestionError where there are more than the vision part takes."""
        ids = tuple(self._tokenizer.encode(text).ids)
        if len(ids) > self._most:
            raise QuestionError(
                f"the question makes an instruction of {len(ids)} tokens for the vision part, which takes "
                f"{self._most} at most; ask a shorter one"
            )
        return ids
