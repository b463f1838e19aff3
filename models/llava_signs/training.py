"""What every training stage shares: optimisers, learning rate, learning-curve printing, resumable state."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from muon import Muon
from torch import nn


@dataclass(frozen=True)
class Stage:
    """One stage's settings. `log_every` counts steps; learning rates are the peaks."""

    name: str
    steps: int
    batch: int
    muon_lr: float
    adam_lr: float
    seed: int
    log_every: int = 25
    save_every: int = 100


class Optimisers:
    """Muon for the 2-D weights inside transformer layers, AdamW for everything else."""

    def __init__(self, modules: Iterable[tuple[nn.Module, float]], stage: Stage) -> None:
        self.members: list[tuple[torch.optim.Optimizer, float]] = []
        self.params: list[nn.Parameter] = []
        for module, factor in modules:
            named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
            matrices = [p for n, p in named if p.ndim == 2 and "layers." in n]
            rest = [p for n, p in named if not (p.ndim == 2 and "layers." in n)]
            if matrices:
                self.members.append((Muon(matrices, lr=0.0, weight_decay=0.02), stage.muon_lr * factor))
            if rest:
                adam = torch.optim.AdamW(rest, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
                self.members.append((adam, stage.adam_lr * factor))
            self.params += [p for _, p in named]

    def step(self, scale: float) -> None:
        """Update with every learning rate at `scale` of its peak, gradients clipped to norm 1."""
        average_gradients(self.params)
        nn.utils.clip_grad_norm_(self.params, 1.0)
        for optimiser, peak in self.members:
            for group in optimiser.param_groups:
                group["lr"] = peak * scale
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, object]]:
        return [optimiser.state_dict() for optimiser, _ in self.members]

    def load(self, states: list[dict[str, object]]) -> None:
        for (optimiser, _), state in zip(self.members, states, strict=True):
            optimiser.load_state_dict(state)


def rank() -> int:
    """This process's number in a torchrun launch; 0 when there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def average_gradients(params: list[nn.Parameter]) -> None:
    """Make every process of a torchrun launch hold the mean of their gradients."""
    if not dist.is_initialized():
        return
    grads = [param.grad for param in params if param.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for grad, part in zip(grads, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def rate(step: int, steps: int, warmup: int = 30, decay: float = 0.4) -> float:
    """Warm up, hold, and fall in a straight line to 2 % over the last `decay` of the steps."""
    return min(1.0, (step + 1) / warmup, max(0.02, (steps - step) / (decay * steps)))


@dataclass
class Curve:
    """Running means of what a stage measures; prints a line and appends it to the run's log."""

    stage: Stage
    log: Path
    sums: dict[str, list[float]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.sums.setdefault(name, []).append(value)

    def mean(self, name: str) -> float:
        return float(np.mean(self.sums.get(name) or [0.0]))

    def flush(self, step: int) -> dict[str, float]:
        """Print and log the means since the last flush."""
        means = {name: round(self.mean(name), 4) for name in sorted(self.sums)}
        self.sums.clear()
        line = {
            "stage": self.stage.name,
            "step": step,
            "minutes": round((time.monotonic() - self.started) / 60, 2),
        }
        print(json.dumps({**line, **means}), flush=True)
        with self.log.open("a") as file:
            file.write(json.dumps({**line, **means}) + "\n")
        return means


def run_stage(
    stage: Stage,
    directory: Path,
    modules: dict[str, nn.Module],
    optimisers: Optimisers,
    step_once: Callable[[int, np.random.Generator], dict[str, float]],
    after_log: Callable[[dict[str, float]], None] = lambda _: None,
) -> None:
    """Train for `stage.steps`, saving `directory/<stage>.pt` now and then, going on from it when it is there.

    Every step draws from a generator of (seed, step, rank), so a resumed run sees what it would have seen.
    """
    path = directory / f"{stage.name}.pt"
    start = _resume(path, modules, optimisers)
    curve = Curve(stage, directory / "curve.jsonl")
    for step in range(start, stage.steps):
        curve.add(**step_once(step, np.random.default_rng((stage.seed, step, rank()))))
        optimisers.step(rate(step, stage.steps))
        if rank() == 0 and (step + 1) % stage.log_every == 0:
            after_log(curve.flush(step + 1))
        if rank() == 0 and ((step + 1) % stage.save_every == 0 or step + 1 == stage.steps):
            state = {name: module.state_dict() for name, module in modules.items()}
            torch.save(
                {"step": step + 1, "modules": state, "optimisers": optimisers.state()},
                path.with_suffix(".tmp"),
            )
            path.with_suffix(".tmp").replace(path)


def _resume(path: Path, modules: dict[str, nn.Module], optimisers: Optimisers) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(saved["modules"][name])
    optimisers.load(saved["optimisers"])
    return int(saved["step"])


def load_module(path: Path, name: str, module: nn.Module) -> None:
    """Fill `module` from what an earlier stage saved under `name`."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; run that stage first (see --help)")
    module.load_state_dict(torch.load(path, weights_only=True)["modules"][name])


def shuffled(rng: np.random.Generator, count: int, wanted: int) -> Iterator[int]:
    """`wanted` indices below `count`, each used once before any is used again."""
    order: list[int] = []
    for _ in range(wanted):
        order = order or [int(i) for i in rng.permutation(count)]
        yield order.pop()
