"""A profile as text: the table of stages, and the ratios beside what arithmetic alone says."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from vicrop_engine.measure.profiling.flows import CROPPED, NEXT, PLAIN, PUBLISHED
from vicrop_engine.measure.profiling.report import Flow, Profile
from vicrop_engine.measure.profiling.stages import StageCost

TITLES = {
    PLAIN: "plain answer",
    CROPPED: "answer with the crop",
    NEXT: "next question on the picture, final answer only",
    PUBLISHED: "published flow on transformers",
}
RATIOS = {
    "cropped": "cropped ÷ plain (both answers)",
    "heatmap": "heatmap ÷ plain (finding the crop)",
    "next": "next question ÷ plain",
    "published": "published flow ÷ plain",
}
FOOTNOTES = (
    "Medians and 95th percentiles. Every run begins with nothing kept of the picture, but for the next",
    "question, which finds the picture's prefix. Prefix and suffixes go through the decoder in one pass:",
    "its time and operations are divided by tokens, and its weights are read once, for the prefix.",
    "GFLOP: the model's own products, two operations each, counted from the graphs; MB: weights read.",
    "Ratios leave out decoding the picture's file. Floor: what the operations alone say.",
)


def flow_table(name: str, flow: Flow) -> Table:
    """One flow's stages."""
    table = Table(title=TITLES.get(name, name), title_justify="left", show_footer=True)
    table.add_column("stage", footer="total")
    whole = StageCost(
        "total",
        flow.seconds,
        sum(stage.tokens for stage in flow.stages),
        flow.flops,
        sum(stage.weight_bytes for stage in flow.stages),
    )
    footer = _cells(whole, flow.seconds, flow.p95["total"])
    for title, below in zip(("ms", "p95", "share", "tokens", "GFLOP", "MB", "GFLOP/s"), footer, strict=True):
        table.add_column(title, footer=below, justify="right")
    for stage in flow.stages:
        table.add_row(stage.stage, *_cells(stage, flow.seconds, flow.p95[stage.stage]))
    return table


def ratio_lines(profile: Profile) -> Iterator[str]:
    """The ratios, measured and by arithmetic."""
    width = max(map(len, RATIOS.values()))
    for name, title in RATIOS.items():
        if name in profile.ratios:
            ratio = profile.ratios[name]
            floor = "" if ratio.arithmetic is None else f"   floor {ratio.arithmetic:.3f}"
            yield f"{title:<{width}}  {ratio.measured:.3f}{floor}"


def _cells(stage: StageCost, total: float, p95: float) -> list[str]:
    flops, seconds = stage.flops, stage.seconds
    return [
        f"{1e3 * seconds:.1f}",
        f"{1e3 * p95:.1f}",
        f"{seconds / total:.1%}" if total else "",
        f"{stage.tokens}" if stage.tokens else "",
        "" if not flops else f"{flops / 1e9:.2f}",
        f"{stage.weight_bytes / 1e6:.1f}" if stage.weight_bytes else "",
        f"{flops / seconds / 1e9:.1f}" if flops and seconds else "",
    ]
