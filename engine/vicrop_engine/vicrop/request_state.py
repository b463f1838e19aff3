"""One question about one picture on the shared image prefix; each pass is made at most once, when asked for.

This is what a localizer sees. The question, what to look with and the general prompt go through the decoder
in one pass, with the picture itself when that is new. Knows prompts, passes and rows; nothing of how a
heatmap or box comes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vicrop_engine.arrays import Floats
from vicrop_engine.images.geometry import Grid
from vicrop_engine.images.picture import Picture
from vicrop_engine.images.preprocessing import ModelInput
from vicrop_engine.images.tiling import TilePlan
from vicrop_engine.model.forward import PrefillOutput
from vicrop_engine.model.greedy import Generation, OnTokens
from vicrop_engine.model.model import Model
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.prompts import AskPrompts, Prompt
from vicrop_engine.model.token_pruning import most_distinct
from vicrop_engine.model.two_answers import TwoAnswers
from vicrop_engine.timing import Stopwatch


@dataclass(frozen=True)
class PassTargets:
    """What the pass over the picture is for: the answer on it alone, and rows of `layers` to look with.

    With `gradients` these rows come with the loss's gradient and need no general prompt.
    """

    answer: bool
    layers: tuple[int, ...]
    gradients: bool = False

    @property
    def reads(self) -> bool:
        """Whether there is a pass at all."""
        return self.answer or bool(self.layers)


@dataclass
class RequestState:
    """The state of one ask, or of one tile of it.

    With `tiles` of more than one the picture is to be looked at in these. `prompt_tokens` counts the tokens
    of all prompts used so far, reused or not.
    """

    model: Model
    picture: Picture
    grid: Grid
    prompts: AskPrompts
    prefix: Prefix
    watch: Stopwatch
    wanted: PassTargets
    seen: ModelInput
    tiles: TilePlan | None = None
    prompt_tokens: int = 0
    _pass: tuple[list[Prompt], PrefillOutput] | None = field(default=None, init=False)
    _gradients: tuple[Floats, Floats] | None = field(default=None, init=False)

    @property
    def text(self) -> str:
        """The question to look with, as the user wrote it."""
        return self.prompts.text

    def question_rows(self) -> Floats:
        """The attention of the last token to look with to the patches, [wanted layers, heads, patches]."""
        prompts, read = self._read()
        rows = self._patches(read, prompts.index(self.prompts.looked_with))
        return np.stack([rows[layer] for layer in self.wanted.layers])

    def general_rows(self) -> Floats:
        """The same for the general prompt; kept with the prefix, for it depends on the picture alone."""
        self._read()
        return np.stack([self.prefix.general[layer] for layer in self.wanted.layers])

    def device_rows(self) -> tuple[list[Any], list[Any]]:
        """What `question_rows` and `general_rows` are made of, by wanted layer, on an engine's device."""
        prompts, read = self._read()
        rows = self._patches(read, prompts.index(self.prompts.looked_with))
        layers = self.wanted.layers
        return [rows[layer] for layer in layers], [self.prefix.general[layer] for layer in layers]

    def gradient_rows(self) -> tuple[Floats, Floats]:
        """The attention of `question_rows`, and the gradient of the answer's log likelihood at it, alike."""
        self._read()
        if self._gradients is None:
            raise ValueError("the pass was made without gradients; ask for them in `wanted`")
        first = min(self.model.manifest.crop.layers)
        layers, patches = [layer - first for layer in self.wanted.layers], self._patch_columns
        attention, gradient = (rows[layers][..., patches] for rows in self._gradients)
        return attention, gradient

    def gradient_strengths(self) -> tuple[Floats, Floats]:
        """How strongly the answers to look with and to the general prompt hang on pixels, [height, width].

        The general one is kept with the prefix, for it depends on the picture alone.
        """
        suffixes = [self.prompts.looked_with.suffix]
        known = self.prefix.general_gradient
        if known is None:
            suffixes.append(self.prompts.general.suffix)
        strengths = self.model.gradients.strengths(self.seen.pixels, self.prompts.question.prefix, suffixes)
        if known is None:
            known = self.prefix.general_gradient = strengths[1].copy()
        return strengths[0], known

    def first_logits(self) -> Floats:
        """The logits [vocab] of the first answer's first token, known before anything is decoded."""
        _, read = self._read()
        return self.model.decoder.logits(read)

    def first_answer(self, max_new_tokens: int, on_tokens: OnTokens | None = None) -> Generation:
        """The answer on the picture alone; `on_tokens` is told its ids whenever there is one more."""
        _, read = self._read()
        self.watch.enter("decode")
        return self.model.decoder.decode(read, max_new_tokens, on_tokens)

    def answer_with(self, crop: ModelInput, max_new_tokens: int) -> Generation:
        """The answer on picture and crop, continued from the picture's prefix."""
        embeds = self._crop_embeds(crop)
        suffix = self.prompts.two_images.suffix
        with self.model.alone_on(self.prefix):
            start = self.model.decoder.prefill(self.prefix, [suffix], [embeds])
        self.watch.enter("decode")
        return self.model.decoder.decode(start, max_new_tokens)

    def both_answers(
        self, crop: ModelInput, max_new_tokens: int, on_tokens: OnTokens | None = None
    ) -> tuple[Generation, Generation]:
        """The answer on the picture alone, which goes along with the crop's passes, and that with the crop.

        `on_tokens` is told the first one's ids whenever there is one more.
        """
        _, read = self._read()
        decoder = self.model.decoder
        if decoder.decodes_in_background:
            final = self.answer_with(crop, max_new_tokens)
            return self.first_answer(max_new_tokens, on_tokens), final
        if not decoder.answers_side_by_side:
            return self.first_answer(max_new_tokens, on_tokens), self.answer_with(crop, max_new_tokens)
        if not read.cache.buffers.holds(read.cache):  # a localizer has made passes of its own
            read = decoder.prefill(self.prefix, [self.prompts.question.suffix])
        answers = TwoAnswers(decoder, read, self.prefix.length, max_new_tokens, on_tokens)
        if answers.first is not None:
            return answers.first, self.answer_with(crop, max_new_tokens)
        embeds = self._crop_embeds(crop)
        answers.begin_final(self.prompts.two_images.suffix, [embeds])
        self.watch.enter("decode")
        return answers.finish()

    def _crop_embeds(self, crop: ModelInput) -> Floats:
        """The image embeds of the crop that its prompt has room for; what comes next is its prefill."""
        self.watch.enter("crop_vision")
        embeds = self.model.vision.embed(crop.pixels)
        self.watch.enter("crop_prefill")
        self.prompt_tokens += len(self.prompts.two_images)
        number = self.prompts.two_images.suffix.count(self.model.manifest.tokens.image)
        return embeds if number >= self.model.manifest.vision.image_tokens else most_distinct(embeds, number)

    def _read(self) -> tuple[list[Prompt], PrefillOutput]:
        """The one pass over the picture, made when first needed, and the prompts that went through it."""
        with self.model.alone_on(self.prefix):
            return self._read_alone()

    def _read_alone(self) -> tuple[list[Prompt], PrefillOutput]:
        if self._pass is None:
            self.watch.enter("prefill")
            prompts = self._prompts()
            self.prompt_tokens += sum(len(prompt) for prompt in prompts)
            suffixes = [prompt.suffix for prompt in prompts]
            answer, layers = self.wanted.answer, self.wanted.layers
            gradients = self.wanted.gradients and bool(layers)
            read = self.model.decoder.prefill(
                self.prefix, suffixes, answer=answer, layers=layers, gradients=gradients
            )
            self._pass = prompts, read
            if gradients:  # now, for decoding writes over the rows of a prompt that is only looked with
                self.watch.enter("heatmap")
                self._gradients = self.model.decoder.gradients(read, prompts.index(self.prompts.looked_with))
            if self.prompts.general in prompts:
                general = self._patches(read, prompts.index(self.prompts.general))
                self.prefix.general.update({layer: rows.copy() for layer, rows in general.items()})
        return self._pass

    def _prompts(self) -> list[Prompt]:
        """The one to answer first, for it is to be continued; the general prompt last, if it is needed."""
        prompts = [self.prompts.question] if self.wanted.answer else []
        if not self.wanted.layers:
            return prompts
        if self.prompts.looked_with not in prompts:
            prompts.append(self.prompts.looked_with)
        if self.wanted.gradients:
            return prompts
        if all(layer in self.prefix.general for layer in self.wanted.layers):
            self.model.tally.add(general_hits=1)
            self.prompt_tokens += len(self.prompts.general)
        else:
            self.model.tally.add(general_prefills=1)
            prompts.append(self.prompts.general)
        return prompts

    def _patches(self, read: PrefillOutput, suffix: int) -> dict[int, Floats]:
        """Attention of a suffix's last token to the patches [heads, patches], by layer."""
        patches = self._patch_columns
        return {layer: row[:, patches] for layer, row in read.rows(suffix).items()}

    @property
    def _patch_columns(self) -> slice:
        """Where the patches are among the keys."""
        vision = self.model.manifest.vision
        start = self.prompts.question.prefix.index(self.model.manifest.tokens.image) + vision.patch_offset
        return slice(start, start + vision.rows * vision.cols)
