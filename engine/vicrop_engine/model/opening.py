"""Opens an engine directory as a Model: its graphs on the host or a device, its prompts, its caches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vicrop_engine.arrays import Floats
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.files import MANIFEST, hash_file
from vicrop_engine.engine_dir.manifest import (
    CUDA,
    EMBEDDINGS,
    EXTRA_ROWS,
    INSTRUCTION_TOKENIZER,
    PREPROCESSOR,
    TENSORRT,
    TOKENIZER,
    Manifest,
    remedy_command,
)
from vicrop_engine.engine_dir.memory import SMALL_SHARE, default_cache_bytes
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.errors import EngineDamagedError, SettingError, not_enough_memory, ran_out_of_memory
from vicrop_engine.external.toolbox import Toolbox
from vicrop_engine.families.table import family_of, family_type
from vicrop_engine.images.cache import PictureCache
from vicrop_engine.images.seen import Way
from vicrop_engine.model.decoder import HostDecoder
from vicrop_engine.model.decoder_on_device import DeviceDecoder
from vicrop_engine.model.gradients import PixelGradients
from vicrop_engine.model.instructed import InstructedGradients, InstructedStage
from vicrop_engine.model.instructions import InstructionTokenizer
from vicrop_engine.model.interfaces import Decoder, VisionTower
from vicrop_engine.model.model import Model
from vicrop_engine.model.prefix_cache import PrefixCache
from vicrop_engine.model.prompts import PromptBuilder
from vicrop_engine.model.states import Floating
from vicrop_engine.model.vision import DeviceVisionTower, HostVisionTower
from vicrop_engine.runtime.device import Device
from vicrop_engine.runtime.device_graph import DeviceGraph, open_device_graphs
from vicrop_engine.runtime.graphs import open_graphs
from vicrop_engine.runtime.interfaces import OpenGraph


@dataclass(frozen=True)
class Place:
    """Where to run an engine: `provider` of the runtime (None: that of its target), and which GPU.

    GPUs count from 0, which is the one where none is named.

    An engine for another target than "cpu" runs on a processor when `provider` is "cpu".
    """

    provider: str | None = None
    device: int | None = None

    @property
    def index(self) -> int:
        """The GPU's number."""
        return self.device or 0


@dataclass(frozen=True)
class Parts:
    """What of an open engine depends on where it runs; `device` where tensors stay on one."""

    provider: str
    vision: VisionTower
    decoder: Decoder
    gradients: PixelGradients
    device: Device | None = None
    instructed: InstructedStage | None = None
    helpful_looks: InstructedGradients | None = None


def open_model(
    directory: Path,
    manifest: Manifest,
    threads: int | None = None,
    cache_bytes: int | None = None,
    share_weights: bool = False,
    tools: Toolbox | None = None,
    place: Place | None = None,
    digest: str | None = None,
) -> Model:
    """Open the engine in `directory`, whose files have been checked.

    `cache_bytes` bounds prefixes, image embeds and pictures together; None has room for one picture at least.
    `digest` tells this engine from others, that of its manifest when None.
    Raises EngineDamagedError, SettingError, ProviderError, and with `share_weights` RunError.
    """
    cache_bytes = default_cache_bytes(manifest) if cache_bytes is None else cache_bytes
    small = cache_bytes // SMALL_SHARE
    digest = hash_file(directory / MANIFEST).sha256 if digest is None else digest
    embeds = small // len(manifest.encoders)
    settings = _Settings(threads, embeds, digest if share_weights else None, place or Place())
    settings.check(manifest)
    tally = Tally()
    opened = _parts_on_device if manifest.target == CUDA else _parts_on_host
    parts = opened(directory, manifest, tally, settings)
    preprocessing = _preprocessing(directory)
    family = family_of(manifest, preprocessing)
    prompts = PromptBuilder(
        directory / TOKENIZER, manifest.prompts, manifest.tokens, _instructions(directory, manifest)
    )
    prompts.check_templates(family.layouts(Way())[0])
    return Model(
        digest=digest,
        manifest=manifest,
        provider=parts.provider,
        preprocessing=preprocessing,
        family=family,
        prompts=prompts,
        vision=parts.vision,
        decoder=parts.decoder,
        gradients=parts.gradients,
        pictures=PictureCache(small),
        prefixes=PrefixCache(cache_bytes - 2 * small),
        tally=tally,
        tools=tools or Toolbox(threads=threads),
        device=parts.device,
        instructed=parts.instructed,
        helpful_looks=parts.helpful_looks,
    )


def _preprocessing(directory: Path) -> Preprocessing:
    path = directory / PREPROCESSOR
    return parse(Preprocessing, json.loads(path.read_text(encoding="utf-8")), str(path))


