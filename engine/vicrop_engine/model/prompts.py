"""From a question to token ids and back: templates, the image prefix, and which questions are refused.

Knows the tokenizer, the templates and how pictures are laid out; nothing of graphs or caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from vicrop_engine.arrays import Ints
from vicrop_engine.engine_dir.records import Prompts, SpecialTokens
from vicrop_engine.errors import EngineDamagedError, QuestionError
from vicrop_engine.images.seen import Layout

Ids = tuple[int, ...]
SENTENCE = " Answer the question using a single word or phrase."  # of the published templates


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt, image placeholders expanded: up to the first image's end, and the rest."""

    prefix: Ids
    suffix: Ids

    def __len__(self) -> int:
        return len(self.prefix) + len(self.suffix)


class PromptBuilder:
    """Fills the templates in and turns text to ids as the checkpoint's own tokenizer does."""

    def __init__(self, tokenizer: Path, prompts: Prompts, tokens: SpecialTokens) -> None:
        self._file = tokenizer
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prompts = prompts
        self._tokens = tokens
        added = self._tokenizer.get_added_tokens_decoder().values()
        signs = {token.content for token in added if token.special or token.content.strip()}
        self._forbidden = sorted(signs | {prompts.image_placeholder})

    def as_given(self) -> PromptBuilder:
        """The same, with templates that hold a question as it is given: whoever asks writes SENTENCE himself.

        The general prompt stays what it is.
        """
        plain = replace(
            self._prompts,
            question=self._prompts.question.replace("{question}" + SENTENCE, "{question}"),
            two_image_question=self._prompts.two_image_question.replace(
                "{question}" + SENTENCE, "{question}"
            ),
        )
        if plain != self._prompts:
            plain = replace(plain, general_question=self._prompts.general_question + SENTENCE)
        return PromptBuilder(self._file, plain, self._tokens)

    def check_templates(self, layout: Layout) -> None:
        """Raises EngineDamagedError unless prompts on one picture and on two begin alike."""
        if self.one_image("x", layout).prefix != self.two_images("x", layout, layout).prefix:
            raise EngineDamagedError("the prompt templates do not begin alike; rebuild the engine")

    def decoded(self, on_text: Callable[[str], None]) -> Callable[[Ids], None]:
        """What hears ids and tells their text."""
        return lambda ids: on_text(self.decode(ids))

    def one_image(self, question: str, picture: Layout) -> Prompt:
        """The prompt on the picture alone."""
        return self._prompt(self._prompts.question, question, (picture,))

    def two_images(self, question: str, picture: Layout, crop: Layout) -> Prompt:
        """The prompt on picture and crop; it has the prefix of `one_image`."""
        return self._prompt(self._prompts.two_image_question, question, (picture, crop))

    def up_to(self, text: str, picture: Layout) -> Prompt:
        """The prompt of a question that begins with `text`, cut after it.

        Attention looks back alone: the row of its last token is the one that the whole prompt has there.
        """
        before, _, _ = self._prompts.question.partition("{question}")
        return self._prompt(before + "{question}", text, (picture,))

    def general(self, picture: Layout) -> Prompt:
        """The general prompt, in the template of a question."""
        return self.one_image(self._prompts.general_question, picture)

    def places(self, prefix: Ids) -> Ints:
        """Where the picture's tokens are in a prompt's prefix, in their own order."""
        return np.flatnonzero(np.asarray(prefix) == self._tokens.image)

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

    def _prompt(self, template: str, question: str, pictures: Sequence[Layout]) -> Prompt:
        """The prefix ends with the first picture, its closing sign included."""
        before, *between = template.split(self._prompts.image_placeholder)
        if len(between) != len(pictures):
            raise EngineDamagedError("the prompt template holds no image token; rebuild the engine")
        texts = [picture.text for picture in pictures]
        parts = [before, *(part for pair in zip(texts, between, strict=True) for part in pair)]
        ids = self._tokenizer.encode("".join(parts).replace("{question}", question)).ids
        runs = iter([run for picture in pictures for run in picture.runs])
        if ids.count(self._tokens.image) != sum(len(picture.runs) for picture in pictures):
            raise EngineDamagedError("the prompt template holds no image token; rebuild the engine")
        expanded: list[int] = []
        cut, left = 0, len(pictures[0].runs)
        for id in ids:
            expanded += [id] * (next(runs) if id == self._tokens.image else 1)
            if id == self._tokens.image and (left := left - 1) == 0:
                cut = len(expanded) + pictures[0].closing
        return Prompt(tuple(expanded[:cut]), tuple(expanded[cut:]))


@dataclass(frozen=True)
class AskPrompts:
    """The prompts of one ask on the picture: the question, to look with (None: the same), general.

    `text` is what to look with as the user wrote it. With a `target_question` the model is to be asked first
    which thing is looked for, and what to look with is known then; until it is, `localize` is the longest.
    """

    question: Prompt
    localize: Prompt | None
    general: Prompt
    text: str = ""
    target_question: Prompt | None = None

    @property
    def looked_with(self) -> Prompt:
        """The prompt whose attention is read."""
        return self.localize or self.question

    def shared_tokens(self, *, looks: bool) -> int:
        """Tokens that go through one pass over a picture: the question's, and with `looks` all others'."""
        aside = [self.localize, self.general] if looks else []
        return len(self.question) + sum(len(prompt.suffix) for prompt in aside if prompt is not None)
