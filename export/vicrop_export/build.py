"""Builds an engine directory from a checkpoint, in numbered steps.

1 find the checkpoint, refuse early, and fetch weights that are not here; 2 let transformers compute the
truth on a probe; 3 export each graph with its weights described; 4 compare in float32; 5 write the graphs,
their weights one at a time in the precision asked for, and compare again; 6 write the manifest last and put
the directory in place. Knows the order, not how a step is done.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.layer_choice import LayerChoice
from vicrop_engine.engine_dir.manifest import (
    CPU,
    CUDA,
    EMBEDDINGS,
    EXTRA_ROWS,
    GRADIENT,
    INSTRUCTED_GRADIENT,
    PIXEL_GRADIENTS,
    PREFILL,
    PREPROCESSOR,
    WIDE,
    Manifest,
    write_manifest,
)
from vicrop_engine.engine_dir.parsing import to_json
from vicrop_engine.engine_dir.records import LayerSource
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.generation import warnings_of
from vicrop_export.checkpoint.locate import fetch_weights, locate, refuse_impossible
from vicrop_export.checks.against_transformers import check_exported, check_written
from vicrop_export.checks.agreement import measure_agreement
from vicrop_export.checks.probed import with_probe
from vicrop_export.checks.products import check_products
from vicrop_export.checks.reference import run_reference
from vicrop_export.existing import reusable
from vicrop_export.modules.interfaces import pixel_interface
from vicrop_export.onnx_files.device_graphs import write_device_graphs
from vicrop_export.onnx_files.exported import ExportedGraph, export_described
from vicrop_export.onnx_files.flops import count_products
from vicrop_export.onnx_files.fused_nodes import finish_for_steps
from vicrop_export.onnx_files.half import to_half_graph
from vicrop_export.onnx_files.idle_rows import skip_idle_rows
from vicrop_export.onnx_files.writer import StoredTensors, write_graph, write_referring_graph, write_twin
from vicrop_export.plan import Plan, make_plan
from vicrop_export.precision.layouts import Layout, to_half
from vicrop_export.progress import FetchProgress, WeightProgress
from vicrop_export.quiet import quiet
from vicrop_export.staging import LAST, clear_leftovers, demand_space, scratch, staged
from vicrop_export.targets import (
    LARGEST_COMPARED,
    check_target,
    compiler_for,
    demand_buildable,
    fitted_precision,
    float32_twin,
    has_gradients,
    is_half,
    modules_of,
    num_build_bytes,
    num_weight_bytes,
    opset_of,
    twins_of,
)
from vicrop_export.trt.lengths import demand_aligned, plan_lengths

logger = logging.getLogger("vicrop_engine.build")

FETCHED = 0.5  # the share of a build that fetching its weights takes, where it does
EMBEDDINGS_SOURCE = "language_model.embed_tokens.weight"
Progress = Callable[[str, float], None]


def build_engine(
    checkpoint: Path | str,
    output: Path | str,
    *,
    name: str,
    layers: LayerChoice | None = None,
    precision: str = "fp32",
    target: str = "cpu",
    pure_grad: bool = False,
    max_pixels: int | None = None,
    architectures: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
    layer_source: LayerSource = "chosen at build",
) -> Manifest:
    """Build `output` from a checkpoint directory or hub id and return its manifest.

    `layers` are the default heatmap layers: 14, "10-20", "all" or a sequence; None is the family's own for
    this depth; `layer_source` says where those given are from. `pure_grad` adds the graph of that method.
    `max_pixels` bounds pictures that are seen in their own size. `architectures` are what target "tensorrt"
    is compiled for: sm_86 and the like, or this machine's GPU. `progress` hears what is being done and the
    share that is behind, 0 to 1. The same engine already there is kept; another one is replaced only with
    `force`, and only once the new one is whole.
    Raises CheckpointError, LayerError, SettingError and EngineDirectoryError before any work, BuildError,
    ParityError and NoSpaceError from it; then nothing is left behind.
    """
    report = progress or (lambda _stage, _share: None)
    check_target(target, precision, pure_grad=pure_grad)
    compiler = compiler_for(target, precision, architectures)
    refuse_impossible(checkpoint)
    with quiet():
        report("reading the checkpoint", 0.0)
        plan = make_plan(
            locate(checkpoint),
            name=name,
            layers=layers,
            precision=precision,
            target=target,
            max_pixels=max_pixels,
            layer_source=layer_source,
        )
        plan = replace(plan, pure_grad=pure_grad, compiler=compiler)
        demand_buildable(plan)
        if compiler is not None:
            demand_aligned(plan.decoder, 2 if plan.half else 4)
        return _kept_or_built(Path(output), plan, force, report)


def _kept_or_built(output: Path, plan: Plan, force: bool, report: Progress) -> Manifest:
    clear_leftovers(output)
    kept = reusable(output, plan, force=force)
    if kept is not None:
        report("already built", 1.0)
        return kept
    fetching = FetchProgress(report, FETCHED)
    fetch_weights(plan.checkpoint, fetching)
    rest = fetching.rest()
    tensors = DescribedTensors(plan.checkpoint.directory, plan.family.canonical_name)
    demand_space(output, num_build_bytes(tensors, plan))
    with staged(output) as partial:
        manifest = _fill(partial, plan, tensors, rest)
    rest("done", 1.0)
    return manifest


def _fill(directory: Path, plan: Plan, tensors: DescribedTensors, report: Progress) -> Manifest:
    report("running transformers on a probe", 0.05)
    probe = plan.probe()
    small = num_weight_bytes(tensors, replace(plan, precision="fp32")) <= LARGEST_COMPARED
    run = partial(
        run_reference,
        tensors,
        plan.family,
        first_position=len(probe.prefix),
        gradient_layer=min(plan.layers) if small and has_gradients(plan.target) else None,
    )
    reference = run(probe)
    exported = in_float32 = _export(replace(plan, precision="fp32"), tensors, report)
    _write_embeddings(directory, tensors, np.float32)
    report("comparing with transformers", 0.5)
    float32, limits = check_exported(in_float32, directory, plan, tensors, probe, reference, run)
    if plan.half:
        exported = _export(plan, tensors, lambda _stage, _share: None)
    stored = write_graphs(directory, plan, exported, tensors, report)
    report("comparing what was written", 0.86)
    parity = check_written(directory, plan, probe, reference, limits)
    if plan.compiler is not None:
        share = partial(_part, report, 0.87, 0.9)
        plan.compiler.compile_all(
            directory, plan_lengths(plan.vision, plan.decoder, plan.family.picture_axes), share
        )
    report("hashing", 0.9)
    files = {path.name: hash_file(path) for path in sorted(directory.iterdir())}
    ends = plan.end_tokens(reference.eos)
    for sentence in warnings_of(plan.checkpoint.directory, ends):
        logger.warning("%s", sentence)
    manifest = plan.manifest(parity, ends, files, float32)
    if plan.target == CPU:  # other targets' graphs have operators whose products are not counted yet
        manifest = _checked_products(directory, plan, manifest, exported, stored, tensors)
        report("running the probe", 0.91)
        manifest = with_probe(directory, manifest, plan.probe_input(manifest), large=not small)
    manifest = _compared(directory, plan, manifest, in_float32, tensors, report)
    write_manifest(directory, manifest, LAST)
    return manifest


def _checked_products(
    directory: Path,
    plan: Plan,
    manifest: Manifest,
    exported: list[ExportedGraph],
    stored: StoredTensors,
    tensors: DescribedTensors,
) -> Manifest:
    """The manifest with the products counted and their twins, each held against plain rounding."""
    counted = {graph.name: count_products(graph, plan.vision.image_tokens) for graph in exported}
    twins = twins_of(tensors, plan, exported) or None
    manifest = replace(manifest, multiply_adds=counted, twins=twins)
    precision, num_lower_layers = fitted_precision(tensors, plan), plan.decoder.num_lower_layers
    layout_of = partial(precision.layout, num_lower_layers=num_lower_layers)
    check_products(directory, manifest, plan.probe_input(manifest), exported, stored, layout_of)
    return manifest


def _compared(
    directory: Path,
    plan: Plan,
    manifest: Manifest,
    in_float32: list[ExportedGraph],
    tensors: DescribedTensors,
    report: Progress,
) -> Manifest:
    """The manifest with how far answers are from float32's, where the engine is in a lower precision."""
    twin = float32_twin(tensors, plan)
    if twin is None:
        return manifest
    report("comparing answers with float32", 0.92)
    with scratch(directory) as beside:
        write_graphs(beside, twin, in_float32, tensors, lambda _stage, _share: None)
        held = {name: entry for name, entry in manifest.files.items() if (beside / name).is_file()}
        full = replace(manifest, precision="fp32", files=held)
        return replace(manifest, agreement=measure_agreement((directory, manifest), (beside, full)))


