"""grad-att's gradient as a torch module: one token through the upper layers and back, written out by hand.

The attention row of a token in some layer reaches the loss through that token alone (arXiv 2502.17422's loss
reads the last logits, and nobody after the token looks at it), so the token's state where the lowest layer
begins and the KV cache of the prompt are all that is needed; other tokens' keys and values are constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.modules.decoder import DecoderLayer, KeyValue, LanguageHead, by_head
from vicrop_export.modules.rotary import RotaryAngles, Rotation
from vicrop_export.ops.attention import rotate
from vicrop_export.ops.layers import DERIVATIVES, Projection, RmsNorm
from vicrop_export.ops.small import project_back, rms_norm_back
from vicrop_export.ops.token_attention import token_attention, token_attention_back


@dataclass(frozen=True)
class _Step:
    """What going back through a layer needs of its forward pass, [1, n] each, attention [heads, capacity]."""

    entering: Tensor
    normed: Tensor
    raw_query: Tensor  # before the norm of each head, if there is one, and before rotation
    query: Tensor
    attention: Tensor
    between: Tensor
    gate: Tensor
    up: Tensor


class TokenGradient(nn.Module):
    """Layers from `first` on and the head, for one token: its attention and the loss's gradient there.

    The loss is minus the cross-entropy of the token's logits with their largest.
    """

    def __init__(self, tensors: CheckpointTensors, facts: TextFacts, first: int) -> None:
        super().__init__()
        self.angles = RotaryAngles(facts.head_dim, facts.rope)
        self.layers = nn.ModuleList(
            DecoderLayer(tensors, index, facts, in_place=False) for index in range(first, facts.num_layers)
        )
        self.head = LanguageHead(tensors, facts)
        self.derivative = DERIVATIVES[facts.activation]

    def forward(
        self,
        tapped_states: Tensor,
        position_ids: Tensor,
        attention_bias: Tensor,
        own_row: Tensor,
        past: list[KeyValue],
    ) -> tuple[Tensor, Tensor]:
        """Attention and its gradient, [layers, heads, capacity] each.

        tapped_states [1, 1, hidden] enter layer `first`; position_ids [axes, 1]; attention_bias
        [1, 1, 1, capacity] is 0 where the token may look and -inf elsewhere; its own keys and values are in
        row `own_row` [1] of the buffers.
        """
        rotation = self.angles(position_ids)
        hidden, steps = tapped_states.squeeze(1), []
        for layer, cached in zip(self._layers, past, strict=True):
            step = _forwards(layer, hidden, rotation, attention_bias, cached)
            hidden = step.between + layer.down(layer.activation(step.gate) * step.up)
            steps.append(step)
        gradient = self._loss_back(hidden)
        gradients: list[Tensor] = []
        for layer, step, cached in reversed(list(zip(self._layers, steps, past, strict=True))):
            gradient = self._mlp_back(layer, step, gradient)
            mixed = _product_back(layer.output, gradient)
            at_attention, *at_token = token_attention_back(
                mixed, step.query, step.attention, *cached, own_row
            )
            gradients.insert(0, at_attention)
            if layer is not self._layers[0]:
                gradient = gradient + _projections_back(layer, step, rotation, at_token)
        return torch.stack([step.attention for step in steps]), torch.stack(gradients)

    @property
    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def _loss_back(self, hidden: Tensor) -> Tensor:
        """The gradient at the last layer's result: onehot(argmax) - softmax at the logits, then back.

        One minus the largest probability is summed up from the others, or a sure answer would round it away.
        """
        head = self.head
        logits = head.vocabulary(head.norm(hidden))
        others = torch.softmax(logits, dim=-1)
        largest = torch.arange(logits.shape[1]) == logits.argmax(dim=-1, keepdim=True)
        others = torch.where(largest, 0.0, others)
        at_logits = torch.where(largest, others.sum(-1, keepdim=True), -others)
        return _norm_back(head.norm, hidden, _product_back(head.vocabulary, at_logits))

    def _mlp_back(self, layer: DecoderLayer, step: _Step, gradient: Tensor) -> Tensor:
        """The gradient where attention has been added, from the one at the layer's result."""
        inner = _product_back(layer.down, gradient)
        at_gate = inner * step.up * self.derivative(step.gate)
        at_up = inner * layer.activation(step.gate)
        normed = _product_back(layer.gate, at_gate) + _product_back(layer.up, at_up)
        return gradient + _norm_back(layer.mlp_norm, step.between, normed)


def _forwards(
    layer: DecoderLayer, hidden: Tensor, rotation: Rotation, bias: Tensor, cached: KeyValue
) -> _Step:
    """The layer up to its MLP's activation; the token's key and value are in the cache already."""
    entered = layer.attention_norm(hidden)
    raw = layer.query(entered)
    query = _turn(raw if layer.query_norm is None else by_head(layer.query_norm, raw), *rotation)
    mixed, weights = token_attention(query, *cached, bias)
    between = hidden + layer.output(mixed)
    normed = layer.mlp_norm(between)
    return _Step(hidden, entered, raw, query, weights, between, layer.gate(normed), layer.up(normed))


def _projections_back(layer: DecoderLayer, step: _Step, rotation: Rotation, at_token: list[Tensor]) -> Tensor:
    """What reaches the layer's input through the token's query, key and value; turned back first."""
    cos, sin = rotation
    query, key, value = at_token
    normed = (
        _product_back(layer.query, _query_back(layer, step, _turn(query, cos, -sin)))
        + _product_back(layer.key, _key_back(layer, step, _turn(key, cos, -sin)))
        + _product_back(layer.value, value)
    )
    return _norm_back(layer.attention_norm, step.entering, normed)


def _query_back(layer: DecoderLayer, step: _Step, gradient: Tensor) -> Tensor:
    norm = layer.query_norm
    return gradient if norm is None else _heads_back(norm, step.raw_query, gradient)


def _key_back(layer: DecoderLayer, step: _Step, gradient: Tensor) -> Tensor:
    norm = layer.key_norm
    return gradient if norm is None else _heads_back(norm, layer.key(step.normed), gradient)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of all heads of one token, [1, heads·dim]; with -sin it is undone."""
    heads = x.reshape(1, -1, 1, 2 * cos.shape[-1])
    return rotate(heads, cos, sin).reshape(1, -1)


def _product_back(projection: Projection, gradient: Tensor) -> Tensor:
    back: Tensor = project_back(gradient, projection.weight)
    return back


def _heads_back(norm: RmsNorm, x: Tensor, gradient: Tensor) -> Tensor:
    """`_norm_back` of each head by itself, of queries or keys [1, heads·dim] before their norm."""
    size = (-1, norm.weight.shape[0])
    return _norm_back(norm, x.reshape(size), gradient.reshape(size)).reshape(1, -1)


def _norm_back(norm: RmsNorm, x: Tensor, gradient: Tensor) -> Tensor:
    back: Tensor = rms_norm_back(gradient, x, norm.weight, norm.eps)
    return back
