"""Operations counted from the graphs, against torch's counter on transformers' model of a checkpoint."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlavaForConditionalGeneration

from tests.checkpoints import CheckpointSpec
from tests.engines import GROUPED_224, MULTI_HEAD_336, ONE_KV_HEAD_336, STRETCH_168, Built, built
from vicrop_engine.engine_dir.flops import LOWER, UPPER, VISION, num_flops
from vicrop_engine.errors import BuildError
from vicrop_export.onnx_files.exported import ExportedGraph
from vicrop_export.onnx_files.flops import count_products

SPECS = (STRETCH_168, GROUPED_224, ONE_KV_HEAD_336, MULTI_HEAD_336)
NEW, PAST = 37, 53
# What transformers calls it: `cache` from 5.24 on.
TAKEN = inspect.signature(LlavaForConditionalGeneration.forward).parameters
CACHE = "cache" if "cache" in TAKEN else "past_key_values"
Count = Callable[..., int]


@dataclass(frozen=True)
class Counted:
    """An engine, and transformers' model of its checkpoint."""

    engine: Built
    model: Any

    def ours(self, graph: str, **axes: int) -> int:
        """By the manifest."""
        assert self.engine.manifest.multiply_adds is not None
        return num_flops(self.engine.manifest.multiply_adds[graph], axes)

    def decoder(self, **axes: int) -> int:
        """By the manifest, of a pass through lower and upper layers that reads no rows."""
        axes = {"rows": 0, "capacity": 2 * axes["total"], **axes}
        return self.ours(LOWER, **axes) + self.ours(UPPER, **axes)


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: f"{spec.image_size}px")
def counted(request: pytest.FixtureRequest) -> Counted:
    spec: CheckpointSpec = request.param
    engine = built(spec)
    model = LlavaForConditionalGeneration.from_pretrained(engine.checkpoint, attn_implementation="eager")
    return Counted(engine, model)


def test_vision(counted: Counted) -> None:
    side = counted.engine.manifest.vision.image_size
    flops, by_module = torch_flops(
        lambda: counted.model.model.get_image_features(torch.zeros(2, 3, side, side))
    )
    idle = layers_above_features(counted.model.config)
    flops -= sum(count for name, count in by_module.items() if name.endswith(idle))
    assert counted.ours(VISION, images=2) == pytest.approx(flops, rel=0.02)


def test_prefill(counted: Counted) -> None:
    """But for what the engine leaves out: the last layer beyond attention, for all tokens but the last."""
    ids = torch.full((1, NEW), 5)
    flops, by_module = torch_flops(lambda: counted.model(input_ids=ids, logits_to_keep=1))
    last = f"layers.{counted.model.config.text_config.num_hidden_layers - 1}"
    beyond = [f"language_model.{last}.{part}" for part in ("self_attn.o_proj", "mlp")]
    left_out = [count for name, count in by_module.items() if name.endswith(tuple(beyond))]
    assert len(left_out) == 2
    flops -= sum(left_out) * (NEW - 1) // NEW
    assert counted.decoder(seq=NEW, total=NEW) == pytest.approx(flops, rel=0.02)


def test_decode(counted: Counted) -> None:
    with torch.no_grad():
        cache = counted.model(input_ids=torch.full((1, PAST), 5), use_cache=True).past_key_values
    flops, _ = torch_flops(lambda: counted.model(input_ids=torch.full((1, 1), 5), **{CACHE: cache}))
    assert counted.decoder(seq=1, total=PAST + 1) == pytest.approx(flops, rel=0.02)


def test_rows_cost_what_their_tokens_scores_do(counted: Counted) -> None:
    """Every layer's heads by head size, for each tapped row and each row of the buffer."""
    decoder = counted.engine.manifest.decoder
    sizes = {"seq": 9, "total": 20, "capacity": 64}
    read = counted.decoder(rows=3, **sizes) - counted.decoder(rows=0, **sizes)
    assert read == 2 * 3 * 64 * decoder.num_layers * decoder.num_heads * decoder.head_dim


def test_gradients_are_counted_too() -> None:
    """There and back through all layers above the picture's tokens, twice a token's own way at least."""
    manifest = built(ONE_KV_HEAD_336).manifest
    assert manifest.multiply_adds is not None
    assert set(manifest.multiply_adds) == {
        "vision",
        "decoder_lower",
        "decoder_upper",
        "grad_att",
        "pure_grad",
    }
    terms = manifest.multiply_adds["pure_grad"]
    one, two = (num_flops(terms, {"total": 600, "losses": losses}) for losses in (1, 2))
    forward = num_flops(manifest.multiply_adds[LOWER], {"seq": 600, "total": 600, "rows": 0, "capacity": 600})
    assert one > 2 * forward
    assert one < two < 2 * one


def test_a_product_that_is_not_known_is_refused() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    node = helper.make_node("Gemm", ["x", "x", "x"], ["y"])
    model = helper.make_model(helper.make_graph([node], "graph", values[:1], values[1:]))
    with pytest.raises(BuildError, match="a Gemm, which is not counted"):
        count_products(ExportedGraph("graph", model), image_tokens=4)


def test_an_axis_that_is_not_named_is_a_mistake() -> None:
    assert num_flops({"": 5, "seq*total": 3}, {"seq": 2, "total": 4}) == 2 * (5 + 3 * 2 * 4)
    with pytest.raises(KeyError):
        num_flops({"rows": 1}, {"seq": 2})


def torch_flops(call: Callable[[], object]) -> tuple[int, dict[str, int]]:
    """All operations of a call, and those of every module by its name."""
    with torch.no_grad(), FlopCounterMode(display=False, depth=12) as counter:
        call()
    modules = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    return counter.get_total_flops(), modules


def layers_above_features(config: Any) -> tuple[str, ...]:
    """Endings of the names of the tower's layers that nothing is read from."""
    layers, chosen = config.vision_config.num_hidden_layers, config.vision_feature_layer
    indices = [chosen] if isinstance(chosen, int) else chosen
    highest = max(index if index >= 0 else layers + 1 + index for index in indices)
    return tuple(f"encoder.layers.{index}" for index in range(highest, layers)) or ("none",)
