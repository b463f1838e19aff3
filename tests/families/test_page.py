"""docs/families.md holds the tables that its script makes of the code's own."""

from __future__ import annotations

from scripts.families_table import BEGIN, END, PAGE, layer_of, tables
from vicrop_engine.engine_dir.registry import MODELS, find_model
from vicrop_engine.families.table import FAMILIES


def test_the_page_has_the_tables_of_today() -> None:
    held = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert held == tables(), "run python scripts/families_table.py --write"
    assert all(f"| `{name}` |" in held for name in (*FAMILIES, *(model.name for model in MODELS)))


def test_layers_are_those_of_a_build() -> None:
    assert layer_of(find_model("llava-1.5")) == (32, 14, "published")
    assert layer_of(find_model("qwen2.5-vl-3b")) == (36, 22, "published")
    assert layer_of(find_model("llava-next-mistral-7b")) == (32, 14, "scaled, not measured")
