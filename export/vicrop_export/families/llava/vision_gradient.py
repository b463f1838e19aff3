"""The vision tower and projector on one picture, and back from image embeddings to pixels.

Each layer keeps its input, queries, keys and values, and what goes into its activation; attention itself is
computed again. Knows nothing of the decoder or of ONNX.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.llava.facts import VisionFacts
from vicrop_export.families.llava.vision import VisionTower
from vicrop_export.modules.vision import VisionLayer
from vicrop_export.ops.attention_gradient import attention_gradient
from vicrop_export.ops.gradient import after, layer_norm_gradient, transposed
from vicrop_export.ops.layers import DERIVATIVES, LayerNorm
from vicrop_export.ops.small import full_attention


class Seen(NamedTuple):
    """What one layer keeps, each [1, tokens, …]."""

    hidden: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    mixed: Tensor
    inner: Tensor


class Projected(NamedTuple):
    """What the tower's two ends keep: patches before the first norm, and the projector's inner values."""

    patches: Tensor
    inner: Tensor


class VisionGradient(nn.Module):
    """The tower, there and back."""

    def __init__(self, tensors: CheckpointTensors, facts: VisionFacts) -> None:
        super().__init__()
        self.tower = VisionTower(tensors, facts)
        self.head_dim = facts.hidden_size // facts.num_heads
        self.derivative = DERIVATIVES[facts.activation]
        self.projector_derivative = DERIVATIVES[facts.projector_activation]

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Projected, list[Seen]]:
        """Image embeddings [1, image_tokens, text hidden] of one picture, and what the way back needs."""
        tower = self.tower
        patches = tower.embeddings(pixel_values)
        states, kept = [tower.first_norm(patches)], []
        for layer in cast("list[VisionLayer]", list(tower.layers)):
            hidden, seen = _forward(layer, states[-1])
            states.append(hidden)
            kept.append(seen)
        chosen = [states[index][:, tower.patch_offset :] for index in tower.feature_layers]
        inner = tower.linear1(torch.cat(chosen, dim=-1))
        return tower.linear2(tower.activation(inner)), Projected(patches, inner), kept

    def gradient(self, gradient: Tensor, ends: Projected, kept: list[Seen]) -> Tensor:
        """From [losses, image_tokens, text hidden] to pixels [losses, 3, side, side] of whole patches."""
        tower = self.tower
        inner = after(ends.inner, gradient)
        gradient = transposed(gradient, tower.linear2.weight) * self.projector_derivative(inner)
        features = transposed(gradient, tower.linear1.weight).chunk(len(tower.feature_layers), dim=-1)
        gradient = self._at_state(len(kept), features)
        for index in reversed(range(len(kept))):
            gradient = self._backward(cast("VisionLayer", tower.layers[index]), gradient, kept[index])
            if index in tower.feature_layers:
                gradient = gradient + self._at_state(index, features)
        gradient = _through(tower.first_norm, gradient, after(ends.patches, gradient))
        pixels = transposed(gradient[:, 1:], tower.embeddings.patches.weight)
        grid, patch = tower.embeddings.grid, tower.embeddings.patch
        cells = pixels.reshape(-1, grid, grid, 3, patch, patch).permute(0, 3, 1, 4, 2, 5)
        at_pixels: Tensor = cells.reshape(-1, 3, grid * patch, grid * patch)
        return at_pixels

    def _at_state(self, index: int, features: tuple[Tensor, ...]) -> Tensor:
        """What the projector asks of hidden state `index`, which it may read twice or without class token."""
        places = [place for place, layer in enumerate(self.tower.feature_layers) if layer == index]
        total = features[places[0]]
        for place in places[1:]:
            total = total + features[place]
        return functional.pad(total, (0, 0, self.tower.patch_offset, 0))

    def _backward(self, layer: VisionLayer, gradient: Tensor, seen: Seen) -> Tensor:
        hidden, query, key, value, mixed, inner = (after(part, gradient) for part in seen)
        at_inner = transposed(gradient, layer.fc2.weight) * self.derivative(inner)
        gradient = gradient + _through(layer.norm2, transposed(at_inner, layer.fc1.weight), mixed)
        at_mixed = transposed(gradient, layer.output.weight)
        at_projected = attention_gradient(at_mixed, query, key, value, None, None, None, self.head_dim)
        projections = (layer.query, layer.key, layer.value)
        parts = [
            transposed(part, projection.weight)
            for part, projection in zip(at_projected, projections, strict=True)
        ]
        return gradient + _through(layer.norm1, parts[0] + parts[1] + parts[2], hidden)


def _forward(layer: VisionLayer, hidden: Tensor) -> tuple[Tensor, Seen]:
    normed = layer.norm1(hidden)
    projected = (layer.query(normed), layer.key(normed), layer.value(normed))
    mixed = hidden + layer.output(full_attention(*projected, layer.num_heads))
    inner = layer.fc1(layer.norm2(mixed))
    return mixed + layer.fc2(layer.activation(inner)), Seen(hidden, *projected, mixed, inner)


def _through(norm: LayerNorm, gradient: Tensor, x: Tensor) -> Tensor:
    at_input: Tensor = layer_norm_gradient(gradient, x, norm.weight, norm.eps)
    return at_input
