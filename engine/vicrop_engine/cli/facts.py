"""Facts about an engine directory and about this machine, as plain values ready to print.

Reads manifests and versions; opens graphs only to verify an engine.
"""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from vicrop_engine.engine_dir import registry as models
from vicrop_engine.engine_dir.files import verify_hashes
from vicrop_engine.engine_dir.manifest import Manifest, read_document, read_manifest, verify_files
from vicrop_engine.engine_dir.memory import ask_memory
from vicrop_engine.engine_dir.parsing import to_json
from vicrop_engine.engine_dir.registry import ToolName
from vicrop_engine.errors import ProviderError
from vicrop_engine.external.manifest import REQUIRED, mend_tool, read_tool
from vicrop_engine.families.table import FAMILIES, family_type
from vicrop_engine.model.opening import open_model
from vicrop_engine.model.probe import prove
from vicrop_engine.process_limits import process_limits
from vicrop_engine.runtime.machine import abilities
from vicrop_engine.runtime.nvidia import find_driver
from vicrop_engine.runtime.onnx_runtime import available_providers, package_version
from vicrop_engine.runtime.proofs import proven_on
from vicrop_engine.vicrop.localizers.methods import METHODS

PACKAGES = (
    *("numpy", "pillow", "tokenizers", "onnxruntime", "onnxruntime-gpu", "torch", "transformers"),
    *("triton", "tensorrt-cu13", "tensorrt-rtx"),
)


def machine_info() -> dict[str, Any]:
    """Versions, what this machine can run and what not and why, the cache and the known models.

    `providers` are those that ONNX Runtime was built with here; `runs` says which of them work. `limits` are
    the cores and the bytes of memory that this process may use, and what sets each.
    """
    driver, limits = find_driver(), process_limits()
    return {
        "vicrop_engine": package_version("vicrop-engine"),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := package_version(name)) is not None},
        "limits": {
            "cores": limits.cores.amount,
            "cores_set_by": limits.cores.source,
            "memory": limits.memory.amount,
            "memory_set_by": limits.memory.source,
        },
        "providers": providers(),
        "nvidia": asdict(driver),
        "runs": {name: asdict(ability) for name, ability in abilities(driver).items()},
        "cache": str(models.cache_directory() or "none: set VICROP_HOME"),
        "tools": {tool.name: _path(models.find_tool(tool.name)) for tool in models.TOOLS},
        "models": {model.name: _path(models.find_engine(model.name)) for model in models.MODELS},
        "families": families(),
    }


def families() -> dict[str, dict[str, Any]]:
    """The model families there are, and what each supports."""
    return {
        name: {
            "methods": [
                method for method in METHODS if method != "pure-grad" or family.takes_pixel_gradients
            ],
            "high_res": True,
            "targets": list(family.targets),
        }
        for name, family in FAMILIES.items()
    }


def engine_info(directory: Path, *, verify: bool) -> dict[str, Any]:
    """What the manifest says; with `verify` every file agrees with it, and the graphs with their probe.

    Raises EngineDirectoryError, EngineDamagedError and ProbeError, and with `verify` what opening raises.
    """
    manifest = read_manifest(directory)
    if verify:
        verify_files(directory, manifest, weights=True)
        prove_again(directory, manifest)
    document = manifest.to_dict()
    document["directory"] = str(directory)
    document["bytes"] = sum(entry.size for entry in manifest.files.values())
    document["verified"] = verify
    document["proven_on"] = proven_on(directory, manifest)
    document["layers"] = {"default": list(manifest.crop.layers), "source": manifest.crop.source}
    document |= supported(manifest)
    memory = ask_memory(manifest)
    document["memory"] = {**asdict(memory), "peak": memory.peak}
    return document


def supported(manifest: Manifest) -> dict[str, Any]:
    """What this engine can be asked for: methods, whether high-res, and targets its family is built for."""
    family = family_type(manifest)
    pixels = family.takes_pixel_gradients and manifest.has_pixel_gradients
    lacks = {"grad-att": not manifest.has_gradient, "pure-grad": not pixels}
    return {
        "methods": [method for method in METHODS if not lacks.get(method, False)],
        "high_res": True,
        "targets": list(family.targets),
    }


def prove_again(directory: Path, manifest: Manifest) -> None:
    """Run the engine's probe, if it has one, whether it was run here before or not. Raises ProbeError."""
    if manifest.probe is not None:
        prove(open_model(directory, manifest), directory)


def providers() -> list[str]:
    """The execution providers this ONNX Runtime was built with; empty when none is installed."""
    try:
        return available_providers()
    except ProviderError:
        return []


def machine_facts(document: dict[str, Any]) -> dict[str, str]:
    """`machine_info` as lines for people."""
    packages = ", ".join(f"{name} {found}" for name, found in document["packages"].items())
    built = {
        f"model {name}": path or "not built yet (built when first asked)"
        for name, path in document["models"].items()
    } | {
        f"model {name}": path or f"not built yet: vicrop-engine build {name}"
        for name, path in document["tools"].items()
    }
    return {
        "vicrop-engine": f"{document['vicrop_engine']} on Python {document['python']}",
        "packages": packages,
        "may use": "{cores} cores ({cores_set_by}), {gib:.2f} GiB of memory ({memory_set_by})".format(
            gib=document["limits"]["memory"] / 2**30, **document["limits"]
        ),
        "providers": ", ".join(document["providers"]) or "none, see 'runs cpu'",
        **{f"runs {name}": _yes_or_no(ability) for name, ability in document["runs"].items()},
        **_device_facts(document["nvidia"]),
        "cache": document["cache"],
        **{f"family {name}": _family_facts(facts) for name, facts in document["families"].items()},
        **built,
    }


