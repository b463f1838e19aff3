"""The ONNX graphs: names and axes the runtime relies on, and the torch modules' numbers at every length."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from tests.engines import STRETCH_168, built
from tests.export.conftest import exported
from vicrop_engine.engine_dir.manifest import GRAPHS
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checks.parity import open_whole, relative_l2
from vicrop_export.families.llava.facts import LlavaFacts, read_facts
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.families.llava.vision import VisionTower
from vicrop_export.modules.decoder import LanguageHead, LowerDecoder, UpperDecoder, causal_bias
from vicrop_export.modules.interfaces import head_interface
from vicrop_export.onnx_files.export import OPSET
from vicrop_export.onnx_files.exported import export_described
from vicrop_export.onnx_files.writer import write_graph
from vicrop_export.precision.layouts import Whole
from vicrop_export.quiet import quiet

Arrays = dict[str, npt.NDArray[Any]]
# The same float32 sums in another order move these figures by up to 2e-6.
TOLERANCE = 1e-5
LENGTHS = {"seq", "past", "total", "capacity"}
SPARE = 5  # rows of a buffer beyond those in use
FLAVOURS = ("in place", "standard")
FUSED = {"GroupQueryAttention", "RotaryEmbedding", "FusedMatMul"}
CUTS = {"decoder_lower": (0, 2), "decoder_upper": (2, 4)}
# Tokens in the cache, new tokens, and the positions whose attention is read.
PASSES: dict[str, tuple[int, int, list[int]]] = {
    "one token, nothing else": (0, 1, []),
    "one token, read": (0, 1, [0]),
    "a prefix, nothing read": (0, 23, []),
    "a prompt, its last token": (0, 23, [22]),
    "a prompt, every token": (0, 9, list(range(9))),
    "a decoded token": (31, 1, [0]),
    "a decoded token, nothing read": (31, 1, []),
    "a question after a prefix": (31, 12, [11]),
    "rows out of order and twice": (3, 12, [11, 0, 5, 5]),
}


@cache
def tensors() -> CheckpointTensors:
    return CheckpointTensors(built(STRETCH_168).checkpoint, canonical_name)


@cache
def facts() -> LlavaFacts:
    return read_facts(built(STRETCH_168).checkpoint)


@cache
def modules(flavour: str) -> dict[str, torch.nn.Module]:
    """The torch modules the graphs were made from."""
    in_place = flavour == "in place"
    return {
        "vision": VisionTower(tensors(), facts().vision),
        "decoder_lower": LowerDecoder(tensors(), facts().text, 2, in_place=in_place),
        "decoder_upper": UpperDecoder(tensors(), facts().text, 2, in_place=in_place),
    }


def whole(_source: str) -> Whole:
    return Whole()


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vicrop-graphs-")


@cache
def directory(flavour: str) -> Path:
    """The engine, or the same graphs as a target gets them whose buffers are not written in place."""
    if flavour == "in place":
        return built(STRETCH_168).engine
    for name, graph in exported(in_place=False).items():
        path = Path(_folder().name) / f"{name}.onnx"
        write_graph(graph.model(), graph.described, tensors(), whole, path, lambda *_: None)
    return Path(_folder().name)


@cache
def session(name: str, flavour: str) -> Any:
    return open_whole(directory(flavour) / f"{name}.onnx")


def axes_of(values: Sequence[Any]) -> dict[str, list[int | str]]:
    return {value.name: value.shape for value in values}


def noise(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def key_values(stem: str, layers: Sequence[int]) -> list[str]:
    return [f"{stem}.{layer}.{part}" for layer in layers for part in ("key", "value")]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", CUTS)
def test_names_and_axes_of_the_decoders(name: str, flavour: str) -> None:
    decoder = built(STRETCH_168).manifest.decoder
    assert (decoder.num_lower_layers, decoder.num_layers) == (2, 4)
    layers = range(*CUTS[name])
    lower = name == "decoder_lower"
    heads, dim = decoder.num_kv_heads, decoder.head_dim
    bias: list[int | str] = [1, 1, "seq", "total"]
    cached: list[int | str] = [1, "past", heads, dim]
    grown: list[int | str] = [1, "seq", heads, dim]
    if flavour == "in place":
        cached = grown = ["batch", heads, "capacity", dim]
        bias = ["batch", 1, "queries", "total"]
    hidden: list[int | str] = [1, "seq", decoder.hidden_size]
    answers = "answers" if flavour == "in place" else 1
    graph = session(name, flavour)
    assert axes_of(graph.get_inputs()) == {
        "inputs_embeds" if lower else "hidden_states": hidden,
        "position_ids": [1, "seq"],
        "tap_positions": ["rows"],
        "attention_bias": bias,
        **({} if lower else {"answer_position": [answers]}),
        **dict.fromkeys(key_values("past_key_values", layers), cached),
    }
    assert axes_of(graph.get_outputs()) == {
        **({"hidden_states": hidden} if lower else {"logits": [answers, decoder.vocab_size]}),
        "attention": [len(layers), "rows", decoder.num_heads, "total"],
        **({"tapped_states": [1, "rows", decoder.hidden_size]} if lower else {}),
        **dict.fromkeys(key_values("present", layers), grown),
    }
    kinds = {value.name: value.type for value in graph.get_inputs()}
    whole = {"position_ids", "tap_positions"} | (set() if lower else {"answer_position"})
    assert {kinds.pop(value) for value in whole} == {"tensor(int64)"}
    assert set(kinds.values()) == {"tensor(float)"}


def test_names_and_axes_of_the_tower() -> None:
    vision, decoder = built(STRETCH_168).manifest.vision, built(STRETCH_168).manifest.decoder
    side, graph = vision.image_size, session("vision", "in place")
    assert axes_of(graph.get_inputs()) == {"pixel_values": ["images", 3, side, side]}
    assert axes_of(graph.get_outputs()) == {
        "image_embeds": ["images", vision.image_tokens, decoder.hidden_size]
    }


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", GRAPHS)
def test_no_output_is_quadratic_in_a_length(name: str, flavour: str) -> None:
    """Attention leaves a graph only in the rows that were asked for."""
    for output, shape in axes_of(session(name, flavour).get_outputs()).items():
        assert len(LENGTHS & set(shape)) <= 1, output
    if name in CUTS:
        past, new = 6, 11
        lengths = (past, new, past + new, past + new + SPARE)
        arrays, _ = feeds(name, flavour, past, new, [10])
        for output, value in run(name, flavour, arrays).items():
            assert sum(size in lengths for size in value.shape) <= 1, output


def feeds(name: str, flavour: str, past: int, new: int, taps: list[int]) -> tuple[Arrays, tuple[Any, ...]]:
    """The same random inputs for the graph and for the module; in buffers what lies beyond is far off."""
    text, layers = facts().text, range(*CUTS[name])
    in_place = flavour == "in place"
    heads, dim = text.num_kv_heads, text.head_dim
    shape = (heads, past + new + SPARE, dim) if in_place else (past, heads, dim)
    # Noise is seeded by its shape: a size more for each, to have no two alike.
    cached = [noise(2 + index, *shape)[:1] for index in range(2 * len(layers))]
    for buffer in cached if in_place else ():
        buffer[:, :, past:] = 1e6
    arrays: Arrays = {
        "inputs_embeds" if name == "decoder_lower" else "hidden_states": noise(1, new, text.hidden_size),
        "position_ids": np.arange(past, past + new)[None],
        "tap_positions": np.array(taps, np.int64),
        "attention_bias": causal_bias(new, past).numpy(),
        **({} if name == "decoder_lower" else {"answer_position": np.array([new - 1])}),
    }
    arguments = [torch.from_numpy(value) for value in arrays.values()]
    pasts = iter(torch.from_numpy(value.copy()) for value in cached)
    pairs = list(zip(pasts, pasts, strict=True))
    arrays |= dict(zip(key_values("past_key_values", layers), cached, strict=True))
    return arrays, (*arguments, pairs)


def run(name: str, flavour: str, arrays: Arrays) -> Arrays:
    graph = session(name, flavour)
    names = [value.name for value in graph.get_outputs()]
    return dict(zip(names, graph.run(names, arrays), strict=True))


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("case", PASSES)
@pytest.mark.parametrize("name", CUTS)
def test_decoders_agree_with_the_modules_at_every_length(name: str, case: str, flavour: str) -> None:
    past, new, taps = PASSES[case]
    arrays, arguments = feeds(name, flavour, past, new, taps)
    got = run(name, flavour, arrays)
    wanted = dict(zip(got, modules(flavour)[name](*arguments), strict=True))
    for output, value in got.items():
        truth = wanted[output].numpy()
        assert value.shape == truth.shape, output
        if output.startswith("present.") and flavour == "in place":
            value, truth = value[:, :, : past + new], truth[:, :, : past + new]
        if value.size:
            assert relative_l2(value, truth) < TOLERANCE, output
    attention = got["attention"]
    assert attention.shape == (2, len(taps), facts().text.num_heads, past + new)
    np.testing.assert_allclose(attention.sum(axis=-1), 1.0, rtol=1e-5)
    for row, tap in enumerate(taps):
        assert (attention[:, row, :, : past + tap + 1] > 0).all()
        assert (attention[:, row, :, past + tap + 1 :] == 0).all()


@pytest.mark.parametrize("answer", [0, 3, 11])
def test_logits_are_those_of_the_token_asked_for(answer: int) -> None:
    """Any token of a pass may be the one that is answered from."""
    arrays, arguments = feeds("decoder_upper", "in place", 6, 12, [])
    arrays["answer_position"] = np.array([answer])
    arguments[4][0] = answer
    wanted = modules("in place")["decoder_upper"](*arguments)[0].numpy()
    assert relative_l2(run("decoder_upper", "in place", arrays)["logits"], wanted) < TOLERANCE


def test_the_cache_out_begins_with_the_cache_in() -> None:
    arrays, _ = feeds("decoder_lower", "in place", 7, 5, [])
    got = run("decoder_lower", "in place", arrays)
    for name, value in arrays.items():
        if name.startswith("past_key_values."):
            grown = got[name.replace("past_key_values", "present")]
            np.testing.assert_array_equal(grown[:, :, :7], value[:, :, :7])
            assert grown.shape[2] == 12 + SPARE


@pytest.mark.parametrize("num_images", [1, 2, 3])
def test_the_tower_agrees_with_the_module_for_any_number_of_images(num_images: int) -> None:
    side = facts().vision.image_size
    pixels = noise(num_images, 3, side, side)
    (got,) = session("vision", "in place").run(None, {"pixel_values": pixels})
    wanted = modules("in place")["vision"](torch.from_numpy(pixels)).numpy()
    assert got.shape == wanted.shape
    for one, other in zip(got, wanted, strict=True):
        assert relative_l2(one, other) < TOLERANCE


def test_a_head_without_layers(tmp_path: Path) -> None:
    """What the upper graph is when the highest layer is a heatmap layer."""
    text, path = facts().text, tmp_path / "decoder_upper.onnx"
    described = LanguageHead(DescribedTensors(built(STRETCH_168).checkpoint, canonical_name), text)
    with quiet():
        made = export_described("decoder_upper", described, head_interface(text))
    write_graph(made.model(), made.described, tensors(), whole, path, lambda *_: None)
    graph, head = open_whole(path), LanguageHead(tensors(), text)
    assert axes_of(graph.get_inputs()) == {
        "hidden_states": [1, "seq", text.hidden_size],
        "answer_position": ["answers"],
    }
    assert axes_of(graph.get_outputs()) == {"logits": ["answers", text.vocab_size]}
    for length, answer in ((1, 0), (2, 1), (17, 16), (17, 4)):
        states = noise(1, length, text.hidden_size)
        (got,) = graph.run(None, {"hidden_states": states, "answer_position": np.array([answer])})
        wanted = head(torch.from_numpy(states), torch.tensor([answer])).numpy()
        assert relative_l2(got, wanted) < TOLERANCE


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_standard_operators_of_one_opset_but_for_the_fused_ones(name: str, flavour: str) -> None:
    """Only decoders that write in place have others, and only these."""
    path = directory(flavour) / f"{name}.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path, load_external_data=False)
    fused = name in CUTS and flavour == "in place"
    assert {entry.domain: entry.version for entry in model.opset_import} == {
        "": OPSET,
        **({"com.microsoft": 1} if fused else {}),
    }
    nodes = [*model.graph.node, *under_conditions(model.graph)]
    own = {node.op_type for node in nodes if node.domain == "com.microsoft"}
    assert own == (FUSED if fused else set())
    assert {node.domain for node in nodes} <= {"", "com.microsoft"}
    assert not model.functions


@pytest.mark.parametrize("name", CUTS)
def test_rows_that_nobody_reads_are_not_computed(name: str) -> None:
    """All that multiplies or normalizes for the rows alone is under the one condition."""
    graph = onnx.load(directory("in place") / f"{name}.onnx", load_external_data=False).graph
    conditions = [node for node in graph.node if node.op_type == "If"]
    assert [list(node.output) for node in conditions] == [["attention"]]
    inside = [node.op_type for node in under_conditions(graph)]
    layers = len(range(*CUTS[name]))
    assert inside.count("FusedMatMul") == inside.count("Softmax") == layers
    assert not {node.op_type for node in graph.node} & {"FusedMatMul", "Softmax"}


def under_conditions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    branches = [part.g for node in graph.node if node.op_type == "If" for part in node.attribute]
    return [node for branch in branches for node in branch.node]


def test_each_weight_is_stored_once() -> None:
    """No transposed or second copy: the files are as large as the tensors they were made from."""
    needed: dict[str, Callable[[str], bool]] = {
        "vision": lambda name: name.startswith(("vision_tower.", "multi_modal_projector.")),
        "decoder_lower": lambda name: name.startswith(tuple(f"language_model.layers.{i}." for i in (0, 1))),
        "decoder_upper": lambda name: name.startswith(
            ("language_model.layers.2.", "language_model.layers.3.", "language_model.norm.", "lm_head.")
        ),
    }
    for graph, belongs in needed.items():
        wanted = sum(4 * tensors().get(name).numel() for name in tensors().names() if belongs(name))
        model = onnx.load(built(STRETCH_168).engine / f"{graph}.onnx", load_external_data=True)
        stored = sum(onnx.numpy_helper.to_array(value).nbytes for value in model.graph.initializer)
        assert abs(stored - wanted) < 1000, graph


def test_files_hold_no_traces_of_the_machine() -> None:
    texts = [path for path in built(STRETCH_168).engine.iterdir() if path.suffix in (".onnx", ".json")]
    assert len(texts) == 7
    for path in texts:
        content = path.read_bytes()
        for trace in (b"site-packages", b"vicrop_export", b".py", b"/tmp/", bytes(Path.home() / "x")[:-1]):
            assert trace not in content, (path.name, trace)
