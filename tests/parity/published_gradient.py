"""The published grad-att, plainly: a full float32 pass of transformers, and autograd's gradient at attention.

Written from METHOD.md, section 1, as the truth the engine is held against: no cache, no backward by hand.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from tests.parity.published_flow import PublishedFlow, one_image_prompt

Array = npt.NDArray[np.float32]


def gradient_heatmaps(flow: PublishedFlow, image: Image.Image, question: str) -> Array:
    """Attention times relu of the gradient at it, last prompt token, mean over heads: [layers, rows, cols].

    The loss is minus the cross-entropy of the last logits with their largest.
    """
    inputs = flow.inputs(one_image_prompt(question), [image])
    output = flow.model(**inputs, output_attentions=True)
    logits = output.logits[:, -1]
    loss = -torch.nn.functional.cross_entropy(logits, logits.argmax(dim=-1))
    gradients = torch.autograd.grad(loss, output.attentions)
    patches = inputs["input_ids"][0] == flow.model.config.image_token_id
    side = flow.model.config.vision_config.image_size // flow.model.config.vision_config.patch_size
    maps = [
        (attention * torch.relu(gradient))[0, :, -1, patches].mean(dim=0).reshape(side, side)
        for attention, gradient in zip(output.attentions, gradients, strict=True)
    ]
    stacked: Array = torch.stack(maps).detach().numpy()
    return stacked