def _export(plan: Plan, tensors: DescribedTensors, report: Progress) -> list[ExportedGraph]:
    exported = []
    for index, graph in enumerate(modules_of(plan, tensors)):
        report(f"exporting {graph[0]}", 0.2 + 0.07 * index)
        exported.append(export_described(*graph))
    if plan.pure_grad:
        report(f"exporting {PIXEL_GRADIENTS}", 0.45)
        module = plan.family.pixel_gradients(tensors)
        interface = pixel_interface(plan.family.text, plan.vision)
        exported.append(export_described(PIXEL_GRADIENTS, module, interface))
    return exported


def write_graphs(
    directory: Path, plan: Plan, exported: list[ExportedGraph], tensors: DescribedTensors, report: Progress
) -> StoredTensors:
    """Write everything but the manifest: graphs with their weights, token table, tokenizer and settings.

    Says where the weights are.
    """
    precision, opset = fitted_precision(tensors, plan), opset_of(plan)
    progress = WeightProgress(report, num_weight_bytes(tensors, plan), 0.6, 0.85)

    def layout_of(source: str) -> Layout:
        return precision.layout(source, plan.decoder.num_lower_layers)

    stored, twins = StoredTensors(), twins_of(tensors, plan, exported)
    for graph in exported:
        progress.enter(graph.name)
        path = directory / f"{graph.name}.onnx"
        model = graph.model()
        if is_half(plan):
            to_half_graph(model)
        source = model, graph.described, tensors, layout_of, path
        if graph.name in (GRADIENT, INSTRUCTED_GRADIENT, PIXEL_GRADIENTS):
            write_referring_graph(*source, stored, whole_prompts=graph.name != GRADIENT)
        else:
            finish = _finish(plan, f"{graph.name}{PREFILL}" in twins)
            stored.add(write_graph(*source, progress.add, opset, finish))
        for twin in (graph.name + kind for kind in (PREFILL, WIDE)):
            if twin in twins:
                path = directory / f"{twin}.onnx"
                write_twin(graph.model(), graph.described, tensors, layout_of, path, stored, skip_idle_rows)
    if plan.target == CUDA:
        write_device_graphs(directory, half=is_half(plan), sliced=plan.decoder.added_embeds > 0)
    _write_embeddings(directory, tensors, precision.embeddings)
    if rows := plan.family.extra_rows:
        np.save(directory / EXTRA_ROWS, np.stack([tensors.get(name).numpy() for name in rows]))
    plan.save_tokenizers(directory)
    settings = json.dumps(to_json(plan.preprocessing), indent=1, sort_keys=True)
    (directory / PREPROCESSOR).write_text(settings + "\n", encoding="utf-8")
    return stored


def _finish(plan: Plan, for_steps: bool) -> Callable[[ir.Model], None] | None:
    """What is done last to a graph; one whose twin takes all prompts is `for_steps` alone."""
    if plan.target != CPU:
        return None
    return finish_for_steps if for_steps else skip_idle_rows


def _write_embeddings(directory: Path, tensors: DescribedTensors, dtype: type[np.floating]) -> None:
    table = tensors.get(EMBEDDINGS_SOURCE)
    if dtype is np.float16:
        with tensors.naming(EMBEDDINGS_SOURCE, "build with fp32"):
            table = to_half(table)
    np.save(directory / EMBEDDINGS, table.numpy())


def _part(report: Progress, start: float, stop: float, stage: str, share: float) -> None:
    """Report the share of a part of the build."""
    report(stage, start + (stop - start) * share)
