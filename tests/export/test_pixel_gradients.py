"""The graph to the pixels: automatic differentiation's numbers for every kind of tower, no new weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from tests.checkpoints import CheckpointSpec, write_checkpoint
from tests.engines import GROUPED_224, built
from vicrop_engine.engine_dir.manifest import PIXEL_GRADIENTS
from vicrop_engine.model.packing import PackedPrompt
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checks.parity import open_whole, relative_l2
from vicrop_export.families.llava.facts import read_facts
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.families.llava.pixel_gradient import PixelGradients
from vicrop_export.ops.layers import ACTIVATIONS, DERIVATIVES

SUFFIXES = ([20, 30, 40, 50, 60, 61], [99, 98], [33, 34, 35, 97])
SPECS = {
    "class token kept, three feature layers, one twice": CheckpointSpec(
        seed=21, image_size=70, layers=2, feature_layer=(-1, 1, 1, 0), strategy="full", kv_heads=1
    ),
    "tied embeddings, biases, pixels beyond the last patch": CheckpointSpec(
        seed=22, image_size=75, layers=2, kv_heads=2, biases=True, tie_word_embeddings=True
    ),
}


def feeds(checkpoint: Path) -> dict[str, torch.Tensor]:
    """A picture of noise and all prompts, which share begin token and picture."""
    facts, tensors = read_facts(checkpoint), CheckpointTensors(checkpoint, canonical_name)
    side = facts.vision.image_size
    table = tensors.get("language_model.embed_tokens.weight")
    block = PackedPrompt(0, 1 + facts.vision.image_tokens, tuple(map(len, SUFFIXES)))
    return {
        "pixel_values": torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(3)),
        "embeds_before": table[[1]][None],
        "embeds_after": table[[token for suffix in SUFFIXES for token in suffix]][None],
        "position_ids": torch.from_numpy(block.position_ids),
        "attention_bias": torch.from_numpy(block.bias()),
        "ends": torch.from_numpy(block.ends),
    }


def truth(checkpoint: Path) -> npt.NDArray[np.float32]:
    """Transformers and torch's automatic differentiation in float64, each prompt by itself."""
    model = LlavaForConditionalGeneration.from_pretrained(
        checkpoint, dtype=torch.float64, attn_implementation="eager"
    )
    facts = read_facts(checkpoint)
    gradients = []
    for suffix in SUFFIXES:
        pixels = feeds(checkpoint)["pixel_values"].double().requires_grad_(True)
        ids = torch.tensor([[1, *[facts.image_token] * facts.vision.image_tokens, *suffix]])
        likeliest = torch.log_softmax(model(input_ids=ids, pixel_values=pixels).logits[0, -1], 0).max()
        gradients.append(torch.autograd.grad(likeliest, pixels)[0][0].numpy())
    return np.stack(gradients)


@pytest.mark.parametrize("kind", SPECS)
def test_the_module_is_automatic_differentiation(kind: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", SPECS[kind])
    with torch.no_grad():
        module = PixelGradients(CheckpointTensors(checkpoint, canonical_name), read_facts(checkpoint))
        got = module(*feeds(checkpoint).values()).numpy()
    wanted = truth(checkpoint)
    for one, other in zip(got, wanted, strict=True):
        assert relative_l2(one, other[:, :70, :70]) < 2e-5
    assert not wanted[:, :, 70:].any()


def test_the_graph_is_automatic_differentiation_for_any_number_of_prompts() -> None:
    made = built(GROUPED_224)
    graph = open_whole(made.engine / f"{PIXEL_GRADIENTS}.onnx")
    assert [value.name for value in graph.get_inputs()] == list(feeds(made.checkpoint))
    values = {name: value.numpy() for name, value in feeds(made.checkpoint).items()}
    (together,) = graph.run(None, values)
    for one, other in zip(together, truth(made.checkpoint), strict=True):
        assert relative_l2(one, other) < 2e-5
    for index in range(3):
        (alone,) = graph.run(None, values | {"ends": values["ends"][index : index + 1]})
        assert relative_l2(alone[0], together[index]) < 1e-5


def test_the_graph_refers_to_the_weights_of_the_others() -> None:
    """Not one weight of its own: all but small constants are where another graph's are."""
    engine = built(GROUPED_224).engine
    assert not (engine / f"{PIXEL_GRADIENTS}.onnx.data").exists()
    places: dict[str, set[tuple[str, str]]] = {}
    for path in engine.glob("*.onnx"):
        weights = onnx.load(path, load_external_data=False).graph.initializer
        external = [{entry.key: entry.value for entry in weight.external_data} for weight in weights]
        places[path.stem] = {(entry["location"], entry["offset"]) for entry in external if entry}
        if path.stem == PIXEL_GRADIENTS:
            assert all(len(weight.raw_data) < 1024 for weight in weights)
    own = places.pop(PIXEL_GRADIENTS)
    assert own == set.union(*places.values())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_the_activations(name: str) -> None:
    x = torch.linspace(-6, 6, 401, dtype=torch.float64).requires_grad_(True)
    (wanted,) = torch.autograd.grad(ACTIVATIONS[name](x).sum(), x)
    torch.testing.assert_close(DERIVATIVES[name](x.detach()), wanted, rtol=1e-9, atol=1e-12)
