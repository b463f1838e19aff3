"""The second stage of InstructBLIP's vision part for a build: its graph and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import InstructionReader
from vicrop_engine.model.instructed import EMBEDS, GRADIENT, IDS, LOOKED, STATES, SUFFIX_EMBEDS
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import demand_rows, load_tokenizer
from vicrop_export.families.instructblip.facts import BlipFacts
from vicrop_export.families.instructblip.gradient import LookedGradient
from vicrop_export.families.instructblip.qformer import QFormer
from vicrop_export.modules.interfaces import INSTRUCTION_AXIS, SUFFIX_AXIS
from vicrop_export.onnx_files.export import GraphInterface

FOLDER = "qformer_tokenizer"
INSTRUCTION, SUFFIX = 7, 11  # ids of an instruction, and tokens after the picture's, to trace with


@dataclass(frozen=True)
class QFormerStage:
    """What its methods are says SecondStage."""

    facts: BlipFacts

    @property
    def reader(self) -> InstructionReader:
        qformer = self.facts.qformer
        return InstructionReader(qformer.vocab_size, qformer.most_tokens, qformer.entry)

    def tokenizer(self, directory: Path) -> Tokenizer:
        tokenizer = load_tokenizer(directory / FOLDER)
        demand_rows(tokenizer, self.facts.qformer.vocab_size)
        return tokenizer

    def module(self, tensors: CheckpointTensors) -> nn.Module:
        return QFormer(tensors, self.facts.qformer)

    def interface(self) -> GraphInterface:
        return GraphInterface(
            arguments=self._examples,
            inputs=[STATES, IDS],
            outputs=[EMBEDS, LOOKED],
            axes={STATES: {}, IDS: {1: INSTRUCTION_AXIS}},
            output_axes={},
        )

    def gradient_module(self, tensors: CheckpointTensors) -> nn.Module:
        return LookedGradient(tensors, self.facts.qformer, self.facts.text)

    def gradient_interface(self) -> GraphInterface:
        suffix = torch.randn(1, SUFFIX, self.facts.text.hidden_size, generator=_generator())
        return GraphInterface(
            arguments=(*self._examples, suffix),
            inputs=[STATES, IDS, SUFFIX_EMBEDS],
            outputs=[LOOKED, GRADIENT],
            axes={STATES: {}, IDS: {1: INSTRUCTION_AXIS}, SUFFIX_EMBEDS: {1: SUFFIX_AXIS}},
            output_axes={},
        )

    @property
    def _examples(self) -> tuple[Tensor, Tensor]:
        vision = self.facts.vision
        states = torch.randn(1, 1 + vision.grid**2, vision.hidden_size, generator=_generator())
        return states, torch.arange(INSTRUCTION)[None] % self.facts.qformer.vocab_size


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
