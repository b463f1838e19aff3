"""The manifest of an engine directory: what it holds, and whether the files still agree with it.

Knows files and hashes; nothing of graphs, sessions or what the numbers mean.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from vicrop_engine.engine_dir.files import MANIFEST, FileEntry, check_sizes, verify_hashes, write_document
from vicrop_engine.engine_dir.parsing import parse, to_json
from vicrop_engine.engine_dir.records import (
    Agreement,
    Calibration,
    CropSettings,
    DecoderGeometry,
    FamilyRecord,
    InstructionReader,
    ModelSource,
    Parity,
    Probed,
    Prompts,
    SpecialTokens,
    VisionGeometry,
)
from vicrop_engine.errors import ConfigError, EngineDamagedError, EngineDirectoryError

SCHEMA_VERSION = 3

GRAPHS = ("vision", "decoder_lower", "decoder_upper")

INSTRUCTED = "instructed"  # the second stage of the vision part, where that reads the prompt's text too

ENCODERS = (GRAPHS[0], INSTRUCTED)  # prompts are whole in them

EVERY_GRAPH = (*ENCODERS, *GRAPHS[1:])  # with weights of its own

GRADIENT = "grad_att"  # a graph that engines may lack; its weights are in the decoders' files

INSTRUCTED_GRADIENT = "grad_instructed"  # of that second stage, where there is one; its weights are others'

PIXEL_GRADIENTS = "pure_grad"  # an optional graph, whose weights are in the others' files

ROWS, KV_BUFFER = "rows", "kv_buffer"  # small graphs of engines for a device, which keep tensors there

EMBEDDINGS = "token_embeddings.npy"

EXTRA_ROWS = "image_newline.npy"  # embeddings among a picture's that no input gives; most families have none

TOKENIZER = "tokenizer.json"

INSTRUCTION_TOKENIZER = "instruction_tokenizer.json"  # of that second stage

PREPROCESSOR = "preprocessor.json"

REQUIRED = (*(f"{graph}.onnx" for graph in GRAPHS), EMBEDDINGS, TOKENIZER, PREPROCESSOR)

PROBE = "probe.npz"  # what the graphs gave where they were built; engines built before it lack one

# After a graph's name: its twin for whole prompts, and one that is faster only on processors without VNNI.
PREFILL, WIDE = ".prefill", ".wide"

CPU, CUDA = "cpu", "cuda"  # targets
TENSORRT = "tensorrt"  # the target whose graphs are of standard operators only

SIGNS = 3  # tokens beside those of one of several inputs: where it begins, which one it is, the line's end

_REBUILD = "rebuild it with 'vicrop-engine build --force'"


@dataclass(frozen=True)
class Plans:
    """What GRAPHS were compiled to: one file each for every architecture, by `version` of `compiler`.

    `compiler` is the Python package that can run them, "tensorrt" or "tensorrt_rtx".
    """

    compiler: str
    version: str
    architectures: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything `manifest.json` says; `files` covers every other file of the directory by name.

    `parity` are the figures of the files as they are, `float32_parity` those of the same graphs on the
    checkpoint's own weights. `agreement` is None where nothing was rounded, `plans` for targets without.
    `calibrations` are measured after the build, one for a method. `multiply_adds` are those of one run of
    each graph, by the axes they grow with ("seq*total"); None in engines for other targets than cpu, or built
    before there were. `twins` are the further graphs for whole prompts, by name, and what the weights of each
    take in memory beside the usual one's. `probe` is None for other targets than cpu, and in engines built
    before there was one. `instructed` is None where the vision part reads pictures alone.
    """

    schema: int
    model: ModelSource
    family: FamilyRecord
    precision: str
    target: str
    vision: VisionGeometry
    decoder: DecoderGeometry
    tokens: SpecialTokens
    prompts: Prompts
    crop: CropSettings
    parity: Parity
    files: dict[str, FileEntry]
    versions: dict[str, str]
    float32_parity: Parity | None = None
    agreement: Agreement | None = None
    calibrations: tuple[Calibration, ...] = ()
    multiply_adds: dict[str, dict[str, int]] | None = None
    plans: Plans | None = None
    twins: dict[str, int] | None = None
    probe: Probed | None = None
    instructed: InstructionReader | None = None

    @property
    def encoders(self) -> tuple[str, ...]:
        """The graphs of the vision part in the order that they run."""
        return ENCODERS[:1] if self.instructed is None else ENCODERS

    @property
    def graphs(self) -> tuple[str, ...]:
        """Those of the vision part and of the decoder."""
        return *self.encoders, *GRAPHS[1:]

    @property
    def picture_tokens(self) -> int:
        """Tokens that a picture takes in a prompt at most, signs between its inputs' tokens counted in."""
        if self.family.most_tokens is not None:
            return self.family.most_tokens
        inputs = self.family.most_inputs
        return self.vision.image_tokens if inputs == 1 else inputs * (self.vision.image_tokens + SIGNS)

    @property
    def crop_tokens(self) -> int:
        """Tokens that a crop takes at most where nothing else is asked for."""
        return self.family.most_tokens or self.vision.image_tokens

    @property
    def sees_many_sizes(self) -> bool:
        """Whether the tower's inputs are of many sizes: pictures in their own, or several inputs at once."""
        return self.family.most_tokens is not None or "max_pixels" in self.family.settings

    @property
    def has_gradient(self) -> bool:
        """Whether the engine has the graphs that grad-att needs; those built before there was one lack it."""
        wanted = (GRADIENT,) if self.instructed is None else (GRADIENT, INSTRUCTED_GRADIENT)
        return all(f"{graph}.onnx" in self.files for graph in wanted)

    @property
    def has_pixel_gradients(self) -> bool:
        """Whether the engine was built with the graph that pure-grad needs."""
        return f"{PIXEL_GRADIENTS}.onnx" in self.files

    @classmethod
    def from_dict(cls, data: object, where: str = MANIFEST) -> Self:
        """Read decoded JSON strictly. Raises ConfigError."""
        return parse(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives the same manifest back."""
        return to_json(self)


def plan_file(graph: str, architecture: str) -> str:
    """The name of a graph's plan."""
    return f"{graph}.{architecture}.plan"


def is_plan(file: str) -> bool:
    """Whether a file has a plan's name."""
    return file.endswith(".plan") and file.split(".")[0] in GRAPHS


def write_manifest(directory: Path, manifest: Manifest, name: str = MANIFEST) -> None:
    """Write `manifest.json`, or under another `name`, and flush it to the disk."""
    write_document(directory / name, manifest.to_dict())


def demand_writable(directory: Path) -> None:
    """Raises OSError where `add_calibration` could not write, before the work that it would be for."""
    trial = directory / f".{MANIFEST}.partial-{os.getpid()}"
    trial.touch()
    trial.unlink()


def add_calibration(directory: Path, calibration: Calibration) -> None:
    """Put `calibration` into the manifest, in place of the one of its method; a failed write changes nothing.

    Raises what `read_manifest` raises, and OSError.
    """
    manifest = read_manifest(directory)
    others = [each for each in manifest.calibrations if each.method != calibration.method]
    partial = directory / f".{MANIFEST}.partial-{os.getpid()}"
    try:
        write_manifest(directory, replace(manifest, calibrations=(*others, calibration)), partial.name)
        partial.replace(directory / MANIFEST)
    finally:
        partial.unlink(missing_ok=True)


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest, checking schema and the size of every file.

    Raises EngineDirectoryError when `directory` is no engine or of another schema, EngineDamagedError when
    a file is missing or of another size.
    """
    document = read_document(directory)
    if "kind" in document:
        raise EngineDirectoryError(
            f"{directory} holds the localizer model {document['kind']!r}, wanted an engine; "
            f"ask an engine with --{document['kind']} {directory}"
        )
    schema = document.get("schema")
    if schema != SCHEMA_VERSION:
        raise EngineDirectoryError(
            f"{directory}: the manifest's schema is {schema!r} and this version reads {SCHEMA_VERSION}; "
            f"{_advice(schema)}"
        )
    try:
        manifest = Manifest.from_dict(document, str(directory / MANIFEST))
    except ConfigError as error:
        raise EngineDamagedError(f"{error}; {_mend(document)}") from error
    for name in REQUIRED:
        if name not in manifest.files:
            raise EngineDamagedError(f"{directory / MANIFEST} lists no {name}; {_mend(document)}")
    check_sizes(directory, manifest.files, _mend(document))
    return manifest


def verify_files(directory: Path, manifest: Manifest, *, weights: bool) -> None:
    """Compare hashes with the manifest: every file, or with `weights` False all but the large weight files.

    Raises EngineDamagedError.
    """
    verify_hashes(directory, manifest.files, remedy_command(manifest), weights=weights)


def remedy_command(manifest: Manifest) -> str:
    """What to run so that a damaged engine is whole again."""
    return f"rebuild it with 'vicrop-engine build {manifest.model.name} --force'"


def read_document(directory: Path, name: str = MANIFEST) -> dict[str, Any]:
    """The JSON object in one file of a directory made by `build`, the manifest when not named.

    Raises EngineDirectoryError and EngineDamagedError.
    """
    if not directory.is_dir():
        kind = "is a file" if directory.exists() else "does not exist"
        raise EngineDirectoryError(f"{directory} {kind}; wanted a directory made by 'vicrop-engine build'")
    path = directory / name
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EngineDirectoryError(
            f"{directory} is not an engine directory (no {name}); make one with 'vicrop-engine build'"
        ) from error
    except OSError as error:
        raise EngineDirectoryError(f"{path} cannot be read ({error.strerror}); check it") from error
    except ValueError as error:
        raise EngineDamagedError(f"{path} is not valid JSON; {_REBUILD}") from error
    if not isinstance(document, dict):
        raise EngineDamagedError(f"{path} holds no object; {_REBUILD}")
    return document


def _advice(schema: object) -> str:
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        return f"update vicrop-engine, or {_REBUILD}"
    return _REBUILD


def _mend(document: dict[str, Any]) -> str:
    model = document.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    return f"rebuild it with 'vicrop-engine build {name or 'MODEL'} --force'"
