"""The published flow of InstructBLIP, slowly and plainly: full float32 passes of transformers.

Written from METHOD.md and FAMILIES.md: the published map is the decoder's attention to the picture's tokens
times the Q-Former's to its patches, for the question over the general prompt. It shares nothing with the
engine: no cache between passes, transformers' processor, eager attention, a search cell by cell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoTokenizer, InstructBlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from tests.parity.published_flow import GENERAL_QUESTION, Array, search_window
from tests.parity.smolvlm_flow import FlowAnswer

PROMPT = "Question: {} Short answer:"


def blip_processor(checkpoint: Path, queries: int) -> Any:
    """transformers' own, with the image processor on Pillow."""
    made: Any = InstructBlipProcessor
    return made(
        image_processor=BlipImageProcessorPil.from_pretrained(checkpoint),
        tokenizer=AutoTokenizer.from_pretrained(checkpoint),
        qformer_tokenizer=AutoTokenizer.from_pretrained(checkpoint / "qformer_tokenizer"),
        num_query_tokens=queries,
    )


class BlipFlow:
    """One checkpoint directory, answered pass by pass; the map is of cross-attention number `entry`."""

    def __init__(self, checkpoint: Path, entry: int) -> None:
        model: Any = AutoModelForImageTextToText.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        )
        self.model, self.entry = model.eval(), entry
        self.queries, self.image = model.config.num_query_tokens, model.config.image_token_index
        self.processor = blip_processor(checkpoint, self.queries)
        self.side = model.config.vision_config.image_size
        self.grid = self.side // model.config.vision_config.patch_size
        self.ends = [model.generation_config.eos_token_id, self.processor.tokenizer.eos_token_id]

    def ask(
        self,
        image: Image.Image,
        question: str,
        *,
        layer: int,
        method: str = "rel-att",
        localize: str | None = None,
        max_new_tokens: int = 8,
    ) -> FlowAnswer:
        """Answer without the crop, find the window in the map of `layer`, answer with the crop."""
        first = self.generate(question, [image], max_new_tokens)
        looked_with = localize or question
        if method == "grad-att":
            heatmap = self.helpful(looked_with, image, layer)
        else:
            heatmap = self.looked(looked_with, image, layer) / self.looked(GENERAL_QUESTION, image, layer)
        box = search_window(heatmap, image.size, self.side, least=1)
        final = self.generate(question, [image, image.crop(box)], max_new_tokens)
        return FlowAnswer(first, final, heatmap, box)

    def inputs(self, question: str, images: list[Image.Image]) -> Any:
        """The processor's tensors; of several pictures it writes the tokens of one, and here stand all."""
        made = self.processor(images=images, text=PROMPT.format(question), return_tensors="pt")
        further = [self.image] * (self.queries * (len(images) - 1))
        made["input_ids"] = torch.cat((torch.tensor([further], dtype=torch.int64), made["input_ids"]), dim=1)
        return made

    def features(self, question: str, images: list[Image.Image]) -> Any:
        """What the vision part makes of each picture with the prompt's text."""
        made = self.inputs(question, images)
        ids = made["qformer_input_ids"].repeat(len(images), 1)
        return self.model.get_image_features(
            made["pixel_values"], qformer_input_ids=ids, output_attentions=True, return_dict=True
        )

    def embeds(self, question: str, images: list[Image.Image]) -> Tensor:
        """The prompt's embeddings [1, len, hidden]: all pictures, the text with its first sign."""
        ids = self.inputs(question, images)["input_ids"]
        return self.joined(ids, self.features(question, images))

    def joined(self, ids: Tensor, features: Any) -> Tensor:
        """Embeddings of these ids with what the vision part made in the pictures' places."""
        inputs: Tensor = self.model.get_input_embeddings()(ids).detach().clone()
        inputs[ids == self.image] = features.pooler_output.flatten(0, 1)
        return inputs

    @torch.no_grad()
    def generate(self, question: str, images: list[Image.Image], max_new_tokens: int) -> list[int]:
        """Greedy new token ids, without the end sign."""
        inputs = self.embeds(question, images)
        made = self.model.language_model.generate(
            inputs_embeds=inputs,
            attention_mask=torch.ones(inputs.shape[:2], dtype=torch.int64),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self.ends,
        )
        new: list[int] = made[0].tolist()
        return new[:-1] if new and new[-1] in self.ends else new

    @torch.no_grad()
    def looked(self, question: str, image: Image.Image, layer: int) -> Array:
        """How much the last token looks at each cell by way of the picture's tokens, [rows, cols]."""
        ids, features = self.inputs(question, [image])["input_ids"], self.features(question, [image])
        output = self.model.language_model(inputs_embeds=self.joined(ids, features), output_attentions=True)
        return self.cells(output.attentions[layer], features.qformer_outputs.cross_attentions[self.entry])

    def helpful(self, question: str, image: Image.Image, layer: int) -> Array:
        """The same of attention times relu of the gradient at it of the answer's likelihood, on both ways."""
        ids, features = self.inputs(question, [image])["input_ids"], self.features(question, [image])
        output = self.model.language_model(inputs_embeds=self.joined(ids, features), output_attentions=True)
        both = output.attentions[layer], features.qformer_outputs.cross_attentions[self.entry]
        logits = output.logits[:, -1].double()
        loss = -torch.nn.functional.cross_entropy(logits, logits.argmax(dim=-1))
        gradients = torch.autograd.grad(loss, both)
        one, other = ((a * torch.relu(g)).detach() for a, g in zip(both, gradients, strict=True))
        return self.cells(one, other)

    def cells(self, attention: Tensor, crossed: Tensor) -> Array:
        """The decoder's attention [1, heads, len, len] times the Q-Former's, as cells."""
        tokens = attention[0, :, -1, : self.queries].mean(dim=0)
        patches = crossed[0, :, :, 1:].mean(dim=0)
        return np.asarray((tokens @ patches).reshape(self.grid, self.grid).numpy())

    @torch.no_grad()
    def published_map(self, image: Image.Image, question: str, layer: int) -> Array:
        """As the published function does it, its slice being as long as there are queries."""
        maps = []
        for asked in (question, GENERAL_QUESTION):
            made = self.inputs(asked, [image])
            output = self.model(**made, output_attentions=True)
            attention = output.language_model_outputs.attentions[layer]
            crossed = self.features(asked, [image]).qformer_outputs.cross_attentions
            maps.append(self.cells(attention, crossed[self.entry]))
        relative: Array = maps[0] / maps[1]
        return relative
