"""A whole build: what it measures and writes down, and that graphs which are wrong become no engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from tests.engines import STRETCH_168, Built, built
from tests.export.conftest import SMALL
from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.manifest import GRADIENT, GRAPHS, REQUIRED, read_manifest, verify_files
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.errors import CheckpointError, LayerError, ParityError, SettingError
from vicrop_export import build
from vicrop_export.build import build_engine
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.locate import locate
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checks import agreement, parity
from vicrop_export.checks.parity import check_parity, relative_l2
from vicrop_export.checks.reference import Reference, run_reference
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.families.llava.processor import read_preprocessing
from vicrop_export.onnx_files.exported import ExportedGraph
from vicrop_export.onnx_files.writer import write_graph
from vicrop_export.plan import Plan, make_plan
from vicrop_export.precision.rules import PRECISIONS
from vicrop_export.quiet import quiet

LIMIT = 1e-4


@pytest.fixture(scope="module")
def made() -> Built:
    """The engine of the tests; never change it."""
    return built(STRETCH_168)


@pytest.fixture(scope="module")
def plan(made: Built) -> Plan:
    """What it was built to."""
    with quiet():
        return make_plan(
            locate(made.checkpoint), name="llava-signs", layers=None, precision="fp32", target="cpu"
        )


@pytest.fixture(scope="module")
def reference(plan: Plan) -> Reference:
    """What transformers makes of the probe."""
    with quiet():
        return run_reference(
            CheckpointTensors(plan.checkpoint.directory, plan.family.canonical_name),
            plan.family,
            plan.probe(),
        )


def test_the_figures_are_of_float32_and_not_of_a_thing_with_itself(made: Built) -> None:
    for figures in (made.manifest.parity, made.manifest.float32_parity):
        assert figures is not None
        for figure in (figures.image_embeds, figures.attention, figures.logits):
            assert 0 < figure < LIMIT / 10


def test_the_manifest_is_the_plan_and_the_files(made: Built, plan: Plan) -> None:
    manifest = read_manifest(made.engine)
    assert manifest == made.manifest
    assert manifest.float32_parity is not None
    planned = plan.manifest(manifest.parity, (2,), manifest.files, manifest.float32_parity)
    assert manifest == replace(planned, multiply_adds=manifest.multiply_adds, probe=manifest.probe)
    assert manifest.versions["vicrop-engine"] == version("vicrop-engine")
    assert set(manifest.files) == {path.name for path in made.engine.iterdir()} - {"manifest.json"}
    assert set(REQUIRED) < set(manifest.files)
    verify_files(made.engine, manifest, weights=True)
    last = max(made.engine.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert last.name == "manifest.json"


def test_tables_and_settings_are_the_checkpoint_s(made: Built) -> None:
    table = np.load(made.engine / "token_embeddings.npy")
    stored = CheckpointTensors(made.checkpoint, canonical_name).get("language_model.embed_tokens.weight")
    np.testing.assert_array_equal(table, stored.numpy())
    settings = json.loads((made.engine / "preprocessor.json").read_text())
    side = made.manifest.vision.image_size
    assert parse(Preprocessing, settings, "preprocessor.json") == read_preprocessing(made.checkpoint, side)
    tokenizer = Tokenizer.from_file(str(made.engine / "tokenizer.json"))
    assert tokenizer.token_to_id("<image>") == made.manifest.tokens.image


def spoil_embeds(reference: Reference, change: Callable[[Any], Any]) -> Reference:
    return replace(reference, image_embeds=change(reference.image_embeds))


def spoil_logits(reference: Reference, change: Callable[[Any], Any]) -> Reference:
    return replace(reference, logits=change(reference.logits))


def spoil_attention(reference: Reference, change: Callable[[Any], Any]) -> Reference:
    """Only one layer's rows of one position: the worst layer counts, and every layer is looked at."""
    attention = reference.attention.copy()
    attention[3, -1] = change(attention[3, -1])
    return replace(reference, attention=attention)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [("image embeds", spoil_embeds), ("attention", spoil_attention), ("logits", spoil_logits)],
)
def test_each_figure_is_compared(
    name: str,
    spoil: Callable[[Reference, Callable[[Any], Any]], Reference],
    made: Built,
    plan: Plan,
    reference: Reference,
) -> None:
    def check(other: Reference) -> None:
        check_parity(made.engine, plan.decoder, plan.probe(), other)

    check(spoil(reference, lambda values: values * np.float32(1 + LIMIT / 2)))
    with pytest.raises(
        ParityError, match=rf"graphs' {name} are 1\.\de-03 \(relative L2\) .* at most 1\.0e-04; no"
    ):
        check(spoil(reference, lambda values: values / np.float32(1.001)))
    with pytest.raises(ParityError, match=rf"graphs' {name} are inf"):
        check(spoil(reference, lambda values: values * np.nan))


