"""From a picture and prompts about it to the gradient of each prompt's loss at the pixels.

The tower, the picture's part of the prompt and every suffix go forward once; the losses come back side by
side. Knows nothing of ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.llava.facts import LlavaFacts
from vicrop_export.families.llava.vision_gradient import VisionGradient
from vicrop_export.modules.decoder_gradient import DecoderGradient


class PixelGradients(nn.Module):
    """Gradients [losses, 3, side, side] at `pixel_values` [1, 3, side, side], of whole patches.

    `embeds_before` and `embeds_after` [1, tokens, hidden] are the prompt's other tokens; positions [1, total]
    and `attention_bias` [1, 1, total, total] say where they stand and what they see. The loss of the prompt
    that ends at `ends` [losses] is the logarithm of the probability of its likeliest next token.
    """

    def __init__(self, tensors: CheckpointTensors, facts: LlavaFacts) -> None:
        super().__init__()
        self.vision = VisionGradient(tensors, facts.vision)
        self.decoder = DecoderGradient(tensors, facts.text)
        self.image_tokens = facts.vision.image_tokens

    def forward(
        self,
        pixel_values: Tensor,
        embeds_before: Tensor,
        embeds_after: Tensor,
        position_ids: Tensor,
        attention_bias: Tensor,
        ends: Tensor,
    ) -> Tensor:
        image, projected, seen = self.vision(pixel_values)
        embeds = torch.cat((embeds_before, image, embeds_after), dim=1)
        gradient = self.decoder(embeds, position_ids, attention_bias, ends)
        at_image = gradient.narrow(1, embeds_before.shape[1], self.image_tokens)
        return self.vision.gradient(at_image, projected, seen)