def _family_facts(facts: dict[str, Any]) -> str:
    return f"{', '.join(facts['methods'])}; for {', '.join(facts['targets'])}"


def _vision_facts(vision: dict[str, Any], max_pixels: int | None) -> str:
    """Of one input, or of the largest picture where these are seen in their own size."""
    tokens = f"{vision['image_tokens']} image tokens"
    if max_pixels is not None:
        return f"pictures in their own size, up to {max_pixels} pixels: {tokens} of {vision['patch_size']} px"
    return f"{vision['image_size']} px, {vision['rows']} x {vision['cols']} patches, {tokens}"


def engine_facts(document: dict[str, Any]) -> dict[str, str]:
    """`engine_info` as lines for people."""
    model, vision, decoder = document["model"], document["vision"], document["decoder"]
    source = f"{model['source']} at {model['revision']}" if model["revision"] else model["source"]
    return {
        "engine": document["directory"],
        "model": f"{model['name']} ({document['family']['name']}) from {source}",
        "precision": f"{document['precision']} for {document['target']}, {document['bytes'] / 1e6:.1f} MB",
        "vision": _vision_facts(vision, document["family"]["settings"].get("max_pixels")),
        "decoder": f"{decoder['num_layers']} layers ({decoder['num_lower_layers']} in the lower graph), "
        f"{decoder['num_heads']} heads, {decoder['num_kv_heads']} KV heads, hidden {decoder['hidden_size']}, "
        f"context {decoder['context_length']}",
        "heatmap": f"layers {', '.join(map(str, document['layers']['default']))} "
        f"({document['layers']['source']}), "
        f"smallest window {document['crop']['window']} px",
        "memory": "about {peak:.2f} GB at most while asking: weights {weights:.2f}, keys and values "
        "{kv_buffers:.2f}, of a tile {tile:.2f}, working {working:.2f}; of other pictures at most "
        "{cache:.2f} is kept".format(**{name: number / 1e9 for name, number in document["memory"].items()}),
        "parity": ", ".join(
            f"{name} {value:.1e}" for name, value in document["parity"].items() if value is not None
        ),
        **_agreement_facts(document["agreement"]),
        **_calibration_facts(document["calibrations"]),
        **_plan_facts(document["plans"]),
        "proven on": "; ".join(
            f"{proof['processor']} with ONNX Runtime {proof['onnxruntime']}"
            for proof in document["proven_on"]
        )
        or "no processor: it was built before there were probes",
        "built with": ", ".join(f"{name} {found}" for name, found in document["versions"].items()),
        "files": f"{len(document['files'])}, " + ("hashes agree" if document["verified"] else "sizes agree"),
    }


def _agreement_facts(agreement: dict[str, Any] | None) -> dict[str, str]:
    if agreement is None:
        return {}
    figures = (
        f"answers {agreement['answers']:.1%}, boxes {agreement['boxes']:.1%}, "
        f"heatmaps {agreement['heatmaps']:.1e} away"
    )
    return {"agreement": f"{figures}, {agreement['compared']}"}


def _yes_or_no(ability: dict[str, Any]) -> str:
    return f"{'yes' if ability['able'] else 'no'}: {ability['reason']}"


def _device_facts(nvidia: dict[str, Any]) -> dict[str, str]:
    """The driver and a line for each device."""
    cuda = "none" if nvidia["cuda"] is None else "for CUDA up to {}.{}".format(*nvidia["cuda"])
    facts = {"NVIDIA driver": nvidia["problem"] or cuda}
    for device in nvidia["devices"]:
        facts[f"NVIDIA device {device['index']}"] = (
            f"{device['name']}, {device['memory'] / 2**30:.1f} GiB, compute capability {device['capability']}"
        )
    return facts


def _calibration_facts(calibrations: list[dict[str, Any]]) -> dict[str, str]:
    each = [
        f"{found['method']} from worth {found['threshold']:.3f} ({found['auto']:.1%} right at "
        f"{found['cost']:.1%} of the crops' cost; always {found['always']:.1%}, never {found['first']:.1%})"
        for found in calibrations
    ]
    return {"when auto": "; ".join(each)} if each else {}


def _plan_facts(plans: dict[str, Any] | None) -> dict[str, str]:
    if plans is None:
        return {}
    return {"plans": f"for {', '.join(plans['architectures'])}, by {plans['compiler']} {plans['version']}"}


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def tool_info(directory: Path, *, verify: bool) -> dict[str, Any]:
    """What the manifest says, and with `verify` that every file agrees with it.

    Raises EngineDirectoryError and EngineDamagedError.
    """
    kind = read_document(directory).get("kind")
    known = isinstance(kind, str) and kind in REQUIRED
    manifest = read_tool(directory, cast(ToolName, kind) if known else "clip")
    if verify:
        verify_hashes(directory, manifest.files, mend_tool(manifest.kind), weights=True)
    document = to_json(manifest)
    document["directory"] = str(directory)
    document["bytes"] = sum(entry.size for entry in manifest.files.values())
    document["verified"] = verify
    return document


def tool_facts(document: dict[str, Any]) -> dict[str, str]:
    """`tool_info` as lines for people."""
    source = f"{document['source']} at {document['revision']}" if document["revision"] else document["source"]
    return {
        "model": document["directory"],
        "kind": f"{document['kind']} from {source}",
        "precision": f"fp32 for cpu, {document['bytes'] / 1e6:.1f} MB",
        "parity": ", ".join(f"{name} {value:.1e}" for name, value in document["parity"].items()),
        "built with": ", ".join(f"{name} {found}" for name, found in document["versions"].items()),
        "files": f"{len(document['files'])}, " + ("hashes agree" if document["verified"] else "sizes agree"),
    }
