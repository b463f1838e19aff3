"""How the answer to a prompt hangs on what the Q-Former looked at: the second factor of grad-att.

The Q-Former and the whole decoder go forward once; the loss comes back to the picture's tokens, and on
through the Q-Former down to the layer that is read. Knows nothing of tokenizers or of ONNX.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.instructblip.facts import QFormerFacts
from vicrop_export.families.instructblip.qformer import (
    Attended,
    Attention,
    Fed,
    FeedForward,
    Layer,
    LayerKept,
    QFormer,
)
from vicrop_export.modules.decoder import causal_bias
from vicrop_export.modules.decoder_gradient import DecoderGradient
from vicrop_export.ops.gradient import layer_norm_gradient, transposed
from vicrop_export.ops.layers import LayerNorm


class LookedGradient(nn.Module):
    """Attention and the loss's gradient at it, [heads, queries, patches] each, in the layer that is read.

    `image_states` [1, 1 + patches, n] and `instruction_ids` [1, text] are as the Q-Former takes them,
    `suffix_embeds` [1, suffix, hidden] the prompt's tokens after the picture's. The loss is the logarithm of
    the probability of the likeliest next token.
    """

    def __init__(self, tensors: CheckpointTensors, facts: QFormerFacts, text: TextFacts) -> None:
        super().__init__()
        self.qformer = QFormer(tensors, facts)
        self.decoder = DecoderGradient(tensors, text)

    def forward(
        self, image_states: Tensor, instruction_ids: Tensor, suffix_embeds: Tensor
    ) -> tuple[Tensor, Tensor]:
        qformer = self.qformer
        embeds, kept = qformer.passed(image_states, instruction_ids)
        prompt = torch.cat((embeds, suffix_embeds), dim=1)
        positions = torch.arange(prompt.shape[1])[None]
        bias = causal_bias(prompt.shape[1], 0)
        gradient = self.decoder(prompt, positions, bias, positions[0, -1:])
        gradient = transposed(gradient[:, : embeds.shape[1]], qformer.projection.weight)
        layers = cast("list[Layer]", list(qformer.layers))
        for layer, made in reversed(list(zip(layers, kept, strict=True))[qformer.read + 1 :]):
            gradient = _layer_back(layer, gradient, made)
        at_looked = _at_looked(layers[qformer.read], gradient, kept[qformer.read])
        return qformer.looked(kept), at_looked[..., 1:]


def _layer_back(layer: Layer, gradient: Tensor, kept: LayerKept) -> Tensor:
    """From a layer's result [1, n, hidden] to its tokens, queries and text."""
    queries = _fed_back(layer.of_queries, gradient[:, : layer.num_queries], kept.of_queries)
    if layer.picture is not None and kept.picture is not None:
        queries = _attended_back(layer.picture, queries, kept.picture)[0]
    if layer.of_text is None or kept.of_text is None:
        asking, states = _attended_back(layer.itself, queries, kept.itself)
        return torch.cat((asking + states[:, : layer.num_queries], states[:, layer.num_queries :]), dim=1)
    text = _fed_back(layer.of_text, gradient[:, layer.num_queries :], kept.of_text)
    asking, states = _attended_back(layer.itself, torch.cat((queries, text), dim=1), kept.itself)
    return asking + states


def _at_looked(layer: Layer, gradient: Tensor, kept: LayerKept) -> Tensor:
    """From a layer's result to its attention to the picture [heads, queries, 1 + patches]."""
    assert layer.picture is not None, "the layer that is read looks at the picture"
    assert kept.picture is not None, "and has kept what it saw"
    queries = _fed_back(layer.of_queries, gradient[:, : layer.num_queries], kept.of_queries)
    summed = _through(layer.picture.norm, queries, kept.picture.summed)
    return _at_weights(layer.picture, summed, kept.picture)


def _fed_back(part: FeedForward, gradient: Tensor, kept: Fed) -> Tensor:
    gradient = _through(part.norm, gradient, kept.summed)
    at_inner = transposed(gradient, part.outer.weight) * part.derivative(kept.inner)
    at_tokens: Tensor = gradient + transposed(at_inner, part.inner.weight)
    return at_tokens


def _attended_back(part: Attention, gradient: Tensor, kept: Attended) -> tuple[Tensor, Tensor]:
    """From what attention gave to the tokens that looked, and to the states that they looked at."""
    gradient = _through(part.norm, gradient, kept.summed)
    at_weights = _at_weights(part, gradient, kept)
    weighted = kept.weights * at_weights
    at_scores = weighted - kept.weights * weighted.sum(-1, keepdim=True)
    scale = kept.query.shape[-1] ** -0.5
    at_query = _joined(torch.matmul(at_scores, kept.key) * scale)
    at_key = _joined(torch.matmul(at_scores.transpose(1, 2), kept.query) * scale)
    mixed = part.by_head(transposed(gradient, part.output.weight))
    at_value = _joined(torch.matmul(kept.weights.transpose(1, 2), mixed))
    at_states = transposed(at_key, part.key.weight) + transposed(at_value, part.value.weight)
    return gradient + transposed(at_query, part.query.weight), at_states


def _at_weights(part: Attention, gradient: Tensor, kept: Attended) -> Tensor:
    """From the sum before the norm [1, n, hidden] to the attention [heads, n, m]."""
    mixed = part.by_head(transposed(gradient, part.output.weight))
    return torch.matmul(mixed, kept.value.transpose(1, 2))


def _joined(heads: Tensor) -> Tensor:
    """[heads, n, head_dim] to [1, n, hidden]."""
    return heads.transpose(0, 1).flatten(1)[None]


def _through(norm: LayerNorm, gradient: Tensor, x: Tensor) -> Tensor:
    at_input: Tensor = layer_norm_gradient(gradient, x, norm.weight, norm.eps)
    return at_input
