"""From a question to token ids and back: templates, the image prefix, and which questions are refused.

Knows the tokenizer and the templates; nothing of graphs or caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from vicrop_engine.engine_dir.records import Prompts, SpecialTokens
from vicrop_engine.errors import EngineDamagedError, QuestionError

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt, image placeholders expanded: up to the first image's end, and the rest."""

    prefix: Ids
    suffix: Ids

    def __len__(self) -> int:
        return len(self.prefix) + len(self.suffix)


class PromptBuilder:
    """Fills the templates in and turns text to ids as the checkpoint's own tokenizer does."""

    def __init__(self, tokenizer: Path, prompts: Prompts, tokens: SpecialTokens, image_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prompts = prompts
        self._tokens = tokens
        self._image_tokens = image_tokens
        added = self._tokenizer.get_added_tokens_decoder().values()
        special = {token.content for token in added if token.special}
        self._forbidden = sorted(special | {prompts.image_placeholder})
        if self.one_image("x").prefix != self.two_images("x").prefix:
            raise EngineDamagedError("the prompt templates do not begin alike; rebuild the engine")

    def decoded(self, on_text: Callable[[str], None]) -> Callable[[Ids], None]:
        """What hears ids and tells their text."""
        return lambda ids: on_text(self.decode(ids))

    def one_image(self, question: str) -> Prompt:
        """The prompt on the picture alone."""
        return self._prompt(self._prompts.question, question)

    def two_images(self, question: str) -> Prompt:
        """The prompt on picture and crop; it has the prefix of `one_image`."""
        return self._prompt(self._prompts.two_image_question, question)

    def general(self) -> Prompt:
        """The general prompt, in the template of a question."""
        return self.one_image(self._prompts.general_question)

    def check(self, question: str, what: str = "question") -> None:
        """Raises QuestionError when the text is empty or would put a special token into the prompt."""
        if not isinstance(question, str):
            raise QuestionError(f"the {what} is {type(question).__name__}, wanted text")
        if not question.strip():
            raise QuestionError(f"the {what} is empty; ask something about the picture")
        for text in self._forbidden:
            if text in question:
                raise QuestionError(
                    f"the {what} contains {text!r}, which the model reads as a sign; leave it out"
                )
        try:
            question.encode("utf-8")
        except UnicodeEncodeError as error:
            raise QuestionError(f"the {what} is not valid Unicode text; write it again") from error
        ids = self._tokenizer.encode(question, add_special_tokens=False).ids
        if {*self._tokens.eos, self._tokens.bos, self._tokens.image} & set(ids):
            raise QuestionError(f"the {what} contains a special token of the model; write it without")

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, special tokens left out, stripped."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _prompt(self, template: str, question: str) -> Prompt:
        ids = self._tokenizer.encode(template.replace("{question}", question)).ids
        if self._tokens.image not in ids:
            raise EngineDamagedError("the prompt template holds no image token; rebuild the engine")
        first = ids.index(self._tokens.image)
        return Prompt(self._expanded(ids[: first + 1]), self._expanded(ids[first + 1 :]))

    def _expanded(self, ids: Sequence[int]) -> Ids:
        image = self._tokens.image
        return tuple(copy for id in ids for copy in [id] * (self._image_tokens if id == image else 1))


@dataclass(frozen=True)
class AskPrompts:
    """The prompts of one ask: on the picture, to look with (None: the same), general, on picture and crop.

    `text` is what to look with as the user wrote it.
    """

    question: Prompt
    localize: Prompt | None
    general: Prompt
    two_images: Prompt
    text: str = ""

    @property
    def looked_with(self) -> Prompt:
        """The prompt whose attention is read."""
        return self.localize or self.question

    def shared_tokens(self, *, looks: bool) -> int:
        """Tokens that go through one pass over a picture: the question's, and with `looks` all others'."""
        aside = [self.localize, self.general] if looks else []
        return len(self.question) + sum(len(prompt.suffix) for prompt in aside if prompt is not None)
