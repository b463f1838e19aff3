"""What is evaluated: ways to answer, how questions are worded, which of them are asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vicrop_engine.errors import SettingError
from vicrop_engine.vicrop.localizers.methods import NONE, check_method
from vicrop_engine.vicrop.params import ALL, ALWAYS, AskParams

WITH_LAYERS = ("rel-att", "grad-att", "target", "carve")  # methods that read heatmap layers
IN_TILES = (*WITH_LAYERS, "pure-grad")  # and those that make a heatmap


@dataclass(frozen=True)
class Variant:
    """A way to answer: a method, and heatmap layers where they are not the engine's own."""

    method: str
    layers: str | None = None

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return self.method if self.layers is None else f"{self.method}, layers {self.layers}"


@dataclass(frozen=True)
class Sample:
    """So many questions drawn at random by a seed, or the first `limit`; all where neither is given."""

    limit: int | None = None
    seed: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise SettingError(f"got --limit {self.limit}, wanted a whole number from 1 up")
        if self.limit is not None and self.size is not None:
            raise SettingError("got --limit and --sample; leave one of them out")

    @classmethod
    def of(cls, limit: int | None, drawn: str | None) -> Sample:
        """Of the options --limit N and --sample SEED:N. Raises SettingError."""
        if drawn is None:
            return cls(limit)
        seed, _, size = drawn.partition(":")
        if not (seed.isdecimal() and size.isdecimal() and int(size) > 0):
            raise SettingError(f"got --sample {drawn!r}, wanted SEED:N, as in 1:500")
        return cls(limit, int(seed), int(size))

    def rows(self, there_are: int) -> list[int]:
        """The numbers of the questions, in their own order."""
        if self.size is None or self.seed is None:
            return list(range(there_are if self.limit is None else min(self.limit, there_are)))
        drawn = np.random.default_rng(self.seed).permutation(there_are)[: self.size]
        return sorted(drawn.tolist())


@dataclass(frozen=True)
class EvalSettings:
    """How questions are answered; None is the benchmark's own. Raises SettingError for what cannot be.

    `prompt` and `scorers` are names of harnesses; without a prompt questions are worded as the first scorer's
    harness does.
    """

    methods: tuple[str, ...] = (NONE, "rel-att")
    layers: tuple[str, ...] = ()
    high_res: str = "auto"
    when: str = ALWAYS
    crop_tokens: str = ALL
    compat: str | None = None
    max_new_tokens: int | None = None
    prompt: str | None = None
    scorers: tuple[str, ...] = ()
    sample: Sample = field(default_factory=Sample)
    copies: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.methods:
            raise SettingError("no method is given; give at least one, as in --methods none rel-att")
        for method in self.methods:
            check_method(method)
        object.__setattr__(self, "methods", tuple(dict.fromkeys(self.methods)))
        for variant in self.variants:
            self.params(variant, 1)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The ways to answer, each method with every choice of layers that it can read."""
        return tuple(
            Variant(method, layers)
            for method in self.methods
            for layers in (self.layers if method in WITH_LAYERS and self.layers else (None,))
        )

    def params(self, variant: Variant, max_new_tokens: int, look: str | None = None) -> AskParams:
        """The settings of an ask; a method without a heatmap knows no tiles. Raises SettingError."""
        given: dict[str, Any] = {"method": variant.method, "max_new_tokens": max_new_tokens}
        if variant.method == NONE:
            return AskParams(**given)
        if variant.method in IN_TILES:
            given |= {"high_res": self.high_res, "compat": self.compat}
        return AskParams(
            **given, layers=variant.layers, when=self.when, crop_tokens=self.crop_tokens, localize=look
        )
