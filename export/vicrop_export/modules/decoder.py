"""The Llama decoder as two torch modules: the lower layers, and the upper layers with the language head.

Both take the KV cache in and give it back with the new tokens, and hand out attention rows after softmax for
the token positions asked for. Who may look where comes in as a bias, so that suffixes may lie side by side.
Batch is 1. Written from the architecture; the build checks the numbers against transformers. Knows nothing of
ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.modules.rotary import RotaryAngles, Rotation
from vicrop_export.ops.attention import attention
from vicrop_export.ops.causal_attention import causal_attention
from vicrop_export.ops.layers import ACTIVATIONS, Projection, RmsNorm

KeyValue = tuple[Tensor, Tensor]


def causal_bias(num_new: int, num_past: int) -> Tensor:
    """[1, 1, new, past + new], 0 where new token i may look (keys up to past + i) and -inf elsewhere."""
    queries = torch.arange(num_past, num_past + num_new).unsqueeze(1)
    keys = torch.arange(num_past + num_new).unsqueeze(0)
    return torch.where(keys <= queries, 0.0, float("-inf"))[None, None]


def _head_norm(tensors: CheckpointTensors, prefix: str, eps: float) -> RmsNorm | None:
    """The norm of each head's queries or keys, where one is stored."""
    return tensors.rms_norm(prefix, eps) if f"{prefix}.weight" in tensors else None


def by_head(norm: RmsNorm, x: Tensor) -> Tensor:
    """Norm of each head, [..., heads·dim] to the same."""
    heads: Tensor = norm(x.reshape(*x.shape[:-1], -1, norm.weight.shape[0]))
    return heads.flatten(-2)


class DecoderLayer(nn.Module):
    """One Llama layer; `in_place` is the flavour of its attention, and `causal` that of the CUDA provider.

    Projections have a bias, and each head's queries and keys a norm, where the checkpoint stores them.
    """

    causal = False

    def __init__(self, tensors: CheckpointTensors, index: int, facts: TextFacts, in_place: bool) -> None:
        super().__init__()
        prefix = f"language_model.layers.{index}"
        self.query, self.key, self.value, self.output = (
            tensors.projection(f"{prefix}.self_attn.{name}_proj", biased=facts.attention_bias)
            for name in "qkvo"
        )
        self.query_norm, self.key_norm = (
            _head_norm(tensors, f"{prefix}.self_attn.{name}_norm", facts.norm_eps) for name in "qk"
        )
        self.attention_norm = RmsNorm(tensors.get(f"{prefix}.input_layernorm.weight"), facts.norm_eps)
        self.mlp_norm = RmsNorm(tensors.get(f"{prefix}.post_attention_layernorm.weight"), facts.norm_eps)
        self.gate, self.up, self.down = (
            tensors.projection(f"{prefix}.mlp.{name}_proj", biased=facts.mlp_bias)
            for name in ("gate", "up", "down")
        )
        self.activation = ACTIVATIONS[facts.activation]
        self.in_place = in_place

    def projected(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all heads side by side, before rotation."""
        query, key = self.query(normed), self.key(normed)
        if self.query_norm is not None:
            query = by_head(self.query_norm, query)
        if self.key_norm is not None:
            key = by_head(self.key_norm, key)
        return query, key, self.value(normed)

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
        projected = self.projected(self.attention_norm(hidden))
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
        self.angles = RotaryAngles(facts.head_dim, facts.rope)
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
        added: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Hidden states, attention [layers, rows, heads, total], and each layer's keys and values in turn.

        With `carried` [n] only these new tokens leave the last layer. The last list holds the taps' states
        that enter `tapped_layer`, [1, rows, hidden], if there is one. `added`, [1, seq, hidden] each, are
        added to the states after the first layers.
        """
        rotation = self.angles(position_ids)
        rows, present, tapped = [], [], []
        for index, (layer, layer_past) in enumerate(zip(self.layers, past, strict=True)):
            if index == tapped_layer:
                tapped.append(hidden.index_select(1, tap_positions))
            last = carried if layer is self.layers[-1] else None
            hidden, layer_rows, key, value = layer(hidden, rotation, bias, tap_positions, layer_past, last)
            if index < len(added):
                hidden = hidden + added[index]
            rows.append(layer_rows)
            present += [key, value]
        return hidden, torch.stack(rows), present, tapped


class LanguageHead(nn.Module):
    """Final norm and vocabulary projection: [1, seq, hidden] and tokens' positions [n] to [n, vocab]."""

    def __init__(self, tensors: CheckpointTensors, facts: TextFacts) -> None:
        super().__init__()
        self.norm = RmsNorm(tensors.get("language_model.norm.weight"), facts.norm_eps)
        name = "language_model.embed_tokens" if facts.tied_embeddings else "lm_head"
        self.vocabulary: Projection = tensors.projection(name)

    def forward(self, hidden_states: Tensor, answer_position: Tensor) -> Tensor:
        return self.logits(hidden_states.index_select(1, answer_position))

    def logits(self, chosen: Tensor) -> Tensor:
        """Of every token given: [1, n, hidden] to [n, vocab]."""
        logits: Tensor = self.vocabulary(self.norm(chosen.squeeze(0)))
        return logits


class LowerDecoder(nn.Module):
    """The first `num_layers` layers: embeddings in, hidden states, attention rows, taps' states and KV out.

    Embeddings [1 + added, seq, hidden] bring what is added after the first layers. The taps' states
    [1, rows, hidden] are those that enter `tapped_layer`, by default the last.
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
        if num_layers < facts.added_embeds:
            raise CheckpointError(
                f"got {num_layers} lower layers, wanted at least {facts.added_embeds}: so many add "
                "something of a picture; cut the decoder above them"
            )
        self.stack = DecoderStack(tensors, facts, range(num_layers), in_place)
        self.has_added = facts.added_embeds > 0
        self.tapped_layer = num_layers - 1 if tapped_layer is None else tapped_layer

    def forward(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        tap_positions: Tensor,
        attention_bias: Tensor,
        past: list[KeyValue],
    ) -> tuple[Tensor, ...]:
        hidden, *added = torch.split(inputs_embeds, 1) if self.has_added else (inputs_embeds,)
        hidden, rows, present, tapped = self.stack(
            hidden,
            position_ids,
            tap_positions,
            attention_bias,
            past,
            tapped_layer=self.tapped_layer,
            added=added,
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
