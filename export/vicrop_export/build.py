"""Builds an engine directory from a checkpoint, in numbered steps.

1 find the checkpoint and refuse early; 2 let transformers compute the truth on a probe; 3 export the graphs;
4 compare; 5 write the manifest last and put the directory in place. Knows the order, not how a step is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vicrop_engine.config import to_json
from vicrop_engine.errors import SettingError
from vicrop_engine.layers import LayerChoice
from vicrop_engine.manifest import EMBEDDINGS, PREPROCESSOR, TOKENIZER, Manifest, hash_file, write_manifest
from vicrop_export.checkpoint import locate, refuse_impossible
from vicrop_export.existing import reusable
from vicrop_export.graphs import export_graphs
from vicrop_export.parity import check_parity
from vicrop_export.plan import Plan, make_plan
from vicrop_export.quiet import quiet
from vicrop_export.reference import run_reference
from vicrop_export.staging import clear_leftovers, demand_space, staged, sync_files
from vicrop_export.tensors import CheckpointTensors

PRECISIONS = ("fp32",)
TARGETS = ("cpu",)
DONE_AT = {"vision": 0.15, "decoder_lower": 0.35, "decoder_upper": 0.6}
Progress = Callable[[str, float], None]


def build_engine(
    checkpoint: Path | str,
    output: Path | str,
    *,
    name: str,
    layers: LayerChoice | None = None,
    precision: str = "fp32",
    target: str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Build `output` from a checkpoint directory or hub id and return its manifest.

    `layers` are the default heatmap layers: 14, "10-20", "all" or a sequence; None scales the published one
    to this depth. `progress` hears what is being done and the share that is behind, 0 to 1. The same engine
    already there is kept; another one is replaced only with `force`, and only once the new one is whole.
    Raises CheckpointError, LayerError, SettingError and EngineDirectoryError before any work, BuildError,
    ParityError and NoSpaceError from it; then nothing is left behind.
    """
    report = progress or (lambda _stage, _share: None)
    _demand_setting("precision", precision, PRECISIONS)
    _demand_setting("target", target, TARGETS)
    refuse_impossible(checkpoint)
    output = Path(output)
    with quiet():
        report("reading the checkpoint", 0.0)
        plan = make_plan(locate(checkpoint), name=name, layers=layers, precision=precision, target=target)
        clear_leftovers(output)
        kept = reusable(output, plan, force=force)
        if kept is not None:
            report("already built", 1.0)
            return kept
        tensors = CheckpointTensors(plan.checkpoint.directory)
        demand_space(output, tensors.num_float32_bytes())
        with staged(output) as partial:
            manifest = _fill(partial, plan, tensors, report)
    report("done", 1.0)
    return manifest


def _fill(directory: Path, plan: Plan, tensors: CheckpointTensors, report: Progress) -> Manifest:
    report("running transformers on a probe", 0.05)
    probe = plan.probe()
    reference = run_reference(plan.checkpoint.directory, probe)
    export_graphs(
        tensors,
        plan.facts,
        plan.decoder.num_lower_layers,
        directory,
        lambda graph: report(f"exporting {graph}", DONE_AT[graph]),
    )
    report("writing embeddings and tokenizer", 0.85)
    np.save(directory / EMBEDDINGS, tensors.get("language_model.embed_tokens.weight").numpy())
    plan.tokenizer.save(str(directory / TOKENIZER))
    settings = json.dumps(to_json(plan.preprocessing), indent=1, sort_keys=True)
    (directory / PREPROCESSOR).write_text(settings + "\n", encoding="utf-8")
    report("comparing with transformers", 0.88)
    parity = check_parity(directory, plan.decoder, probe, reference)
    report("hashing", 0.95)
    files = {path.name: hash_file(path) for path in sorted(directory.iterdir())}
    manifest = plan.manifest(parity, reference.eos, files)
    sync_files(directory)  # all but the manifest, so that little time lies between it and its place
    write_manifest(directory, manifest)
    return manifest


def _demand_setting(kind: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise SettingError(f"{kind} {got!r} cannot be built by this version; wanted {', '.join(known)}")
