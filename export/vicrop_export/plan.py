"""What is to be built: everything read from the checkpoint and the settings, checked before any work is done.

Makes the manifest's records and the probe from it. Exports nothing.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tokenizers import Tokenizer

from vicrop_engine.engine_dir.files import FileEntry
from vicrop_engine.engine_dir.layer_choice import LayerChoice, parse_layers
from vicrop_engine.engine_dir.manifest import (
    INSTRUCTION_TOKENIZER,
    SCHEMA_VERSION,
    TENSORRT,
    TOKENIZER,
    Manifest,
)
from vicrop_engine.engine_dir.records import (
    Agreement,
    CropSettings,
    DecoderGeometry,
    FamilyRecord,
    LayerSource,
    ModelSource,
    Parity,
    Preprocessing,
    Prompts,
    SpecialTokens,
    VisionGeometry,
)
from vicrop_engine.engine_dir.registry import MODELS
from vicrop_engine.families.table import family_of
from vicrop_engine.model.probe import ProbeInput
from vicrop_engine.model.prompts import encoded
from vicrop_export.checkpoint.locate import Checkpoint
from vicrop_export.checkpoint.tokenizer import begin_token, demand_rows, load_tokenizer
from vicrop_export.families.interfaces import ExportFamily, ImageSettings
from vicrop_export.families.table import read_family
from vicrop_export.modules.interfaces import writes_in_place
from vicrop_export.probe import Picture, Probe
from vicrop_export.trt.compiler import Compiler
from vicrop_export.trt.lengths import planned_context

PACKAGES = ("vicrop-engine", "torch", "transformers", "onnxscript", "onnx-ir", "onnxruntime", "tokenizers")


@dataclass(frozen=True)
class Plan:
    """A checkpoint that can be built, and the settings to build it with."""

    name: str
    checkpoint: Checkpoint
    family: ExportFamily
    tokenizer: Tokenizer
    images: ImageSettings
    layers: tuple[int, ...]
    layer_source: LayerSource
    begin: int | None
    prompts: Prompts
    precision: str
    target: str
    in_place: bool
    pure_grad: bool = False
    compiler: Compiler | None = None
    instructions: Tokenizer | None = None  # of what a second stage reads

    @property
    def half(self) -> bool:
        """Whether the graphs' attention and KV cache are in float16."""
        return self.target == TENSORRT and self.precision != "fp32"

    @property
    def decoder(self) -> DecoderGeometry:
        """Sizes of the decoder, cut after the highest heatmap layer and what a picture adds to layers."""
        text = self.family.text
        return DecoderGeometry(
            num_layers=text.num_layers,
            num_lower_layers=max(max(self.layers) + 1, text.added_embeds),
            num_heads=text.num_heads,
            num_kv_heads=text.num_kv_heads,
            head_dim=text.head_dim,
            hidden_size=text.hidden_size,
            vocab_size=text.vocab_size,
            context_length=self.context_length,
            position_axes=text.rope.num_axes,
            added_embeds=text.added_embeds,
        )

    @property
    def context_length(self) -> int:
        """Positions there are, and that plans are made for."""
        context = self.family.text.context_length
        return context if self.target != TENSORRT else planned_context(context, self.vision.image_tokens)

    @property
    def vision(self) -> VisionGeometry:
        """One input of the vision tower."""
        return self.family.geometry

    @property
    def preprocessing(self) -> Preprocessing:
        """How one input of the vision tower is made."""
        return self.images.preprocessing

    def probe(self, picture: Picture | None = None) -> Probe:
        """A picture with the general prompt, to compare the graphs and transformers on; by default noise."""
        image_token, prompts = self.family.image_token, self.prompts
        picture = picture or self.family.picture()
        template = prompts.question.replace(prompts.image_placeholder, self.family.one_input(prompts))
        ids = encoded(self.tokenizer, prompts, template.format(question=prompts.general_question))
        cut = ids.index(image_token)
        return Probe(
            picture=picture,
            image_token=image_token,
            prefix=ids[:cut] + [image_token] * picture.tokens,
            suffix=ids[cut + 1 :],
            decoded=ids[-1],
            axes=self.family.text.rope.num_axes,
        )

    def probe_input(self, manifest: Manifest) -> ProbeInput:
        """What the finished engine's own probe is shown."""
        return ProbeInput.of(manifest, family_of(manifest, self.preprocessing))

    def save_tokenizers(self, directory: Path) -> None:
        """Write those of an engine."""
        self.tokenizer.save(str(directory / TOKENIZER))
        if self.instructions is not None:
            self.instructions.save(str(directory / INSTRUCTION_TOKENIZER))

    def end_tokens(self, generation: tuple[int, ...]) -> tuple[int, ...]:
        """What ends an answer: the ids of the generation settings, then the family's own, once each."""
        return tuple(dict.fromkeys((*generation, *self.family.end_tokens(self.tokenizer))))

    def manifest(
        self,
        parity: Parity,
        eos: tuple[int, ...],
        files: dict[str, FileEntry],
        float32: Parity,
        agreement: Agreement | None = None,
    ) -> Manifest:
        """The manifest of the finished engine; `float32` are the graphs' figures on float32 weights."""
        stage = self.family.second_stage
        return Manifest(
            schema=SCHEMA_VERSION,
            model=ModelSource(self.name, self.checkpoint.source, self.checkpoint.revision),
            family=FamilyRecord(
                self.family.name, self.images.settings, self.images.most_inputs, self.images.most_tokens
            ),
            precision=self.precision,
            target=self.target,
            vision=self.vision,
            decoder=self.decoder,
            tokens=SpecialTokens(bos=self.begin, eos=eos, image=self.family.image_token),
            prompts=self.prompts,
            crop=CropSettings(window=self.family.window, layers=self.layers, source=self.layer_source),
            parity=parity,
            files=files,
            versions=versions(),
            float32_parity=float32,
            agreement=agreement,
            plans=None if self.compiler is None else self.compiler.plans,
            instructed=None if stage is None else stage.reader,
        )


def make_plan(
    checkpoint: Checkpoint,
    *,
    name: str,
    layers: LayerChoice | None,
    precision: str,
    target: str,
    max_pixels: int | None = None,
    layer_source: LayerSource = "chosen at build",
) -> Plan:
    """Read and check everything but the weights; `layer_source` says where `layers` are from, if given.

    Raises CheckpointError or LayerError.
    """
    family = read_family(checkpoint.directory, max_pixels)
    in_place = writes_in_place(target, family.text)
    tokenizer = load_tokenizer(checkpoint.directory)
    demand_rows(tokenizer, family.text.vocab_size)
    own, own_source = family.default_layer
    stage = family.second_stage
    return Plan(
        name=engine_name(name, family),
        checkpoint=checkpoint,
        family=family,
        tokenizer=tokenizer,
        images=family.image_settings(checkpoint.directory),
        layers=parse_layers(own if layers is None else layers, family.text.num_layers),
        layer_source=own_source if layers is None else layer_source,
        begin=begin_token(tokenizer),
        prompts=family.prompts(tokenizer),
        precision=precision,
        target=target,
        in_place=in_place,
        instructions=None if stage is None else stage.tokenizer(checkpoint.directory),
    )


def engine_name(name: str, family: ExportFamily) -> str:
    """The model in the manifest: `name`, or the family's where a known model of that name has another."""
    known = next((model for model in MODELS if model.name == name), None)
    return name if known is None or known.family == family.name else family.name


def versions() -> dict[str, str]:
    """Versions of what a build depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
