"""What transformers computes for one image and one prompt: the truth a build is checked against.

Runs transformers' own code in float32 with eager attention, a part at a time, and keeps only the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicrop_engine.arrays import Floats
from vicrop_engine.errors import CheckpointError
from vicrop_engine.model.instructed import IDS
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import stop_tokens
from vicrop_export.checks.streamed_model import streamed_model
from vicrop_export.families.interfaces import ExportFamily
from vicrop_export.probe import Probe
from vicrop_export.quiet import reason


@dataclass(frozen=True)
class Reference:
    """Transformers' numbers: `attention` [layers, positions, heads, len] and `logits` [2, vocab].

    `image_embeds` are [1 + added, tokens, hidden]. `attention` is zero before the first position asked for;
    `logits` are those after the suffix and after the decoded token. `gradient` [layers, heads, len] is
    autograd's at the attention of the suffix's last token, of layers from the one asked for; the loss is
    minus the cross-entropy of its logits with their largest.
    """

    image_embeds: Floats
    attention: Floats
    logits: Floats
    eos: tuple[int, ...]
    gradient: Floats | None = None


def run_reference(
    tensors: CheckpointTensors,
    family: ExportFamily,
    probe: Probe,
    first_position: int = 0,
    gradient_layer: int | None = None,
) -> Reference:
    """Run the checkpoint on the probe, keeping attention from `first_position` on.

    With `gradient_layer` gradients from that layer on as well, for which all weights are held meanwhile.
    Raises CheckpointError when a tensor is missing.
    """
    model = streamed_model(tensors, family)
    ids = torch.tensor([probe.ids])
    is_image, positions = torch.from_numpy(probe.is_image), torch.from_numpy(probe.positions)
    picture = {name: torch.from_numpy(array) for name, array in probe.picture.arrays.items()}
    if probe.picture.instruction is not None:
        picture[IDS] = torch.tensor([probe.picture.instruction])
    attention, looked = _keep_attention(family, model, len(probe.ids), first_position)
    with torch.set_grad_enabled(gradient_layer is not None):
        embeds = family.image_features(model, picture)
        text = model.get_input_embeddings()(ids)
        inputs = torch.cat((text, text.new_zeros(len(embeds) - 1, *text.shape[1:])))
        inputs[:, is_image] = embeds
        inputs.requires_grad_(gradient_layer is not None)
        logits = family.last_logits(model, inputs, is_image, positions)
    gradient = None
    if gradient_layer is not None:
        gradient = _gradient(logits[0], looked[gradient_layer:], len(probe.ids) - 2)
    return Reference(
        image_embeds=embeds.numpy(),
        attention=attention,
        logits=logits.detach().numpy(),
        eos=stop_tokens(_generation(tensors.directory, model).eos_token_id),
        gradient=gradient,
    )


def _gradient(logits: Tensor, looked: list[Tensor], position: int) -> Floats:
    """The loss in float64, for a sure answer's would be rounded away."""
    wide = logits.double()
    loss = torch.log_softmax(wide, dim=-1)[wide.argmax()]
    rows = [gradient[0, :, position] for gradient in torch.autograd.grad(loss, looked)]
    return np.asarray(torch.stack(rows).numpy())


def _keep_attention(family: ExportFamily, model: Any, length: int, first: int) -> tuple[Floats, list[Tensor]]:
    """An array [layers, positions, heads, len] and a list of attention that running the decoder fills in.

    The list is for what gradients are taken of. Positions before `first` are never written to, and so take no
    memory.
    """
    text = family.text
    looked: list[Tensor] = []
    kept = np.zeros((text.num_layers, length, text.num_heads, length), np.float32)

    def keep(part: Any, _inputs: object, outputs: tuple[Any, ...]) -> None:
        kept[part.layer_idx, first:] = outputs[1][0, :, first:].transpose(0, 1).detach().numpy()
        if outputs[1].requires_grad:
            looked.append(outputs[1])

    for layer in family.decoder_layers(model):
        attention: Any = layer.self_attn
        attention.register_forward_hook(keep)
    return kept, looked


def _generation(directory: Path, model: Any) -> Any:
    from transformers import GenerationConfig

    if not (directory / "generation_config.json").is_file():
        return model.generation_config
    try:
        return GenerationConfig.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # transformers raises whatever its validators do
        raise CheckpointError(
            f"{directory / 'generation_config.json'} cannot be read ({reason(error)}); fetch it again"
        ) from error
