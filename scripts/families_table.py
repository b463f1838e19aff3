"""The tables of docs/families.md, made of the code's own tables: what each model family can do.

    python scripts/families_table.py [--write]

Prints them, or with --write puts them into the page; `tests/families/test_page.py` holds that they are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vicrop_engine.cli.facts import families
from vicrop_engine.engine_dir.manifest import CPU, read_manifest
from vicrop_engine.engine_dir.registry import MODELS, KnownModel
from vicrop_engine.families.interfaces import FamilyType
from vicrop_engine.families.table import FAMILIES
from vicrop_export.families.table import FAMILIES as ARCHITECTURES
from vicrop_export.targets import BUILDABLE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "families.md"
BEGIN, END = "<!-- made by scripts/families_table.py -->\n", "<!-- until here -->\n"
# What the published config.json of each known model calls it, and its decoder layers.
DEPTHS = {
    "llava-1.5": ("llava", 32),
    "llava-1.5-13b": ("llava", 40),
    "llava-next-mistral-7b": ("llava_next", 32),
    "llava-next-vicuna-7b": ("llava_next", 32),
    "smolvlm2-256m": ("smolvlm", 30),
    "smolvlm2-500m": ("smolvlm", 32),
    "smolvlm2-2.2b": ("smolvlm", 24),
    "qwen2.5-vl-3b": ("qwen2_5_vl", 36),
    "qwen2.5-vl-7b": ("qwen2_5_vl", 28),
    "qwen2-vl-2b": ("qwen2_vl", 28),
    "qwen3-vl-2b": ("qwen3_vl", 28),
    "qwen3-vl-4b": ("qwen3_vl", 36),
    "qwen3-vl-8b": ("qwen3_vl", 36),
    "instructblip-7b": ("instructblip", 32),
    "instructblip-13b": ("instructblip", 40),
}


def main() -> None:
    """Print the tables, or write the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put them into docs/families.md")
    if not parser.parse_args().write:
        print(tables(), end="")
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + tables() + END + rest.partition(END)[2], encoding="utf-8")


def tables() -> str:
    """Both tables, as they stand in the page."""
    return f"\n{table(FAMILY_HEAD, family_rows())}\n{table(MODEL_HEAD, model_rows())}\n"


FAMILY_HEAD = (
    *("family", "`model_type` of `config.json`", "`--method`", "a picture is", "its crop is"),
    *("`--high-res`", "`--compat`", "`--target` and `--precision`", "requests at once"),
)
MODEL_HEAD = "model", "family", "layers", "heatmap layer", "which is"


def family_rows() -> Iterable[Sequence[str]]:
    """A row for each family of the engine's table."""
    for name, facts in families().items():
        family = FAMILIES[name]
        yield (
            f"`{name}`",
            ", ".join(f"`{kind}`" for kind in kinds_of(name)),
            ", ".join(f"`{method}`" for method in facts["methods"]),
            picture_of(family),
            crop_of(family),
            "yes" if facts["high_res"] else "no",
            "`mllms-know`" if family.is_published else "no",
            "; ".join(f"`{target}`: {', '.join(BUILDABLE[target])}" for target in facts["targets"]),
            f"`{CPU}`: side by side" + ("; others: one by one" if len(facts["targets"]) > 1 else ""),
        )


def model_rows() -> Iterable[Sequence[str]]:
    """A row for each known model, with its default heatmap layer."""
    for model in MODELS:
        depth, layer, source = layer_of(model)
        yield f"`{model.name}`", f"`{model.family}`", str(depth), str(layer), source


def picture_of(family: FamilyType) -> str:
    """How the family sees one."""
    if family.in_own_size:
        return "one input of its own size"
    if family.in_several_inputs:
        return "several square inputs"
    return "one square input" + (", read with the question" if family.reads_instructions else "")


def crop_of(family: FamilyType) -> str:
    """How it sees a crop where nothing else is asked for."""
    if family.in_several_inputs and not family.crops_in_one_input:
        return "like a picture; one input where it does not fit the context"
    return "one input of its own size" if family.in_own_size else "one square input"


def kinds_of(name: str) -> list[str]:
    """What `config.json` calls checkpoints of a family that can be built."""
    return [kind for kind, read in ARCHITECTURES.items() if getattr(owner(read), "name", None) == name]


def layer_of(model: KnownModel) -> tuple[int, int, str]:
    """Decoder layers, the default heatmap layer and where that number is from."""
    if model.embedded:
        manifest = read_manifest(model.shipped_engine)
        return manifest.decoder.num_layers, manifest.crop.layers[0], manifest.crop.source
    kind, depth = DEPTHS[model.name]
    family: Any = owner(ARCHITECTURES[kind])
    read = family.__new__(family)  # as if from a checkpoint of this depth, which is all that is asked
    text = SimpleNamespace(num_layers=depth)
    object.__setattr__(read, "facts", SimpleNamespace(kind=kind, text=text))
    if not isinstance(getattr(family, "text", None), property):
        object.__setattr__(read, "text", text)
    layer, source = read.default_layer
    return depth, layer, source


def owner(read: object) -> object:
    """The class that a row of the export's table reads checkpoints as; None for one that only refuses."""
    return getattr(read, "__self__", None)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, without spaces for the eye."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
