"""The Q-Former and the projection to the decoder as one torch module; what it looked at is an output.

Queries and instruction attend to each other; in some layers the queries look at the picture too. Norms come
after what they norm. Knows nothing of tokenizers or of ONNX.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.instructblip.facts import QFormerFacts
from vicrop_export.ops.layers import ACTIVATIONS, DERIVATIVES, constant

PREFIX = "multi_modal_projector"
LAYERS = f"{PREFIX}.qformer.encoder.layer"


class Attended(NamedTuple):
    """What attention made on the way: queries, keys and values by head, its weights, the sum before the norm.

    [heads, n or m, head_dim], [heads, n, m] and [1, n, hidden].
    """

    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor
    summed: Tensor


class Attention(nn.Module):
    """Tokens [1, n, hidden] that look at states [1, m, any]: the tokens [1, n, hidden] after it."""

    def __init__(self, tensors: CheckpointTensors, prefix: str, facts: QFormerFacts) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            tensors.projection(f"{prefix}.attention.{name}") for name in ("query", "key", "value")
        )
        self.output = tensors.projection(f"{prefix}.output.dense")
        self.norm = tensors.layer_norm(f"{prefix}.output.LayerNorm", facts.norm_eps)
        self.num_heads = facts.num_heads

    def forward(self, tokens: Tensor, states: Tensor) -> tuple[Tensor, Attended]:
        query, key, value = (
            self.by_head(part) for part in (self.query(tokens), self.key(states), self.value(states))
        )
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(1, 2))
        weights = torch.softmax(scores, dim=-1)
        mixed = torch.matmul(weights, value).transpose(0, 1).flatten(1)[None]
        summed = self.output(mixed) + tokens
        return self.norm(summed), Attended(query, key, value, weights, summed)

    def by_head(self, tokens: Tensor) -> Tensor:
        """[1, n, hidden] to [heads, n, head_dim]."""
        return tokens[0].reshape(tokens.shape[1], self.num_heads, -1).transpose(0, 1)


class Fed(NamedTuple):
    """What a layer's two products made on the way: what is activated, and the sum before the norm."""

    inner: Tensor
    summed: Tensor


class FeedForward(nn.Module):
    """The two products of a layer, of queries or of text, and the norm after them."""

    def __init__(self, tensors: CheckpointTensors, prefix: str, kind: str, facts: QFormerFacts) -> None:
        super().__init__()
        self.inner = tensors.projection(f"{prefix}.intermediate{kind}.dense")
        self.outer = tensors.projection(f"{prefix}.output{kind}.dense")
        self.norm = tensors.layer_norm(f"{prefix}.output{kind}.LayerNorm", facts.norm_eps)
        self.activation, self.derivative = ACTIVATIONS[facts.activation], DERIVATIVES[facts.activation]

    def forward(self, tokens: Tensor) -> tuple[Tensor, Fed]:
        inner = self.inner(tokens)
        summed = self.outer(self.activation(inner)) + tokens
        return self.norm(summed), Fed(inner, summed)


class LayerKept(NamedTuple):
    """What the parts of a layer made on the way, None of those that it does not have."""

    itself: Attended
    picture: Attended | None
    of_queries: Fed
    of_text: Fed | None


class Layer(nn.Module):
    """Queries and text [1, n, hidden] to the same; the last layer gives the queries alone."""

    def __init__(self, tensors: CheckpointTensors, index: int, facts: QFormerFacts) -> None:
        super().__init__()
        prefix = f"{LAYERS}.{index}"
        self.itself = Attention(tensors, f"{prefix}.attention", facts)
        looks = index % facts.every == 0
        self.picture = Attention(tensors, f"{prefix}.crossattention", facts) if looks else None
        self.of_queries = FeedForward(tensors, prefix, "_query", facts)
        is_last, self.num_queries = index == facts.num_layers - 1, facts.num_queries
        self.of_text = None if is_last else FeedForward(tensors, prefix, "", facts)

    def forward(self, tokens: Tensor, states: Tensor) -> tuple[Tensor, LayerKept]:
        looked = of_text = None
        asking = tokens[:, : self.num_queries] if self.of_text is None else tokens
        mixed, itself = self.itself(asking, tokens)
        queries = mixed[:, : self.num_queries]
        if self.picture is not None:
            queries, looked = self.picture(queries, states)
        result, of_queries = self.of_queries(queries)
        if self.of_text is not None:
            text, of_text = self.of_text(mixed[:, self.num_queries :])
            result = torch.cat((result, text), dim=1)
        return result, LayerKept(itself, looked, of_queries, of_text)


class QFormer(nn.Module):
    """`image_states` [1, 1 + patches, n] and `instruction_ids` [1, text] to embeds and what was looked at.

    `image_embeds` are [1, queries, text hidden], `looked` [heads, queries, patches] is the attention of the
    layer that the heatmap is read from.
    """

    def __init__(self, tensors: CheckpointTensors, facts: QFormerFacts) -> None:
        super().__init__()
        embeddings = f"{PREFIX}.qformer.embeddings"
        self.words = constant(tensors.get(f"{embeddings}.word_embeddings.weight"))
        self.positions = constant(tensors.get(f"{embeddings}.position_embeddings.weight"))
        self.queries = constant(tensors.get(f"{PREFIX}.query_tokens"))
        self.first_norm = tensors.layer_norm(f"{embeddings}.layernorm", facts.norm_eps)
        self.layers = nn.ModuleList(Layer(tensors, index, facts) for index in range(facts.num_layers))
        self.projection = tensors.projection(f"{PREFIX}.language_projection")
        self.read = facts.entry * facts.every

    def forward(self, image_states: Tensor, instruction_ids: Tensor) -> tuple[Tensor, Tensor]:
        embeds, kept = self.passed(image_states, instruction_ids)
        return embeds, self.looked(kept)

    def passed(self, image_states: Tensor, instruction_ids: Tensor) -> tuple[Tensor, list[LayerKept]]:
        """The embeds, and what every layer made on the way."""
        text = functional.embedding(instruction_ids, self.words)
        text = text + self.positions[: instruction_ids.shape[1]]
        tokens = self.first_norm(torch.cat((self.queries, text), dim=1))
        kept = []
        for layer in self.layers:
            tokens, made = layer(tokens, image_states)
            kept.append(made)
        return self.projection(tokens), kept

    def looked(self, kept: list[LayerKept]) -> Tensor:
        """Attention [heads, queries, patches] of the layer that is read, without that to the class token."""
        attended = kept[self.read].picture
        assert attended is not None, "the layer that is read looks at the picture"
        return attended.weights[..., 1:]
