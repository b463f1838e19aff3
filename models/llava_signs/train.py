"""Train llava-signs on a CPU: `python train.py STAGE --runs DIR`, in the order of STAGES, then `checkpoint`.

Each stage goes on from where it was stopped and prints its curve as JSON lines (also DIR/curve.jsonl).
`torchrun --nproc-per-node 2 train.py STAGE` shares a stage among processes, one core each.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from architecture import make_model, save_checkpoint
from language_stage import train_language
from picture_stages import train_pictures, train_projector
from tower_stage import train_tower
from training import Stage, load_module

STAGES: dict[str, tuple[Stage, Callable[[Stage, Path], None]]] = {
    "tower": (Stage("tower", 3500, 16, 2e-3, 1e-3, seed=11), train_tower),
    "language": (Stage("language", 2800, 24, 4e-3, 2e-3, seed=12), train_language),
    "projector": (Stage("projector", 250, 16, 0.0, 2e-3, seed=13), train_projector),
    "pictures": (Stage("pictures", 2500, 8, 6e-3, 2e-3, seed=14, log_every=50), train_pictures),
}


def main() -> None:
    """Run one stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "checkpoint"])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where states and the curve are kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="instead of the stage's own number of steps")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--muon-lr", type=float)
    parser.add_argument("--adam-lr", type=float)
    parser.add_argument("-o", "--output", type=Path, default=Path("checkpoint"), help="for `checkpoint`")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.stage == "checkpoint":
        write_checkpoint(options.runs, options.output)
        return
    if "WORLD_SIZE" in os.environ:
        torch.distributed.init_process_group("gloo")
    stage, train = STAGES[options.stage]
    changes = {name: getattr(options, name) for name in ("steps", "batch", "muon_lr", "adam_lr")}
    train(
        replace(stage, **{name: value for name, value in changes.items() if value is not None}), options.runs
    )


def write_checkpoint(runs: Path, output: Path) -> None:
    """Write what the picture stage has learnt so far as a Hugging Face checkpoint."""
    model = make_model(seed=0)
    load_module(runs / "pictures.pt", "model", model)
    save_checkpoint(model, output)
    print(f"wrote {output}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
