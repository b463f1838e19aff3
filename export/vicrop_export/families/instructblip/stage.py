"""The second stage of InstructBLIP's vision part for a build: its graph and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn

from vicrop_engine.engine_dir.records import InstructionReader
from vicrop_engine.model.instructed import EMBEDS, IDS, LOOKED, STATES
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import demand_rows, load_tokenizer
from vicrop_export.families.instructblip.facts import BlipFacts
from vicrop_export.families.instructblip.qformer import QFormer
from vicrop_export.modules.interfaces import INSTRUCTION_AXIS
from vicrop_export.onnx_files.export import GraphInterface

FOLDER = "qformer_tokenizer"
EXAMPLE = 7  # ids of an instruction to trace with


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
        vision = self.facts.vision
        generator = torch.Generator().manual_seed(0)
        states = torch.randn(1, 1 + vision.grid**2, vision.hidden_size, generator=generator)
        ids = torch.arange(EXAMPLE)[None] % self.facts.qformer.vocab_size
        return GraphInterface(
            arguments=(states, ids),
            inputs=[STATES, IDS],
            outputs=[EMBEDS, LOOKED],
            axes={STATES: {}, IDS: {1: INSTRUCTION_AXIS}},
            output_axes={},
        )
