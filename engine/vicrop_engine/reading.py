"""One question about one picture on the shared image prefix; every pass is made at most once, when asked for.

This is what a localizer sees. Knows prompts, passes and rows; nothing of how a heatmap or box comes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vicrop_engine.generate import Generation, Pass
from vicrop_engine.geometry import Grid
from vicrop_engine.image import Picture
from vicrop_engine.model import Model
from vicrop_engine.prefix_cache import Prefix, PrefixKey
from vicrop_engine.preprocessing import ModelInput
from vicrop_engine.prompts import Prompt
from vicrop_engine.timing import Stopwatch

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prompted:
    """The prompts of one ask: on the picture, to look with (None: the same), general, on picture and crop."""

    question: Prompt
    localize: Prompt | None
    general: Prompt
    two_images: Prompt


@dataclass
class Reading:
    """The state of one ask; `prompt_tokens` counts the tokens of all prompts used so far, reused or not."""

    model: Model
    picture: Picture
    grid: Grid
    prompted: Prompted
    key: PrefixKey
    prefix: Prefix
    watch: Stopwatch
    keep_answer: bool
    prompt_tokens: int = 0
    _question: Pass | None = field(default=None, init=False)

    def question_rows(self, layers: tuple[int, ...]) -> Floats:
        """The last question token's attention to the patches, [layers, heads, patches]."""
        self.watch.enter("prefill")
        if self.prompted.localize is None and self.keep_answer:
            return self._patches(self.model.decoder.rows(self._question_pass().attention, layers))
        return self._look(self.prompted.localize or self.prompted.question, layers)

    def general_rows(self, layers: tuple[int, ...]) -> Floats:
        """The same for the general prompt; kept with the prefix, for it depends on the picture alone."""
        self.watch.enter("prefill")
        if layers in self.prefix.general:
            self.model.tally.add(general_hits=1)
            self.prompt_tokens += len(self.prompted.general)
            return self.prefix.general[layers]
        self.model.tally.add(general_prefills=1)
        rows = self._look(self.prompted.general, layers)
        self.prefix.general[layers] = rows
        self.model.prefixes.put(self.key, self.prefix)
        return rows

    def first_answer(self, max_new_tokens: int) -> Generation:
        """The answer on the picture alone."""
        self.watch.enter("prefill")
        start = self._question_pass()
        self.watch.enter("decode")
        return self.model.decoder.decode(start, max_new_tokens)

    def answer_with(self, crop: ModelInput, max_new_tokens: int) -> Generation:
        """The answer on picture and crop, continued from the picture's prefix."""
        self.watch.enter("crop_vision")
        embeds = self.model.vision.embed(crop.pixels)
        self.watch.enter("crop_prefill")
        self.prompt_tokens += len(self.prompted.two_images)
        suffix = self.prompted.two_images.suffix
        start = self.model.decoder.prefill(suffix, [embeds], self.prefix.cache)
        self.watch.enter("decode")
        return self.model.decoder.decode(start, max_new_tokens)

    def _question_pass(self) -> Pass:
        if self._question is None:
            self.prompt_tokens += len(self.prompted.question)
            suffix = self.prompted.question.suffix
            self._question = self.model.decoder.prefill(suffix, (), self.prefix.cache, tap=True)
        return self._question

    def _look(self, prompt: Prompt, layers: tuple[int, ...]) -> Floats:
        self.prompt_tokens += len(prompt)
        return self._patches(self.model.decoder.attention(prompt.suffix, self.prefix.cache, layers))

    def _patches(self, rows: Floats) -> Floats:
        """[layers, heads, total] to the columns of the first image's patches."""
        vision = self.model.manifest.vision
        start = self.prompted.question.prefix.index(self.model.manifest.tokens.image) + vision.patch_offset
        return np.ascontiguousarray(rows[:, :, start : start + vision.rows * vision.cols])
