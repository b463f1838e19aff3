"""The published flow carried over to SmolVLM, slowly and plainly: full float32 passes of transformers.

Nothing was published for this family: the method is METHOD.md's, the prompts are those of its processor, the
map is over the picture's own tiles. It shares nothing with the engine: no cache between passes, transformers'
image processor, eager attention, a search cell by cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from tests.parity.published_flow import GENERAL_QUESTION, Array, search_window

AROUND, END = "<fake_token_around_image>", "<end_of_utterance>"


@dataclass(frozen=True)
class FlowAnswer:
    """Token ids without the end sign, map [rows, cols] and crop box."""

    first_tokens: list[int]
    tokens: list[int]
    heatmap: Array
    crop_box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Tiles:
    """A picture's tiles [tiles, 3, side, side], cut into rows and columns; none where it is one tile."""

    pixels: Tensor
    rows: int
    cols: int


class SmolVLMFlow:
    """One checkpoint directory, answered pass by pass."""

    def __init__(self, checkpoint: Path) -> None:
        model: Any = AutoModelForImageTextToText.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        )
        self.model = model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.processor = SmolVLMImageProcessorPil.from_pretrained(checkpoint)
        vision = model.config.vision_config
        self.ends = {model.generation_config.eos_token_id, self.tokenizer.convert_tokens_to_ids(END)}
        self.side = vision.image_size
        self.per = vision.image_size // vision.patch_size // model.config.scale_factor

    def ask(
        self,
        image: Image.Image,
        question: str,
        *,
        layer: int,
        method: str = "rel-att",
        max_new_tokens: int = 8,
        picture_one: bool = False,
        crop_one: bool = True,
    ) -> FlowAnswer:
        """Answer without the crop, find the window in the map of `layer`, answer with the crop."""
        picture = self.tiles(image, one=picture_one)
        first = self.generate(question, [picture], max_new_tokens)
        if method == "grad-att":
            heatmap = self.gradient(question, picture, layer)
        else:
            heatmap = self.attention(question, picture, layer) / self.attention(
                GENERAL_QUESTION, picture, layer
            )
        box = search_window(heatmap, image.size, self.side, least=1)
        crop = self.tiles(image.crop(box), one=crop_one)
        return FlowAnswer(first, self.generate(question, [picture, crop], max_new_tokens), heatmap, box)

    def tiles(self, image: Image.Image, *, one: bool) -> Tiles:
        """The picture as transformers' processor cuts it."""
        made = self.processor(
            images=[image], return_tensors="pt", do_image_splitting=not one, return_row_col_info=True
        )
        return Tiles(made["pixel_values"][0], made["rows"][0][0], made["cols"][0][0])

    def ids(self, question: str, pictures: list[Tiles]) -> Tensor:
        """The whole prompt's token ids [1, len]."""
        images = "".join(map(self.expanded, pictures))
        text = (
            f"<|im_start|>User:{images}{question} Answer the question using a single word or phrase."
            "<end_of_utterance>\nAssistant:"
        )
        return torch.tensor([self.tokenizer(text)["input_ids"]])

    def expanded(self, picture: Tiles) -> str:
        """What stands for a picture."""
        tokens, text = "<image>" * self.per**2, ""
        for row in range(picture.rows):
            for col in range(picture.cols):
                text += f"{AROUND}<row_{row + 1}_col_{col + 1}>{tokens}"
            text += "\n"
        return text + ("\n" if picture.rows else "") + f"{AROUND}<global-img>{tokens}{AROUND}"

    @torch.no_grad()
    def generate(self, question: str, pictures: list[Tiles], max_new_tokens: int) -> list[int]:
        """Greedy new token ids, without the end sign."""
        ids = self.ids(question, pictures)
        pixels = torch.cat([picture.pixels for picture in pictures])[None]
        made = self.model.generate(
            input_ids=ids,
            pixel_values=pixels,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(self.ends),
        )
        new: list[int] = made[0, ids.shape[1] :].tolist()
        return new[:-1] if new and new[-1] in self.ends else new

    @torch.no_grad()
    def attention(self, question: str, picture: Tiles, layer: int) -> Array:
        """The last token's attention to the picture's cells, mean over heads, [rows, cols]."""
        ids = self.ids(question, [picture])
        output = self.model(input_ids=ids, pixel_values=picture.pixels[None], output_attentions=True)
        return self.cells(output.attentions[layer][0, :, -1], ids, picture)

    def gradient(self, question: str, picture: Tiles, layer: int) -> Array:
        """Attention times relu of the gradient at it of the answer's likelihood, [rows, cols]."""
        ids = self.ids(question, [picture])
        output = self.model(input_ids=ids, pixel_values=picture.pixels[None], output_attentions=True)
        logits, attention = output.logits[:, -1].double(), output.attentions[layer]
        loss = -torch.nn.functional.cross_entropy(logits, logits.argmax(dim=-1))
        (gradient,) = torch.autograd.grad(loss, attention)
        return self.cells((attention * torch.relu(gradient))[0, :, -1].detach(), ids, picture)

    def cells(self, rows: Tensor, ids: Tensor, picture: Tiles) -> Array:
        """Rows [heads, len] as the picture's cells: tile by tile, put back in their places."""
        tokens = rows[:, ids[0] == self.model.config.image_token_id].mean(dim=0)
        squares = tokens.reshape(-1, self.per, self.per)
        if not picture.rows:
            return np.asarray(squares[0].numpy())
        bands = [
            torch.cat(list(squares[row * picture.cols : (row + 1) * picture.cols]), dim=1)
            for row in range(picture.rows)
        ]
        return np.asarray(torch.cat(bands).numpy())
