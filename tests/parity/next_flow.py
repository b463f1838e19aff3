"""The published flow carried over to LLaVA-NeXT, slowly and plainly: full float32 passes of transformers.

Nothing was published for this family: the method is METHOD.md's, the prompts are those of its model cards,
the map is over the picture's own tiles without padding and newlines. It shares nothing with the engine: no
cache between passes, transformers' image processor and packing, eager attention, a search cell by cell.
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
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from tests.parity.published_flow import GENERAL_QUESTION, Array, search_window
from tests.parity.smolvlm_flow import FlowAnswer

PROMPTS = {
    "mistral": "[INST] {}\n{} Answer the question using a single word or phrase. [/INST]",
    "llama": "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions. USER: {}\n{} Answer the question using "
    "a single word or phrase. ASSISTANT:",
}


@dataclass(frozen=True)
class Packed:
    """A picture's embeddings [tokens, hidden] as transformers packs them, its size (width, height)."""

    embeds: Tensor
    size: tuple[int, int]
    one: bool


class NextFlow:
    """One checkpoint directory, answered pass by pass."""

    def __init__(self, checkpoint: Path) -> None:
        model: Any = AutoModelForImageTextToText.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        )
        self.model = model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.processor = LlavaNextImageProcessorPil.from_pretrained(checkpoint)
        config = model.config
        self.prompt = PROMPTS[config.text_config.model_type]
        self.image, self.end = config.image_token_id, model.generation_config.eos_token_id
        self.side, self.patch = config.vision_config.image_size, config.vision_config.patch_size
        self.pinpoints = config.image_grid_pinpoints

    def ask(
        self,
        image: Image.Image,
        question: str,
        *,
        layer: int,
        method: str = "rel-att",
        max_new_tokens: int = 8,
        picture_one: bool = False,
        crop_one: bool = False,
    ) -> FlowAnswer:
        """Answer without the crop, find the window in the map of `layer`, answer with the crop."""
        picture = self.see(image, one=picture_one)
        first = self.generate(question, [picture], max_new_tokens)
        if method == "grad-att":
            heatmap = self.gradient(question, picture, layer)
        else:
            heatmap = self.attention(question, picture, layer) / self.attention(
                GENERAL_QUESTION, picture, layer
            )
        inside, lies = self.lies(picture)
        box = search_window(
            heatmap[inside], image.size, self.side, least=1, lies=self.moved(lies, inside) if lies else None
        )
        shown = np.zeros_like(heatmap)
        shown[inside] = heatmap[inside]
        crop = self.see(image.crop(box), one=crop_one)
        return FlowAnswer(first, self.generate(question, [picture, crop], max_new_tokens), shown, box)

    @torch.no_grad()
    def see(self, image: Image.Image, *, one: bool = False) -> Packed:
        """The picture's embeddings: packed of all its tiles, or of its base alone."""
        made = self.processor(images=[image], return_tensors="pt")
        pixels, sizes = made["pixel_values"], made["image_sizes"]
        if not one:
            features = self.model.model.get_image_features(pixels, sizes)
            return Packed(features.pooler_output[0], image.size, one)
        layer = self.model.config.vision_feature_layer
        states = self.model.model.vision_tower(pixels[0, :1], output_hidden_states=True).hidden_states
        base = self.model.model.multi_modal_projector(states[layer][:, 1:])
        packed, _ = self.model.model.pack_image_features(
            [base], sizes, "default", image_newline=self.model.model.image_newline
        )
        return Packed(packed[0], image.size, one)

    def ids(self, question: str, pictures: list[Packed]) -> Tensor:
        """The whole prompt's token ids [1, len]."""
        images = "".join("<image>" * len(picture.embeds) for picture in pictures)
        return torch.tensor([self.tokenizer(self.prompt.format(images, question))["input_ids"]])

    def embeds(self, ids: Tensor, pictures: list[Packed]) -> Tensor:
        """The prompt's embeddings [1, len, hidden]."""
        inputs: Tensor = self.model.get_input_embeddings()(ids).clone()
        inputs[ids == self.image] = torch.cat([picture.embeds for picture in pictures])
        return inputs

    @torch.no_grad()
    def generate(self, question: str, pictures: list[Packed], max_new_tokens: int) -> list[int]:
        """Greedy new token ids, without the end sign."""
        ids = self.ids(question, pictures)
        made = self.model.generate(
            inputs_embeds=self.embeds(ids, pictures),
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        new: list[int] = made[0].tolist()
        return new[:-1] if new and new[-1] == self.end else new

    @torch.no_grad()
    def attention(self, question: str, picture: Packed, layer: int) -> Array:
        """The last token's attention to the picture's cells, mean over heads, [rows, cols]."""
        ids = self.ids(question, [picture])
        output = self.model(inputs_embeds=self.embeds(ids, [picture]), output_attentions=True)
        return self.cells(output.attentions[layer][0, :, -1], ids, picture)

    def gradient(self, question: str, picture: Packed, layer: int) -> Array:
        """Attention times relu of the gradient at it of the answer's likelihood, [rows, cols]."""
        ids = self.ids(question, [picture])
        output = self.model(inputs_embeds=self.embeds(ids, [picture]), output_attentions=True)
        logits, attention = output.logits[:, -1].double(), output.attentions[layer]
        loss = -torch.nn.functional.cross_entropy(logits, logits.argmax(dim=-1))
        (gradient,) = torch.autograd.grad(loss, attention)
        return self.cells((attention * torch.relu(gradient))[0, :, -1].detach(), ids, picture)

    def cells(self, rows: Tensor, ids: Tensor, picture: Packed) -> Array:
        """Rows [heads, len] as the picture's cells; the base's where it is alone or no others are left."""
        tokens = rows[:, ids[0] == self.image].mean(dim=0)
        places = self.places(picture)
        return np.asarray(tokens[torch.from_numpy(places)].numpy())

    def places(self, picture: Packed) -> Array:
        """Which token is which cell, [rows, cols]: the tokens' own numbers, packed by transformers."""
        side, base = self.side // self.patch, (self.side // self.patch) ** 2
        coarse = np.arange(base).reshape(side, side)
        if picture.one:
            return coarse
        height, width = select_best_resolution(picture.size[::-1], self.pinpoints)
        number = height // self.side * (width // self.side) * base
        numbers = torch.arange(-base, number).reshape(-1, base, 1).float()
        sizes = torch.tensor([picture.size[::-1]])
        [packed], _ = self.model.model.pack_image_features(
            [numbers], sizes, "default", image_newline=torch.tensor([-1e6])
        )
        lines = packed[base:, 0].numpy()
        ends = np.flatnonzero(lines == -1e6)
        if len(ends) == 0 or ends[0] == 0:
            return coarse
        return base + np.arange(len(lines)).reshape(len(ends), -1)[:, :-1]

    def lies(self, picture: Packed) -> tuple[Any, tuple[float, float, float, float] | None]:
        """The map's cells that touch the picture, and where it lies: corner and cell, in picture pixels."""
        places = self.places(picture)
        whole = slice(0, places.shape[0]), slice(0, places.shape[1])
        if places[0, 0] == 0:
            return whole, None
        size = picture.size[::-1]
        room = select_best_resolution(size, self.pinpoints)
        high, wide = get_patch_output_size(np.empty((3, *size)), room, "channels_first")
        left, top = (room[1] - wide) // 2, (room[0] - high) // 2
        skipped = [(room[axis] // self.patch - places.shape[axis]) // 2 * self.patch for axis in (0, 1)]
        across, down = size[1] / wide, size[0] / high
        corner = (skipped[1] - left) * across, (skipped[0] - top) * down
        touched = []
        for axis, (start, length) in enumerate(((top, high), (left, wide))):
            edges = skipped[axis] + self.patch * np.arange(places.shape[axis])
            inside = np.flatnonzero((edges + self.patch > start) & (edges < start + length))
            touched.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return tuple(touched), (*corner, self.patch * across, self.patch * down)

    def moved(
        self, lies: tuple[float, float, float, float], inside: Any
    ) -> tuple[float, float, float, float]:
        """The same of the cells `inside` alone."""
        left, top, wide, high = lies
        return left + inside[1].start * wide, top + inside[0].start * high, wide, high
