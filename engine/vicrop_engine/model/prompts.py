"""From a question to token ids and back: templates, the image prefix, and which questions are refused.

Knows the tokenizer, the templates and how pictures are laid out; nothing of graphs or caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from vicrop_engine.answer_form import PLAIN, AnswerForm
from vicrop_engine.arrays import Ints
from vicrop_engine.engine_dir.records import Prompts, SpecialTokens
from vicrop_engine.errors import EngineDamagedError, QuestionError
from vicrop_engine.images.seen import Layout
from vicrop_engine.model.answers.greedy import Generation, TokenRules
from vicrop_engine.model.answers.json_mask import JsonMasks
from vicrop_engine.model.instructions import InstructionTokenizer

Ids = tuple[int, ...]
WINDOW = 8  # tokens before one that can change how it reads
SENTENCE = " Answer the question using a single word or phrase."  # of the published templates


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt, image placeholders expanded: up to the first image's end, and the rest.

    `instruction` are the ids that the vision part reads with its pictures, None where it reads none: prompts
    of other instructions share no more of a picture than what the vision tower makes of it.
    """

    prefix: Ids
    suffix: Ids
    instruction: Ids | None = None

    def __len__(self) -> int:
        return len(self.prefix) + len(self.suffix)


@dataclass(frozen=True)
class TokenLogprob:
    """A token of an answer as text, its log probability, and the likeliest ones in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class PromptBuilder:
    """Fills the templates in and turns text to ids as the checkpoint's own tokenizer does."""

    def __init__(
        self,
        tokenizer: Path,
        prompts: Prompts,
        tokens: SpecialTokens,
        instructions: InstructionTokenizer | None = None,
    ) -> None:
        self._file, self._instructions = tokenizer, instructions
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prompts = prompts
        self._tokens = tokens
        self._masks = JsonMasks(tokenizer, tokens.eos)
        added = self._tokenizer.get_added_tokens_decoder().values()
        signs = {token.content for token in added if token.special or token.content.strip()}
        if instructions is not None:
            signs |= instructions.signs
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
        return PromptBuilder(self._file, plain, self._tokens, self._instructions)

    def check_templates(self, layout: Layout) -> None:
        """Raises EngineDamagedError unless prompts on one picture and on two begin alike."""
        if self.one_image("x", layout).prefix != self.two_images("x", layout, layout).prefix:
            raise EngineDamagedError("the prompt templates do not begin alike; rebuild the engine")

    def decoded(self, on_text: Callable[[str], None], form: AnswerForm = PLAIN) -> Callable[[Ids], None]:
        """What hears ids and tells as much of their text as will surely stay."""
        return lambda ids: on_text(form.settled(self._text(ids)).strip())

    def rules(self, form: AnswerForm) -> TokenRules:
        """How tokens of an answer of this form are taken. Raises SchemaError."""
        stops = partial(self.is_cut, form=form) if form.stop else None
        mask = None if form.json_schema is None else self._masks.of(form.json_schema)
        return TokenRules(form.ignore_eos, stops, mask, form.top_logprobs)

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

    def text_alone(self, question: str) -> Prompt:
        """The prompt of a question without a picture, as it is given; its prefix is the first token."""
        template = without_picture(self._prompts).replace(SENTENCE, "")
        ids = self._tokenizer.encode(template.replace("{question}", question)).ids
        return Prompt(tuple(ids[:1]), tuple(ids[1:]))

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

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

    def is_cut(self, ids: Sequence[int], form: AnswerForm) -> bool:
        """Whether a text that stops it is in the text of these ids."""
        text = self._text(ids)
        return form.cut(text) != text

    def decode(self, ids: Sequence[int], form: AnswerForm = PLAIN) -> str:
        """The text of generated ids up to where it is cut, special tokens left out, stripped."""
        return form.cut(self._text(ids)).strip()

    def token_logprobs(self, made: Generation) -> tuple[TokenLogprob, ...]:
        """The generated tokens with their log probabilities, as they read where they stand.

        The end sign is left out, as the text has it.
        """
        found = []
        for place, (id, each) in enumerate(zip(made.ids, made.logprobs, strict=False)):
            if id in self._tokens.eos:
                continue
            before = made.ids[max(0, place - WINDOW) : place]
            top = tuple((self._piece(before, other), value) for other, value in each.top)
            found.append(TokenLogprob(self._piece(before, id), each.logprob, top))
        return tuple(found)

    def _piece(self, before: Ids, id: int) -> str:
        """What one more token adds to the text of those before it."""
        text, longer = (
            str(self._tokenizer.decode(list(ids), skip_special_tokens=False))
            for ids in (before, (*before, id))
        )
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, longer, strict=False)))
        return longer[same:]

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).lstrip()

    def _prompt(self, template: str, question: str, pictures: Sequence[Layout]) -> Prompt:
        """The prefix ends with the first picture, its closing sign included."""
        before, *between = template.split(self._prompts.image_placeholder)
        if len(between) != len(pictures):
            raise EngineDamagedError("the prompt template holds no image token; rebuild the engine")
        texts = [picture.text for picture in pictures]
        parts = [before, *(part for pair in zip(texts, between, strict=True) for part in pair)]
        ids = encoded(self._tokenizer, self._prompts, "".join(parts).replace("{question}", question))
        runs = iter([run for picture in pictures for run in picture.runs])
        if ids.count(self._tokens.image) != sum(len(picture.runs) for picture in pictures):
            raise EngineDamagedError("the prompt template holds no image token; rebuild the engine")
        expanded: list[int] = []
        cut, left = 0, len(pictures[0].runs)
        for id in ids:
            expanded += [id] * (next(runs) if id == self._tokens.image else 1)
            if id == self._tokens.image and (left := left - 1) == 0:
                cut = len(expanded) + pictures[0].closing
        return Prompt(tuple(expanded[:cut]), tuple(expanded[cut:]), self._instruction(template, question))

    def _instruction(self, template: str, question: str) -> Ids | None:
        """Of the same text without its pictures, where the vision part reads it."""
        if self._instructions is None:
            return None
        text = template.replace(self._prompts.image_placeholder, "").replace("{question}", question)
        return self._instructions.ids(text)


