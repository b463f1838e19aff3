"""What is to be built: everything read from the checkpoint and the settings, checked before any work is done.

Makes the manifest's records and the probe from it. Exports nothing.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from tokenizers import Tokenizer

from vicrop_engine.engine_dir.files import FileEntry
from vicrop_engine.engine_dir.layer_choice import LayerChoice, parse_layers
from vicrop_engine.engine_dir.manifest import SCHEMA_VERSION, TENSORRT, Manifest
from vicrop_engine.engine_dir.records import (
    Agreement,
    CropSettings,
    DecoderGeometry,
    FamilyRecord,
    ModelSource,
    Parity,
    Preprocessing,
    Prompts,
    SpecialTokens,
    VisionGeometry,
    default_layer,
)
from vicrop_export.checkpoint.config import LlavaFacts, read_facts
from vicrop_export.checkpoint.locate import Checkpoint
from vicrop_export.checkpoint.processor import read_preprocessing
from vicrop_export.checkpoint.tokenizer import begin_token, demand_rows, image_placeholder, load_tokenizer
from vicrop_export.modules.interfaces import writes_in_place
from vicrop_export.probe import Probe
from vicrop_export.trt.compiler import Compiler

FAMILY = "llava-1.5"
TEMPLATE = "\nUSER: {question} Answer the question using a single word or phrase.\nASSISTANT:"
GENERAL_QUESTION = "Write a general description of the image."
PACKAGES = ("vicrop-engine", "torch", "transformers", "onnxscript", "onnx-ir", "onnxruntime", "tokenizers")


@dataclass(frozen=True)
class Plan:
    """A checkpoint that can be built, and the settings to build it with."""

    name: str
    checkpoint: Checkpoint
    facts: LlavaFacts
    tokenizer: Tokenizer
    preprocessing: Preprocessing
    layers: tuple[int, ...]
    begin: int | None
    placeholder: str
    precision: str
    target: str
    in_place: bool
    pure_grad: bool = False
    compiler: Compiler | None = None

    @property
    def half(self) -> bool:
        """Whether the graphs' attention and KV cache are in float16."""
        return self.target == TENSORRT and self.precision != "fp32"

    @property
    def decoder(self) -> DecoderGeometry:
        """Sizes of the decoder, cut after the highest heatmap layer."""
        text = self.facts.text
        return DecoderGeometry(
            num_layers=text.num_layers,
            num_lower_layers=max(self.layers) + 1,
            num_heads=text.num_heads,
            num_kv_heads=text.num_kv_heads,
            head_dim=text.head_dim,
            hidden_size=text.hidden_size,
            vocab_size=text.vocab_size,
            context_length=text.context_length,
        )

    @property
    def vision(self) -> VisionGeometry:
        """The patch grid, and where its first token is."""
        vision = self.facts.vision
        return VisionGeometry(
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            rows=vision.grid,
            cols=vision.grid,
            image_tokens=vision.image_tokens,
            patch_offset=int(vision.keeps_class_token),
        )

    @property
    def prompts(self) -> Prompts:
        """LLaVA-1.5's prompts with this checkpoint's image placeholder."""
        return Prompts(
            question=self.placeholder + TEMPLATE,
            two_image_question=2 * self.placeholder + TEMPLATE,
            general_question=GENERAL_QUESTION,
            image_placeholder=self.placeholder,
        )

    def probe(self) -> Probe:
        """A picture of seeded noise with the general prompt, to compare the graphs and transformers on."""
        side, image_token = self.facts.vision.image_size, self.facts.image_token
        ids = self.tokenizer.encode(self.prompts.question.format(question=GENERAL_QUESTION)).ids
        cut = ids.index(image_token)
        return Probe(
            pixel_values=np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32),
            image_token=image_token,
            prefix=ids[:cut] + [image_token] * self.facts.vision.image_tokens,
            suffix=ids[cut + 1 :],
            decoded=ids[-1],
        )

    def manifest(
        self,
        parity: Parity,
        eos: tuple[int, ...],
        files: dict[str, FileEntry],
        float32: Parity,
        agreement: Agreement | None = None,
    ) -> Manifest:
        """The manifest of the finished engine; `float32` are the graphs' figures on float32 weights."""
        return Manifest(
            schema=SCHEMA_VERSION,
            model=ModelSource(self.name, self.checkpoint.source, self.checkpoint.revision),
            family=FamilyRecord(FAMILY, {}),
            precision=self.precision,
            target=self.target,
            vision=self.vision,
            decoder=self.decoder,
            tokens=SpecialTokens(bos=self.begin, eos=eos, image=self.facts.image_token),
            prompts=self.prompts,
            crop=CropSettings(window=self.facts.vision.image_size, layers=self.layers),
            parity=parity,
            files=files,
            versions=versions(),
            float32_parity=float32,
            agreement=agreement,
            plans=None if self.compiler is None else self.compiler.plans,
        )


def make_plan(
    checkpoint: Checkpoint, *, name: str, layers: LayerChoice | None, precision: str, target: str
) -> Plan:
    """Read and check everything but the weights. Raises CheckpointError or LayerError."""
    facts = read_facts(checkpoint.directory)
    in_place = writes_in_place(target, facts.text)
    tokenizer = load_tokenizer(checkpoint.directory)
    demand_rows(tokenizer, facts.text.vocab_size)
    return Plan(
        name=name,
        checkpoint=checkpoint,
        facts=facts,
        tokenizer=tokenizer,
        preprocessing=read_preprocessing(checkpoint.directory, facts.vision.image_size),
        layers=heatmap_layers(layers, facts.text.num_layers),
        begin=begin_token(tokenizer),
        placeholder=image_placeholder(tokenizer, facts.image_token),
        precision=precision,
        target=target,
        in_place=in_place,
    )


def heatmap_layers(layers: LayerChoice | None, num_layers: int) -> tuple[int, ...]:
    """The default heatmap layers, in order and once each. Raises LayerError."""
    return parse_layers(default_layer(num_layers) if layers is None else layers, num_layers)


def versions() -> dict[str, str]:
    """Versions of what a build depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