def test_relative_l2_is_what_it_says() -> None:
    wanted = np.array([3.0, 4.0], np.float32)
    assert relative_l2(np.array([3.0, 4.5], np.float32), wanted) == pytest.approx(0.1)
    assert relative_l2(wanted, wanted) == 0
    for bad in (np.nan, np.inf):
        assert relative_l2(np.array([3.0, bad], np.float32), wanted) == np.inf


class Wrong(DescribedTensors):
    """The checkpoint with one entry of one weight moved."""

    def stored(self, name: str) -> torch.Tensor:
        tensor = super().stored(name)
        if name == "language_model.layers.3.mlp.down_proj.weight":
            tensor = tensor.clone()
            tensor[0, 0] += 0.5
        return tensor


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize("step", ["comparing with transformers", "comparing what was written"])
def test_wrong_graphs_become_no_engine(
    step: str, made: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong before or only once they are files: each comparison finds it, and the old engine stays."""
    output = Path(shutil.copytree(made.engine, tmp_path / "deep" / "engine"))
    before = {path.name: hash_file(path) for path in output.iterdir()}
    wrong = Wrong(made.checkpoint, canonical_name)
    on_checkpoint = ExportedGraph.on_checkpoint
    if step == "comparing with transformers":
        monkeypatch.setattr(ExportedGraph, "on_checkpoint", lambda graph, _: on_checkpoint(graph, wrong))
    else:
        monkeypatch.setattr(
            build, "write_graph", lambda model, names, _, *rest: write_graph(model, names, wrong, *rest)
        )
    stages: list[str] = []
    with pytest.raises(ParityError, match="the exported graphs' logits are") as caught:
        build_engine(
            made.checkpoint,
            output,
            name="llava-signs",
            force=True,
            progress=lambda stage, _: stages.append(stage),
        )
    assert stages[-1] == step
    assert caught.value.exit_code == 1
    assert {path.name: hash_file(path) for path in output.iterdir()} == before
    assert list(output.parent.iterdir()) == [output]


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building may go as far as the graphs."""

    def fail(*_: Any) -> None:
        pytest.fail("no graph was to be exported")

    monkeypatch.setattr(build, "export_described", fail)


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (
            {"precision": "int3"},
            SettingError,
            "precision 'int3' cannot be built by this version; wanted fp32, fp16, int8, int4",
        ),
        ({"target": "rocm"}, SettingError, "target 'rocm' cannot be built by this version; wanted cpu"),
        ({"layers": 4}, LayerError, "count from 0 to 3"),
        ({"layers": "3-1"}, LayerError, "runs backwards"),
        ({"layers": ()}, LayerError, "no layers"),
    ],
)
def test_settings_are_refused_before_any_work(
    settings: dict[str, Any], error: type[Exception], words: str, made: Built, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        build_engine(made.checkpoint, tmp_path / "deep" / "engine", name="x", **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_export")
def test_a_checkpoint_that_transformers_cannot_load_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = SMALL.layers + 1
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="tensors are missing"):
        build_engine(checkpoint, tmp_path / "deep" / "engine", name="x")
    assert list(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_progress_rises_and_ends(
    precision: str, made: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "MOST", 1)  # question is enough here
    told: list[tuple[str, float]] = []
    build_engine(
        made.checkpoint,
        tmp_path / "engine",
        name="llava-signs",
        precision=precision,
        progress=lambda stage, share: told.append((stage, share)),
    )
    shares = [share for _, share in told]
    assert shares == sorted(set(shares))
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    stages = [stage.split(":")[0].split(",")[0] for stage, _ in told]
    assert list(dict.fromkeys(stages)) == [
        "reading the checkpoint",
        "running transformers on a probe",
        *(f"exporting {graph}" for graph in (*GRAPHS, GRADIENT)),
        "comparing with transformers",
        *(f"writing {graph}" for graph in GRAPHS),
        "comparing what was written",
        "hashing",
        "running the probe",
        *([] if precision == "fp32" else ["comparing answers with float32"]),
        "done",
    ]


def test_the_limit_is_the_published_one() -> None:
    assert parity.TOLERANCE == LIMIT