def encoded(tokenizer: Tokenizer, prompts: Prompts, text: str) -> list[int]:
    """Ids of a template filled in, with the sign that every text begins with where the family has it."""
    if not prompts.pictures_first:
        return list(tokenizer.encode(text).ids)
    pictures, placeholder, rest = text.rpartition(prompts.image_placeholder)
    first = tokenizer.encode(pictures + placeholder, add_special_tokens=False).ids
    return [*first, *tokenizer.encode(rest).ids]


def without_picture(prompts: Prompts) -> str:
    """The template of a question with nothing of its picture: neither the placeholder nor signs around it.

    They are what the template of two pictures has twice.
    """
    one, two = prompts.question, prompts.two_image_question
    size = len(two) - len(one)
    for start in range(len(one) - size + 1):
        part = one[start : start + size]
        if prompts.image_placeholder in part and two == one[:start] + part + one[start:]:
            return one[:start] + one[start + size :].removeprefix("\n")
    raise EngineDamagedError("the prompt template holds no image token; rebuild the engine")


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
        """Tokens that go through one pass over a picture: the question's, and with `looks` all others'.

        Those of another instruction have a pass of their own.
        """
        others = [self.localize, self.general] if looks else []
        beside = [prompt for prompt in others if prompt is not None and self.goes_beside(prompt)]
        return len(self.question) + sum(len(prompt.suffix) for prompt in beside)

    def goes_beside(self, prompt: Prompt) -> bool:
        """Whether a prompt continues the same image prefix as the question."""
        return prompt.instruction == self.question.instruction
