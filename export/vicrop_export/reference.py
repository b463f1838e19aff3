"""What transformers computes for one image and one prompt: the truth a build is checked against.

Loads the checkpoint by transformers' own code, in float32 with eager attention, and keeps only the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vicrop_engine.errors import CheckpointError
from vicrop_export.quiet import reason
from vicrop_export.tokens import stop_tokens

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Probe:
    """One image and a prompt cut in three: image prefix, question suffix, one decoded token."""

    pixel_values: Floats  # [1, 3, side, side]
    image_token: int
    prefix: list[int]  # with the image token repeated once per image embedding
    suffix: list[int]
    decoded: int

    @property
    def ids(self) -> list[int]:
        """The whole prompt."""
        return [*self.prefix, *self.suffix, self.decoded]


@dataclass(frozen=True)
class Reference:
    """Transformers' numbers: `attention` [layers, positions, heads, len] and `logits` [2, vocab].

    `attention` has every position; `logits` those after the suffix and after the decoded token.
    """

    image_embeds: Floats
    attention: Floats
    logits: Floats
    eos: tuple[int, ...]


def run_reference(directory: Path, probe: Probe) -> Reference:
    """Run the checkpoint on the probe. Raises CheckpointError when transformers finds it incomplete."""
    model: Any = _load(directory)
    ids = torch.tensor([probe.ids])
    pixel_values = torch.from_numpy(probe.pixel_values)
    with torch.no_grad():
        # All hidden states are asked for because transformers takes feature layer 0 for "none".
        features = model.get_image_features(pixel_values=pixel_values, output_hidden_states=True)
        embeds = features.pooler_output[0]
        inputs = model.get_input_embeddings()(ids)
        inputs[ids == probe.image_token] = embeds
        output = model(inputs_embeds=inputs, output_attentions=True, use_cache=False)
    attention = torch.cat(output.attentions).transpose(1, 2)
    return Reference(
        image_embeds=embeds.numpy(),
        attention=attention.numpy(),
        logits=output.logits[0, -2:].numpy(),
        eos=stop_tokens(model.generation_config.eos_token_id),
    )


def _load(directory: Path) -> Any:
    from transformers import LlavaForConditionalGeneration

    try:
        loaded: Any = LlavaForConditionalGeneration.from_pretrained(
            directory,
            dtype=torch.float32,
            attn_implementation="eager",
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that the report names them instead of an error that does not
        )
    except Exception as error:  # transformers raises many types for a damaged checkpoint
        raise CheckpointError(
            f"{directory}: transformers cannot load the checkpoint ({reason(error)}); fetch it again"
        ) from error
    model, report = loaded
    _demand_tensors(directory, sorted(report["missing_keys"]), sorted(report["mismatched_keys"]))
    return model.eval()


def _demand_tensors(directory: Path, missing: list[str], mismatched: list[tuple[str, Any, Any]]) -> None:
    if missing:
        raise CheckpointError(
            f"{directory}: {len(missing)} tensors are missing, the first is {missing[0]!r}; "
            "wanted a complete LLaVA checkpoint"
        )
    if mismatched:
        name, got, wanted = mismatched[0]
        raise CheckpointError(
            f"{directory}: tensor {name!r} is {tuple(got)} and config.json makes it {tuple(wanted)}; "
            "the files are not from one checkpoint"
        )
