"""The published flow on transformers, to be timed beside an engine: four whole passes for every question.

`Published` is written plainly, with eager attention; `Published(fast=True)` makes the same passes with fused
attention (SDPA), logits of the last token alone, and the one attention row from what enters its layer.
Pictures are prepared, and windows searched, as the engine does with `compat`. Knows nothing of engines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

from vicrop_engine.engine_dir.records import CropSettings
from vicrop_engine.errors import SettingError
from vicrop_engine.images.geometry import whole_grid
from vicrop_engine.images.high_pass import picture_detail
from vicrop_engine.images.preprocessing import preprocess
from vicrop_engine.timing import Span
from vicrop_engine.vicrop.crop import find_box
from vicrop_engine.vicrop.localizers.pure_gradient import gradient_heatmap
from vicrop_export.checkpoint.locate import locate
from vicrop_export.plan import make_plan
from vicrop_export.quiet import quiet

METHODS = ("rel-att", "grad-att", "pure-grad")
Box = tuple[int, int, int, int]
Map = NDArray[np.float32]
Prompt = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PublishedAnswer:
    """Both answers' token ids, end sign included, and texts; map [rows, cols], window, and time."""

    first_ids: tuple[int, ...]
    ids: tuple[int, ...]
    first_answer: str
    answer: str
    heatmap: Map
    crop_box: Box
    spans: tuple[Span, ...]


