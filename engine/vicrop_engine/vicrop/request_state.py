"""One question about one picture, encoded and prefilled: what a localizer sees.

Knows prompts, rows and where they lie on the picture; nothing of how a heatmap or box comes of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.images.geometry import Grid
from vicrop_engine.images.picture import Picture
from vicrop_engine.images.seen import Seen
from vicrop_engine.images.tiling import TilePlan
from vicrop_engine.model.interfaces import Prefilled
from vicrop_engine.model.model import Model
from vicrop_engine.model.prefix_cache import Prefix
from vicrop_engine.model.prompts import AskPrompts, Prompt
from vicrop_engine.model.states import AttentionRows, of_kind
from vicrop_engine.runtime.device import AttentionRow
from vicrop_engine.timing import Stopwatch
from vicrop_engine.vicrop.targets import Target


@dataclass(frozen=True)
class PassTargets:
    """What the pass over the picture is for: the answer on it alone, and rows of `layers` to look with.

    With `gradients` these rows come with the loss's gradient, with `of_target` they are those of the last
    token of the thing asked for; both need no general prompt.
    """

    answer: bool
    layers: tuple[int, ...]
    gradients: bool = False
    of_target: bool = False

    @property
    def reads(self) -> bool:
        """Whether there is a pass at all."""
        return self.answer or bool(self.layers)


@dataclass(frozen=True)
class PrefilledPrompts:
    """The prompts that went through one pass, the one to be answered first, and what the pass left.

    `gradients` are attention and gradient of the prompt to look with, [layers, heads, total] each. `mixer`
    [tokens, cells] is their picture's, with gradients that of the looks which help the answer; `apart` are
    the passes of prompts with another instruction.
    """

    prompts: tuple[Prompt, ...]
    output: Prefilled
    gradients: tuple[Floats, Floats] | None = None
    mixer: Floats | None = None
    apart: tuple[PrefilledPrompts, ...] = ()

    def rows(self, prompt: Prompt) -> Mapping[int, AttentionRows]:
        """Attention [heads, total] of a prompt's last token, by absolute layer."""
        return self.output.rows(self.prompts.index(prompt))

    def of(self, prompt: Prompt) -> PrefilledPrompts:
        """The pass that a prompt went through. Raises ValueError where there was none."""
        for each in (self, *self.apart):
            if prompt in each.prompts:
                return each
        raise ValueError("the prompt went through no pass; name what is read in `targets`")


