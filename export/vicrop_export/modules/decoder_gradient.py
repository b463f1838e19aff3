"""The decoder over whole prompts, and back from the answers' losses to the prompts' embeddings.

The loss of a prompt is the logarithm of its likeliest next token's probability. Prompts that share a prefix
go through side by side under a bias, and back side by side, one gradient for each. Each layer keeps its
input, queries, keys and values, and what goes into its MLP's product; attention itself is computed again.
Knows nothing of pictures or of ONNX.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.modules.decoder import DecoderLayer, LanguageHead
from vicrop_export.modules.rotary import RotaryAngles, Rotation
from vicrop_export.ops.attention import attention
from vicrop_export.ops.attention_gradient import attention_gradient
from vicrop_export.ops.gradient import after, transposed
from vicrop_export.ops.layers import DERIVATIVES, RmsNorm
from vicrop_export.ops.small import rms_norm_back


class Attended(NamedTuple):
    """What a layer's attention keeps, each [1, tokens, …]."""

    hidden: Tensor
    query: Tensor
    key: Tensor
    value: Tensor


class Lifted(NamedTuple):
    """What a layer's MLP keeps, each […, tokens, …]."""

    hidden: Tensor
    gate: Tensor
    up: Tensor


class DecoderGradient(nn.Module):
    """All layers and the head, there and back."""

    def __init__(self, tensors: CheckpointTensors, facts: TextFacts) -> None:
        super().__init__()
        self.angles = RotaryAngles(facts.head_dim, facts.rope)
        self.layers = nn.ModuleList(
            DecoderLayer(tensors, index, facts, in_place=False) for index in range(facts.num_layers)
        )
        self.head = LanguageHead(tensors, facts)
        self.num_kv_heads, self.head_dim = facts.num_kv_heads, facts.head_dim
        self.derivative = DERIVATIVES[facts.activation]

    def forward(self, embeds: Tensor, position_ids: Tensor, bias: Tensor, ends: Tensor) -> Tensor:
        """Gradients [losses, tokens, hidden] at `embeds` [1, tokens, hidden], of prompts that end at `ends`.

        Only the ends go through the last layer's MLP.
        """
        rotation = self.angles(position_ids)
        layers = cast("list[DecoderLayer]", list(self.layers))
        attended, lifted = [], []
        hidden = embeds
        for layer in layers:
            hidden, kept = self._attend(layer, hidden, rotation, bias)
            if layer is layers[-1]:
                hidden = hidden.index_select(1, ends).transpose(0, 1)
            hidden, kept_mlp = self._lift(layer, hidden)
            attended.append(kept)
            lifted.append(kept_mlp)
        gradient = self._loss_gradient(hidden)
        for layer, kept, kept_mlp in zip(reversed(layers), reversed(attended), reversed(lifted), strict=True):
            last = layer is layers[-1]
            gradient = self._lift_gradient(layer, gradient, kept_mlp, again=not last)
            if last:
                gradient = _placed(gradient, ends, embeds)
            gradient = self._attend_gradient(layer, gradient, kept, rotation, bias)
        return gradient

    def _attend(
        self, layer: DecoderLayer, hidden: Tensor, rotation: Rotation, bias: Tensor
    ) -> tuple[Tensor, Attended]:
        normed = layer.attention_norm(hidden)
        projected = (layer.query(normed), layer.key(normed), layer.value(normed))
        past = hidden.new_zeros(1, 0, self.num_kv_heads, self.head_dim)
        nothing = torch.zeros(0, dtype=torch.int64)
        mixed = attention(*projected, past, past, *rotation, bias, nothing, False)[0]
        return hidden + layer.output(mixed), Attended(hidden, *projected)

    def _lift(self, layer: DecoderLayer, hidden: Tensor) -> tuple[Tensor, Lifted]:
        normed = layer.mlp_norm(hidden)
        gate, up = layer.gate(normed), layer.up(normed)
        return hidden + layer.down(layer.activation(gate) * up), Lifted(hidden, gate, up)

    def _loss_gradient(self, hidden: Tensor) -> Tensor:
        """At the ends' last hidden states [losses, 1, hidden].

        One less the likeliest token's probability is the sum of the others', which rounding cannot take away.
        """
        logits = self.head.vocabulary(self.head.norm(hidden))
        likeliest = logits.argmax(-1, keepdim=True)
        others = torch.softmax(logits, dim=-1).scatter(-1, likeliest, 0.0)
        at_logits = (-others).scatter(-1, likeliest, others.sum(-1, keepdim=True))
        gradient = transposed(at_logits, self.head.vocabulary.weight)
        return _through(self.head.norm, gradient, hidden)

    def _lift_gradient(self, layer: DecoderLayer, gradient: Tensor, kept: Lifted, *, again: bool) -> Tensor:
        hidden, gate, up = (after(part, gradient) for part in kept) if again else kept
        product = transposed(gradient, layer.down.weight)
        at_gate = product * up * self.derivative(gate)
        at_up = product * layer.activation(gate)
        at_normed = transposed(at_gate, layer.gate.weight) + transposed(at_up, layer.up.weight)
        return gradient + _through(layer.mlp_norm, at_normed, hidden)

    def _attend_gradient(
        self, layer: DecoderLayer, gradient: Tensor, kept: Attended, rotation: Rotation, bias: Tensor
    ) -> Tensor:
        hidden, *projected = (after(part, gradient) for part in kept)
        mixed = transposed(gradient, layer.output.weight)
        at_projected = attention_gradient(mixed, *projected, *rotation, bias, self.head_dim)
        projections = (layer.query, layer.key, layer.value)
        parts = [
            transposed(part, projection.weight)
            for part, projection in zip(at_projected, projections, strict=True)
        ]
        return gradient + _through(layer.attention_norm, parts[0] + parts[1] + parts[2], hidden)


def _through(norm: RmsNorm, gradient: Tensor, x: Tensor) -> Tensor:
    at_input: Tensor = rms_norm_back(gradient, x, norm.weight, norm.eps)
    return at_input


def _placed(gradient: Tensor, ends: Tensor, like: Tensor) -> Tensor:
    """[losses, 1, hidden] as [losses, tokens, hidden]: each at its end, zero elsewhere."""
    positions = torch.arange(like.shape[1]).unsqueeze(0)
    return gradient * (positions == ends.unsqueeze(1)).unsqueeze(2).to(gradient.dtype)