class Published:
    """One checkpoint directory, answered pass by pass in float32.

    Raises SettingError for a family that the flow was not published for.
    """

    def __init__(self, checkpoint: Path | str, *, fast: bool = False) -> None:
        plan = make_plan(locate(checkpoint), name="published", layers=None, precision="fp32", target="cpu")
        if not plan.family.has_published_flow:
            raise SettingError(
                f"nothing was published for the family {plan.family.name!r} that an engine could be timed "
                "against; leave the comparison out"
            )
        self._plan, self._fast = plan, fast
        with quiet():
            model: Any = plan.family.reference.from_pretrained(
                plan.checkpoint.directory,
                dtype=torch.float32,
                attn_implementation="sdpa" if fast else "eager",
            )
        self._model = model.eval()

    @staticmethod
    def use(threads: int) -> None:
        """Let torch use so many cores."""
        torch.set_num_threads(threads)

    def ask(
        self,
        image: Image.Image,
        question: str,
        *,
        layer: int,
        method: str = "rel-att",
        max_new_tokens: int = 20,
        clock: Callable[[], float] = time.perf_counter,
    ) -> PublishedAnswer:
        """Answer on the picture, look at it in a pass or two of their own, answer on picture and crop."""
        moments = [clock()]
        prompt, picture = self._plan.prompts.question, [image]
        first = self._generate(self._prompt(prompt, question, picture), max_new_tokens)
        moments.append(clock())
        heatmap = self._heatmap(image, question, method, layer)
        moments.append(clock())
        box = self._window(heatmap, image.size)
        moments.append(clock())
        both = [image, image.crop(box)]
        final = self._generate(
            self._prompt(self._plan.prompts.two_image_question, question, both), max_new_tokens
        )
        moments.append(clock())
        names = ("first answer", "looking passes", "heatmap and window", "answer with the crop")
        spans = tuple(map(Span, names, moments[:-1], moments[1:]))
        first_text, text = (self._plan.tokenizer.decode(list(ids)).strip() for ids in (first, final))
        return PublishedAnswer(first, final, first_text, text, heatmap, box, spans)

    def _heatmap(self, image: Image.Image, question: str, method: str, layer: int) -> Map:
        prompts = [question, self._plan.prompts.general_question]
        template = self._plan.prompts.question
        if method == "pure-grad":
            norms = [self._pixel_gradient(self._prompt(template, text, [image])) for text in prompts]
            detail = picture_detail(image, self._plan.vision.image_size)
            return gradient_heatmap(norms[0], norms[1], detail, self._plan.vision.patch_size)
        if method == "grad-att":
            return self._gradient(self._prompt(template, question, [image]), layer)
        read = self._read_row if self._fast else self._read_matrix
        asked, usual = (read(self._prompt(template, text, [image]), layer) for text in prompts)
        return asked / usual

    def _prompt(self, template: str, question: str, images: Sequence[Image.Image]) -> Prompt:
        """Token ids [1, len] with every image's tokens, and pixels [images, 3, side, side]."""
        image_token = self._plan.family.image_token
        short = self._plan.tokenizer.encode(template.format(question=question)).ids
        repeats = [self._plan.vision.image_tokens if id == image_token else 1 for id in short]
        ids = torch.tensor([short]).repeat_interleave(torch.tensor(repeats), dim=1)
        pixels = [preprocess(image, self._plan.preprocessing, "processor").pixels for image in images]
        return ids, torch.from_numpy(np.concatenate(pixels))

    @torch.no_grad()
    def _generate(self, prompt: Prompt, max_new_tokens: int) -> tuple[int, ...]:
        ids, pixels = prompt
        made = self._model.generate(
            input_ids=ids,
            pixel_values=pixels,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        return tuple(made[0, ids.shape[1] :].tolist())

    @torch.no_grad()
    def _read_matrix(self, prompt: Prompt, layer: int) -> Map:
        """The last token's attention to the patches, from the layer's whole matrix, mean over heads."""
        ids, pixels = prompt
        output = self._model(input_ids=ids, pixel_values=pixels, output_attentions=True)
        return self._grid(output.attentions[layer][0, :, -1], ids)

    @torch.no_grad()
    def _read_row(self, prompt: Prompt, layer: int) -> Map:
        """The same row, from what enters the layer."""
        ids, pixels = prompt
        layers = list(self._plan.family.decoder_layers(self._model))
        attention, entered = cast("Any", layers[layer]).self_attn, dict[str, Any]()

        def keep(_module: object, _inputs: object, keywords: dict[str, Any]) -> None:
            entered.update(keywords)

        with attention.register_forward_pre_hook(keep, with_kwargs=True):
            self._model(input_ids=ids, pixel_values=pixels, logits_to_keep=1, use_cache=False)
        states, (cos, sin) = entered["hidden_states"], entered["position_embeddings"]
        shape = (1, states.shape[1], -1, attention.head_dim)
        query, key = (
            part(states).view(shape).transpose(1, 2) for part in (attention.q_proj, attention.k_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, cos, sin)
        key = repeat_kv(key, attention.num_key_value_groups)
        scores = query[0, :, -1:] @ key[0].transpose(1, 2) * attention.scaling
        return self._grid(torch.softmax(scores, dim=-1)[:, 0], ids)

    def _gradient(self, prompt: Prompt, layer: int) -> Map:
        """Attention times relu of the gradient of the answer's likelihood at it."""
        ids, pixels = prompt
        output = self._model(input_ids=ids, pixel_values=pixels, output_attentions=True)
        logits, attention = output.logits[:, -1], output.attentions[layer]
        loss = -torch.nn.functional.cross_entropy(logits, logits.argmax(dim=-1))
        (gradient,) = torch.autograd.grad(loss, attention)
        return self._grid((attention * torch.relu(gradient))[0, :, -1].detach(), ids)

    def _pixel_gradient(self, prompt: Prompt) -> Map:
        """L2 norm over channels of the gradient at the pixels, [side, side]."""
        ids, pixels = prompt
        pixels.requires_grad_(True)
        logits = self._model(input_ids=ids, pixel_values=pixels).logits[:, -1]
        loss = -torch.nn.functional.cross_entropy(logits, logits.argmax(dim=-1))
        (gradient,) = torch.autograd.grad(loss, pixels)
        return np.asarray(gradient[0].norm(dim=0).numpy())

    def _grid(self, rows: Tensor, ids: Tensor) -> Map:
        """Rows [heads, len] over the patches as [rows, cols], mean over heads."""
        vision = self._plan.vision
        tokens = rows[:, ids[0] == self._plan.family.image_token].mean(dim=0)
        return np.asarray(tokens[vision.patch_offset :].reshape(vision.rows, vision.cols).numpy())

    def _window(self, heatmap: Map, size: tuple[int, int]) -> Box:
        vision = self._plan.vision
        settings = CropSettings(window=vision.image_size, layers=())
        grid = whole_grid(vision.rows, vision.cols, size)
        return find_box(heatmap, grid, size, settings.window, settings.ratios)
