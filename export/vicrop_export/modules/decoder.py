"""The Llama decoder as two torch modules: the lower layers, and the upper layers with the language head.

Both take the KV cache in and give it back with the new tokens, and hand out attention rows after softmax for
the token positions asked for. Who may look where comes in as a bias, so that suffixes may lie side by side.
Batch is 1. Written from the architecture; the build checks the numbers against transformers. Knows nothing of
ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.ops.attention import attention
from vicrop_export.ops.causal_attention import causal_attention
from vicrop_export.ops.layers import ACTIVATIONS, Projection, RmsNorm, constant

KeyValue = tuple[Tensor, Tensor]
Rotation = tuple[Tensor, Tensor]


class RotaryAngles(nn.Module):
    """Cosine and sine of every position's angles: [1, seq] to two [1, 1, seq, head_dim / 2]."""

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        self.inverse_frequencies = constant(1.0 / theta**exponents)

    def forward(self, position_ids: Tensor) -> Rotation:
        angles = position_ids.to(torch.float32).unsqueeze(1).unsqueeze(3) * self.inverse_frequencies
        return torch.cos(angles), torch.sin(angles)


def causal_bias(num_new: int, num_past: int) -> Tensor:
    """[1, 1, new, past + new], 0 where new token i may look (keys up to past + i) and -inf elsewhere."""
    queries = torch.arange(num_past, num_past + num_new).unsqueeze(1)
    keys = torch.arange(num_past + num_new).unsqueeze(0)
    return torch.where(keys <= queries, 0.0, float("-inf"))[None, None]


