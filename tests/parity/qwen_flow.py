"""The published flow for Qwen, slowly and plainly: full float32 passes of transformers.

METHOD.md's method with the processor's own prompts and pictures; with `published` as the authors' code for
Qwen2.5-VL does it: two resizes, 256 · 28² pixels at most. It shares nothing with the engine: no cache between
passes, transformers' image processor, its own positions, eager attention, a search cell by cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.parity.published_flow import GENERAL_QUESTION, Array, search_window
from tests.parity.smolvlm_flow import FlowAnswer

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
WINDOW, CELL = 224, 28


@dataclass(frozen=True)
class Shown:
    """A picture's patches [patches, n] and its grid of patches, [1, 3]."""

    patches: Tensor
    grid: Tensor

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        _, rows, cols = self.grid[0].tolist()
        return rows // 2, cols // 2


class QwenFlow:
    """One checkpoint directory, answered pass by pass."""

    def __init__(self, checkpoint: Path) -> None:
        config = AutoConfig.from_pretrained(checkpoint)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        )
        self.model = model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(checkpoint)
        self.system = "" if config.model_type == "qwen3_vl" else SYSTEM
        self.ends = set(model.generation_config.eos_token_id)

    def ask(
        self,
        image: Image.Image,
        question: str,
        *,
        layer: int,
        method: str = "rel-att",
        max_new_tokens: int = 8,
        published: bool = False,
    ) -> FlowAnswer:
        """Answer without the crop, find the window in the map of `layer`, answer with the crop."""
        picture = self.shown(image, published=published)
        first = self.generate(question, [picture], max_new_tokens)
        if method == "grad-att":
            heatmap = self.gradient(question, picture, layer)
        else:
            heatmap = self.attention(question, picture, layer) / self.attention(
                GENERAL_QUESTION, picture, layer
            )
        box = search_window(heatmap, image.size, WINDOW, least=0 if published else 1)
        crop = self.shown(image.crop(box), published=published)
        return FlowAnswer(first, self.generate(question, [picture, crop], max_new_tokens), heatmap, box)

    def shown(self, image: Image.Image, *, published: bool) -> Shown:
        """The picture as transformers' processor makes it, brought to whole cells before if `published`."""
        size = dict(self.processor.size)
        if published:
            generous = {"shortest_edge": 4 * CELL**2, "longest_edge": 16384 * CELL**2}
            _, rows, cols = self.processor(images=[image], size=generous)["image_grid_thw"][0]
            image = image.resize((int(cols) * CELL // 2, int(rows) * CELL // 2))
            size["longest_edge"] = min(256 * CELL**2, size["longest_edge"])
        made = self.processor(images=[image], size=size, return_tensors="pt")
        return Shown(made["pixel_values"], made["image_grid_thw"])

    def ids(self, question: str, pictures: list[Shown]) -> Tensor:
        """The whole prompt's token ids [1, len]."""
        images = "".join(
            "<|vision_start|>" + "<|image_pad|>" * (rows * cols) + "<|vision_end|>"
            for rows, cols in (picture.cells for picture in pictures)
        )
        text = (
            f"{self.system}<|im_start|>user\n{images}{question} Answer the question using a single word or "
            "phrase.<|im_end|>\n<|im_start|>assistant\n"
        )
        return torch.tensor([self.tokenizer(text)["input_ids"]])

    def inputs(self, ids: Tensor, pictures: list[Shown]) -> dict[str, Tensor]:
        """What transformers' model takes; with the kinds of tokens it counts positions by axis."""
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.cat([picture.patches for picture in pictures]),
            "image_grid_thw": torch.cat([picture.grid for picture in pictures]),
            "mm_token_type_ids": (ids == self.model.config.image_token_id).int(),
        }

    @torch.no_grad()
    def generate(self, question: str, pictures: list[Shown], max_new_tokens: int) -> list[int]:
        """Greedy new token ids, without the end sign."""
        ids = self.ids(question, pictures)
        self.model.model.rope_deltas = None
        made = self.model.generate(
            **self.inputs(ids, pictures),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(self.ends),
        )
        new: list[int] = made[0, ids.shape[1] :].tolist()
        return new[:-1] if new and new[-1] in self.ends else new

    def run(self, question: str, picture: Shown) -> tuple[Any, Tensor]:
        """Transformers' outputs with every attention, and which tokens are the picture's."""
        ids = self.ids(question, [picture])
        self.model.model.rope_deltas = None
        output = self.model(**self.inputs(ids, [picture]), output_attentions=True, use_cache=False)
        return output, ids[0] == self.model.config.image_token_id

    @torch.no_grad()
    def attention(self, question: str, picture: Shown, layer: int) -> Array:
        """The last token's attention to the picture's cells, mean over heads, [rows, cols]."""
        output, seen = self.run(question, picture)
        rows = output.attentions[layer][0, :, -1, seen].mean(dim=0)
        return np.asarray(rows.reshape(picture.cells).numpy())

    def gradient(self, question: str, picture: Shown, layer: int) -> Array:
        """Attention times relu of the gradient at it of the answer's likelihood, [rows, cols]."""
        output, seen = self.run(question, picture)
        logits, attention = output.logits[:, -1].double(), output.attentions[layer]
        loss = -torch.nn.functional.cross_entropy(logits, logits.argmax(dim=-1))
        (gradient,) = torch.autograd.grad(loss, attention)
        rows = (attention * torch.relu(gradient))[0, :, -1, seen].detach().mean(dim=0)
        return np.asarray(rows.reshape(picture.cells).numpy())