def _instructions(directory: Path, manifest: Manifest) -> InstructionTokenizer | None:
    """The tokenizer of the vision part's second stage, where it has one."""
    if manifest.instructed is None:
        return None
    return InstructionTokenizer(directory / INSTRUCTION_TOKENIZER, manifest.instructed)


@dataclass(frozen=True)
class _Settings:
    threads: int | None
    vision_bytes: int  # of embeds that each stage of the vision part keeps
    share_as: str | None
    place: Place

    def check(self, manifest: Manifest) -> None:
        """Raises SettingError where such an engine cannot run so."""
        target, provider, device = manifest.target, self.place.provider, self.place.device
        if target == "cpu" and (provider not in (None, target) or device is not None):
            raise SettingError(
                f"got provider {provider!r} and device {device!r} for an engine for cpu; to run on a GPU "
                f"build one with 'vicrop-engine build {manifest.model.name} --target cuda'"
            )
        if provider not in (None, "cpu", target):
            raise SettingError(f"got provider {provider!r}, wanted {target!r} or 'cpu'")
        on_host = provider == "cpu"
        wrong = isinstance(device, bool) or not isinstance(device, int | None) or (device or 0) < 0
        if wrong or (on_host and device is not None):
            raise SettingError(f"got device {device!r}, wanted the number of a GPU from 0 up")
        if self.share_as is not None and target != "cpu":
            raise SettingError("share_weights is for engines for cpu, which map their weights; leave it out")


def _parts_on_host(directory: Path, manifest: Manifest, tally: Tally, settings: _Settings) -> Parts:
    """Of an engine whose tensors are arrays here, at least between passes."""
    place = settings.place
    graphs = open_graphs(
        directory, manifest, settings.threads, settings.share_as, place.provider, place.index
    )
    table = _embeddings(directory, manifest)
    decoder = HostDecoder(graphs, table, manifest.decoder, manifest.tokens, tally)
    one = manifest.target == TENSORRT
    vision = HostVisionTower(
        graphs.vision, settings.vision_bytes, tally, one=one, extra=_extra_rows(directory, manifest)
    )
    gradients = PixelGradients(graphs.pixel_gradients, table, manifest.tokens.image, tally)
    open_gradient = graphs.instructed_gradient
    return Parts(
        graphs.provider,
        vision,
        decoder,
        gradients,
        instructed=_stage(graphs.instructed, settings, tally),
        helpful_looks=InstructedGradients(open_gradient, decoder.table, tally) if open_gradient else None,
    )


def _parts_on_device(directory: Path, manifest: Manifest, tally: Tally, settings: _Settings) -> Parts:
    """Of an engine whose tensors stay on a device."""
    place = settings.place
    graphs = open_device_graphs(
        directory, manifest, tally, provider=place.provider, index=place.index, threads=settings.threads
    )
    table = _embeddings(directory, manifest)
    decoder = DeviceDecoder(graphs, table, manifest.decoder, manifest.tokens, tally)
    vision = DeviceVisionTower(graphs, settings.vision_bytes, tally, _extra_rows(directory, manifest))
    gradients = PixelGradients(None, table, manifest.tokens.image, tally)
    instructed = _stage(graphs.instructed, settings, tally)
    return Parts(graphs.provider, vision, decoder, gradients, graphs.device, instructed)


def _stage(
    graph: OpenGraph | DeviceGraph | None, settings: _Settings, tally: Tally
) -> InstructedStage | None:
    """The vision part's second stage, where there is a graph of one."""
    return None if graph is None else InstructedStage(graph, settings.vision_bytes, tally)


def _embeddings(directory: Path, manifest: Manifest) -> Floating:
    shape = manifest.decoder.vocab_size, manifest.decoder.hidden_size
    return _rows(directory / EMBEDDINGS, shape, manifest, (np.float32, np.float16))


def _extra_rows(directory: Path, manifest: Manifest) -> Floats | None:
    """Embeddings [rows, hidden] beside those of pictures' inputs, where the family has any."""
    number = family_type(manifest).extra_rows
    if not number:
        return None
    shape = number, manifest.decoder.hidden_size
    rows: Floats = _rows(directory / EXTRA_ROWS, shape, manifest, (np.float32,))
    return rows


def _rows(path: Path, wanted: tuple[int, int], manifest: Manifest, kinds: tuple[type, ...]) -> Floating:
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        if ran_out_of_memory(error):
            raise not_enough_memory(f"to open {path}") from error
        raise EngineDamagedError(f"{path} cannot be read ({error}); {remedy_command(manifest)}") from error
    if table.shape != wanted or table.dtype not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise EngineDamagedError(
            f"{path} holds {table.dtype} {table.shape}, wanted {names} {wanted}; {remedy_command(manifest)}"
        )
    return np.asarray(table)
