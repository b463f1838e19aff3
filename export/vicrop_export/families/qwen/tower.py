"""A tower over the patches of one picture of any size, as torch modules.

Patches stay in the image processor's order, cell by cell; which of them look at each other, and where each
one lies, comes in as tables of whole numbers. What is written here follows transformers' modeling_qwen2_vl,
modeling_qwen2_5_vl and modeling_qwen3_vl. Knows nothing of preprocessing or of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.qwen.facts import TowerFacts
from vicrop_export.ops.attention import rotate
from vicrop_export.ops.layers import ACTIVATIONS, LayerNorm, Projection, RmsNorm, constant
from vicrop_export.ops.small import full_attention

EPS = 1e-6  # of every norm of these towers
BLOCKS = "vision_tower.blocks"
Norm = LayerNorm | RmsNorm
ReadNorm = Callable[[CheckpointTensors, str], Norm]


class Windows(NamedTuple):
    """Patches that look at each other: [windows, slots], their number where a slot has none, and each
    patch's slot [patches].
    """

    rows: Tensor
    slots: Tensor


def layer_norm(tensors: CheckpointTensors, prefix: str) -> Norm:
    """One with a mean and a bias."""
    return tensors.layer_norm(prefix, EPS)


def rms_norm(tensors: CheckpointTensors, prefix: str) -> Norm:
    """One without."""
    return tensors.rms_norm(prefix, EPS)


class PatchAngles(nn.Module):
    """Cosine and sine [patches, 1, head_dim / 2] of positions [patches, 2]: angles by row, then by column."""

    def __init__(self, facts: TowerFacts) -> None:
        super().__init__()
        half = facts.head_dim // 2
        exponents = torch.arange(0, half, 2, dtype=torch.float32) / half
        self.inverse_frequencies = constant(1.0 / facts.theta**exponents)

    def forward(self, patch_positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = patch_positions.to(torch.float32).unsqueeze(2) * self.inverse_frequencies
        angles = angles.flatten(1).unsqueeze(1)
        return torch.cos(angles), torch.sin(angles)


class PatchAttention(nn.Module):
    """Attention among patches [patches, hidden], of all of them or within windows; in float16 if `half`."""

    def __init__(self, tensors: CheckpointTensors, prefix: str, facts: TowerFacts, half: bool) -> None:
        super().__init__()
        self.qkv = tensors.projection(f"{prefix}.qkv")
        self.output = tensors.projection(f"{prefix}.proj")
        self.num_heads, self.head_dim = facts.num_heads, facts.head_dim
        self.kind = torch.float16 if half else torch.float32

    def forward(self, normed: Tensor, rotation: tuple[Tensor, Tensor], windows: Windows | None) -> Tensor:
        query, key, value = self.qkv(normed).chunk(3, dim=-1)
        query, key = (self._turned(x, rotation) for x in (query, key))
        projected = [x.to(self.kind) for x in (query, key, value)]
        if windows is None:
            mixed = full_attention(*(x.unsqueeze(0) for x in projected), self.num_heads).squeeze(0)
        else:
            mixed = self._within(torch.cat(projected, dim=-1), windows)
        output: Tensor = self.output(mixed.to(torch.float32))
        return output

    def _turned(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        heads = x.reshape(-1, self.num_heads, self.head_dim)
        return rotate(heads, *rotation).flatten(1)

    def _within(self, projected: Tensor, windows: Windows) -> Tensor:
        """Of queries, keys and values side by side; a slot without a patch holds zeros that nobody sees."""
        number, slots = windows.slots.shape[0], windows.rows.shape[1]
        held = functional.pad(projected, (0, 0, 0, 1)).index_select(0, windows.rows.flatten())
        parts = held.reshape(-1, slots, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        bias = torch.where(windows.rows == number, float("-inf"), 0.0).to(self.kind)
        scores = torch.matmul(query * self.head_dim**-0.5, key.transpose(-1, -2)) + bias[:, None, None]
        mixed = torch.matmul(torch.softmax(scores, dim=-1), value).transpose(1, 2)
        return mixed.reshape(-1, self.num_heads * self.head_dim).index_select(0, windows.slots)


class PlainMlp(nn.Module):
    """Up, activation and down again; `names` are the two projections'."""

    def __init__(
        self, tensors: CheckpointTensors, prefix: str, activation: str, names: tuple[str, str]
    ) -> None:
        super().__init__()
        self.up, self.down = (tensors.projection(f"{prefix}.{name}") for name in names)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        lifted: Tensor = self.down(self.activation(self.up(x)))
        return lifted


class GatedMlp(nn.Module):
    """The same with a gate, as in the decoder."""

    def __init__(self, tensors: CheckpointTensors, prefix: str, activation: str) -> None:
        super().__init__()
        self.gate, self.up, self.down = (
            tensors.projection(f"{prefix}.{name}_proj") for name in ("gate", "up", "down")
        )
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        lifted: Tensor = self.down(self.activation(self.gate(x)) * self.up(x))
        return lifted


class Block(nn.Module):
    """One layer, norms first: [patches, hidden] to the same."""

    def __init__(
        self,
        tensors: CheckpointTensors,
        index: int,
        facts: TowerFacts,
        half: bool,
        norm: ReadNorm,
        mlp: nn.Module,
    ) -> None:
        super().__init__()
        prefix = f"{BLOCKS}.{index}"
        self.norm1, self.norm2 = (norm(tensors, f"{prefix}.norm{place}") for place in (1, 2))
        self.attention = PatchAttention(tensors, f"{prefix}.attn", facts, half)
        self.mlp = mlp

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], windows: Windows | None) -> Tensor:
        hidden = hidden + self.attention(self.norm1(hidden), rotation, windows)
        lifted: Tensor = self.mlp(self.norm2(hidden))
        return hidden + lifted


class Merger(nn.Module):
    """The patches of each cell side by side to one token: [patches, hidden] to [tokens, text hidden].

    The norm is of each patch, or of the whole cell where it is as wide; `names` are the two projections'.
    """

    def __init__(
        self, tensors: CheckpointTensors, prefix: str, norm: Norm, names: tuple[str, str] = ("mlp.0", "mlp.2")
    ) -> None:
        super().__init__()
        self.norm, self.mlp = norm, PlainMlp(tensors, prefix, "gelu", names)
        self.width = tensors.shape(f"{prefix}.{names[0]}.weight")[1]

    def forward(self, hidden: Tensor) -> Tensor:
        of_cells = self.norm.weight.shape[0] == self.width
        normed = self.norm(hidden.reshape(-1, self.width) if of_cells else hidden)
        merged: Tensor = self.mlp(normed.reshape(-1, self.width))
        return merged


def patch_projection(tensors: CheckpointTensors) -> Projection:
    """The convolution over whole patches as a product with `patches` [patches, 3·2·patch²]."""
    prefix = "vision_tower.patch_embed.proj"
    weight = tensors.get(f"{prefix}.weight").flatten(1)
    return Projection(weight, tensors.bias(prefix, biased=False))