@dataclass
class RequestState:
    """The state of one ask, or of one tile of it.

    With `tiles` of more than one the picture is to be looked at in these. `prompt_tokens` counts the tokens
    of all prompts used so far, reused or not. `prefilled` is what the pass left, None where there was none;
    `kept` holds what depends on the picture alone; it is `prefix` unless that depends on the question too.
    `crop_prompt` is there once the crop is. `target` is what is looked for, where the localizer looks for a
    thing. `notices` are sentences about what was done otherwise than asked.
    """

    model: Model
    picture: Picture
    prompts: AskPrompts
    prefix: Prefix
    watch: Stopwatch
    targets: PassTargets
    seen: Seen
    tiles: TilePlan | None = None
    prompt_tokens: int = 0
    prefilled: PrefilledPrompts | None = None
    crop_prompt: Prompt | None = None
    notices: tuple[str, ...] = ()
    target: Target | None = None
    kept: Prefix = field(init=False)

    def __post_init__(self) -> None:
        self.kept = self.prefix

    @property
    def grid(self) -> Grid:
        """How the cells that tokens stand for lie on the picture."""
        return self.seen.layout.grid

    @property
    def with_crop(self) -> Prompt:
        """The prompt on picture and crop. Raises ValueError before there is a crop."""
        if self.crop_prompt is None:
            raise ValueError("no crop was made of this picture; encode one first")
        return self.crop_prompt

    @property
    def text(self) -> str:
        """The question to look with, as the user wrote it."""
        return self.prompts.text

    def question_rows(self) -> Floats:
        """The attention of the last token to look with to the patches, [target layers, heads, patches].

        Raises ValueError where no pass was made.
        """
        rows = self.rows_on_cells(self.prompts.looked_with, self.targets.layers)
        return np.stack([np.asarray(rows[layer]) for layer in self.targets.layers])

    def general_rows(self) -> Floats:
        """The same for the general prompt; kept, for it depends on the picture alone."""
        return np.stack([np.asarray(self.kept.general[layer]) for layer in self.targets.layers])

    def device_rows(self) -> tuple[list[AttentionRow], list[AttentionRow]]:
        """What `question_rows` and `general_rows` are made of, by target layer, on an engine's device."""
        layers = self.targets.layers
        rows = self.rows_on_cells(self.prompts.looked_with, layers)
        asked = [of_kind(AttentionRow, row) for row in rows.values()]
        return asked, [of_kind(AttentionRow, self.kept.general[layer]) for layer in layers]

    def gradient_rows(self) -> tuple[Floats, Floats]:
        """The attention of `question_rows`, and the gradient of the answer's log likelihood at it, alike.

        Where cells are mixed of tokens, what helps of both stages' attention, and ones.

        Raises ValueError where the targets had no gradients.
        """
        made = self.demand_pass().of(self.prompts.looked_with)
        if made.gradients is None:
            raise ValueError("the pass was made without gradients; ask for them in `targets`")
        first = min(self.model.manifest.crop.layers)
        layers, patches = [layer - first for layer in self.targets.layers], self.patch_columns
        attention, gradient = (rows[layers][..., patches] for rows in made.gradients)
        if made.mixer is None:
            return attention, gradient
        cells: Floats = (attention * np.maximum(gradient, 0)) @ made.mixer
        return cells, np.ones_like(cells)

    def gradient_strengths(self) -> tuple[Floats, Floats]:
        """How strongly the answers to look with and to the general prompt hang on pixels, [height, width].

        The general one is kept, for it depends on the picture alone.
        """
        suffixes = [self.prompts.looked_with.suffix]
        known = self.kept.general_gradient
        if known is None:
            suffixes.append(self.prompts.general.suffix)
        strengths = self.model.gradients.strengths(
            self.seen.inputs.pixels, self.prompts.question.prefix, suffixes
        )
        if known is None:
            known = self.kept.general_gradient = strengths[1].copy()
        return strengths[0], known

    def first_logits(self) -> Floats:
        """The logits [vocab] of the first answer's first token, known before anything is decoded."""
        return self.model.decoder.logits(self.demand_pass().output)

    def demand_pass(self) -> PrefilledPrompts:
        """What the prefill left. Raises ValueError where nothing was to be read."""
        if self.prefilled is None:
            raise ValueError("no pass was made over this picture; name what is read in `targets`")
        return self.prefilled

    def rows_on_cells(self, prompt: Prompt, layers: Sequence[int] | None = None) -> dict[int, AttentionRows]:
        """Attention [heads, cells] of a prompt's last token to the cells row by row, by absolute layer.

        Of these layers, or of all that were read. Cells that are mixed of tokens have the attention to the
        tokens that looked at them.
        """
        made, columns = self.demand_pass().of(prompt), self.patch_columns
        rows = made.rows(prompt)
        wanted = rows if layers is None else layers
        return {layer: on_cells(rows[layer], columns, made.mixer) for layer in wanted}

    @property
    def takes_rows_as_they_are(self) -> bool:
        """Whether cells are keys that follow each other, so that rows may be searched where they lie."""
        return self.prefix.mixer is None and isinstance(self.patch_columns, slice)

    @property
    def patch_columns(self) -> slice | Ints:
        """Where the cells' tokens are among the keys: a stretch of them where they follow each other."""
        columns = self.model.prompts.places(self.prompts.question.prefix)[self.seen.layout.cells]
        start, stop = int(columns[0]), int(columns[-1]) + 1
        return slice(start, stop) if np.array_equal(columns, np.arange(start, stop)) else columns


def on_cells(row: AttentionRows, columns: slice | Ints, mixer: Floats | None) -> AttentionRows:
    """Attention [heads, cells] of that to all keys [heads, total], of which `columns` are the picture's.

    These are the cells, or with a `mixer` [tokens, cells] the tokens that cells are mixed of.
    """
    patches: AttentionRows = row[:, columns]
    return patches if mixer is None else np.asarray(patches, np.float32) @ mixer