class DecoderLayer(nn.Module):
    """One Llama layer; `in_place` is the flavour of its attention, and `causal` that of the CUDA provider."""

    causal = False

    def __init__(self, tensors: CheckpointTensors, index: int, facts: TextFacts, in_place: bool) -> None:
        super().__init__()
        prefix = f"language_model.layers.{index}"
        self.query, self.key, self.value, self.output = (
            tensors.projection(f"{prefix}.self_attn.{name}_proj", bias=facts.attention_bias)
            for name in "qkvo"
        )
        self.attention_norm = RmsNorm(tensors.get(f"{prefix}.input_layernorm.weight"), facts.norm_eps)
        self.mlp_norm = RmsNorm(tensors.get(f"{prefix}.post_attention_layernorm.weight"), facts.norm_eps)
        self.gate, self.up, self.down = (
            tensors.projection(f"{prefix}.mlp.{name}_proj", bias=facts.mlp_bias)
            for name in ("gate", "up", "down")
        )
        self.activation = ACTIVATIONS[facts.activation]
        self.in_place = in_place

    def forward(
        self,
        hidden: Tensor,
        rotation: Rotation,
        bias: Tensor,
        tap_positions: Tensor,
        past: KeyValue,
        carried: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hidden states, attention [rows, heads, total] at the taps, and this layer's keys and values.

        With `carried` [n] only the new tokens at these positions are carried on beyond attention.
        """
        normed = self.attention_norm(hidden)
        projected = (self.query(normed), self.key(normed), self.value(normed))
        operands = (*projected, *past, *rotation, bias, tap_positions)
        mixed, rows, key, value = (
            causal_attention(*operands) if self.causal else attention(*operands, self.in_place)
        )
        if carried is not None:
            hidden, mixed = hidden.index_select(1, carried), mixed.index_select(1, carried)
        hidden = hidden + self.output(mixed)
        normed = self.mlp_norm(hidden)
        return hidden + self.down(self.activation(self.gate(normed)) * self.up(normed)), rows, key, value


class DecoderStack(nn.Module):
    """Some of the decoder's layers, one after the other."""

    def __init__(self, tensors: CheckpointTensors, facts: TextFacts, layers: range, in_place: bool) -> None:
        super().__init__()
        self.angles = RotaryAngles(facts.head_dim, facts.rope_theta)
        self.layers = nn.ModuleList(DecoderLayer(tensors, index, facts, in_place) for index in layers)

    def forward(
        self,
        hidden: Tensor,
        position_ids: Tensor,
        tap_positions: Tensor,
        bias: Tensor,
        past: list[KeyValue],
        carried: Tensor | None = None,
        tapped_layer: int | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Hidden states, attention [layers, rows, heads, total], and each layer's keys and values in turn.

        With `carried` [n] only these new tokens leave the last layer. The last list holds the taps' states
        that enter `tapped_layer`, [1, rows, hidden], if there is one.
        """
        rotation = self.angles(position_ids)
        rows, present, tapped = [], [], []
        for index, (layer, layer_past) in enumerate(zip(self.layers, past, strict=True)):
            if index == tapped_layer:
                tapped.append(hidden.index_select(1, tap_positions))
            last = carried if layer is self.layers[-1] else None
            hidden, layer_rows, key, value = layer(hidden, rotation, bias, tap_positions, layer_past, last)
            rows.append(layer_rows)
            present += [key, value]
        return hidden, torch.stack(rows), present, tapped


class LanguageHead(nn.Module):
    """Final norm and vocabulary projection: [1, seq, hidden] and tokens' positions [n] to [n, vocab]."""

    def __init__(self, tensors: CheckpointTensors, facts: TextFacts) -> None:
        super().__init__()
        self.norm = RmsNorm(tensors.get("language_model.norm.weight"), facts.norm_eps)
        name = "language_model.embed_tokens" if facts.tied_embeddings else "lm_head"
        self.vocabulary: Projection = tensors.projection(name, bias=False)

    def forward(self, hidden_states: Tensor, answer_position: Tensor) -> Tensor:
        return self.logits(hidden_states.index_select(1, answer_position))

    def logits(self, chosen: Tensor) -> Tensor:
        """Of every token given: [1, n, hidden] to [n, vocab]."""
        logits: Tensor = self.vocabulary(self.norm(chosen.squeeze(0)))
        return logits


class LowerDecoder(nn.Module):
    """The first `num_layers` layers: embeddings in, hidden states, attention rows, taps' states and KV out.

    The taps' states [1, rows, hidden] are those that enter `tapped_layer`, by default the last.
    """

    def __init__(
        self,
        tensors: CheckpointTensors,
        facts: TextFacts,
        num_layers: int,
        tapped_layer: int | None = None,
        *,
        in_place: bool = True,
    ) -> None:
        super().__init__()
        self.stack = DecoderStack(tensors, facts, range(num_layers), in_place)
        self.tapped_layer = num_layers - 1 if tapped_layer is None else tapped_layer

    def forward(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        tap_positions: Tensor,
        attention_bias: Tensor,
        past: list[KeyValue],
    ) -> tuple[Tensor, ...]:
        hidden, rows, present, tapped = self.stack(
            inputs_embeds, position_ids, tap_positions, attention_bias, past, tapped_layer=self.tapped_layer
        )
        return hidden, rows, *tapped, *present


class UpperDecoder(nn.Module):
    """Layers from `first` on, then the head: hidden states in, logits, attention rows and KV out.

    The logits [n, vocab] are those of the new tokens at `answer_position` [n].
    """

    def __init__(
        self, tensors: CheckpointTensors, facts: TextFacts, first: int, *, in_place: bool = True
    ) -> None:
        super().__init__()
        self.stack = DecoderStack(tensors, facts, range(first, facts.num_layers), in_place)
        self.head = LanguageHead(tensors, facts)

    def forward(
        self,
        hidden_states: Tensor,
        position_ids: Tensor,
        tap_positions: Tensor,
        attention_bias: Tensor,
        answer_position: Tensor,
        past: list[KeyValue],
    ) -> tuple[Tensor, ...]:
        hidden, rows, present, _ = self.stack(
            hidden_states, position_ids, tap_positions, attention_bias, past, answer_position
        )
        return self.head.logits(hidden), rows, *present
