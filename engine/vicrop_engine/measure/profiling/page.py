"""A profile as one HTML page that needs nothing beside it: bars over time, and the tables of stages."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from vicrop_engine.measure.profiling.report import Flow, Profile
from vicrop_engine.measure.profiling.table import FOOTNOTES, RATIOS, TITLES
from vicrop_engine.measure.profiling.waterfall import COLOURS, KINDS, MEANINGS, OTHER, headline

STYLE = """
body{font:16px/1.45 system-ui,sans-serif;color:#15181c;max-width:1100px;margin:2em auto;padding:0 1em}
h1{font-size:1.35em}h2{font-size:1.1em;margin:1.6em 0 .3em}p{color:#68707b}
.lane{position:relative;height:34px;background:#f2f4f6;margin:.3em 0}
.lane div{position:absolute;top:0;height:34px;border-right:1px solid #fff;box-sizing:border-box;min-width:2px}
table{border-collapse:collapse}td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid #e3e6ea}
td:first-child,th:first-child{text-align:left;padding-left:0}tfoot td{font-weight:600}
.key{display:inline-block;width:1em;height:1em;margin:0 .4em 0 1em;vertical-align:-.15em}
"""


def render_page(profile: Profile) -> str:
    """The page."""
    longest = max(flow.typical[-1].end for flow in profile.flows.values())
    body = [f"<h1>{escape(headline(profile))}</h1>", f"<p>{escape(profile.facts.get('caption', ''))}</p>"]
    body += [f'<span class="key" style="background:{colour}"></span>{kind}' for colour, kind in KINDS.items()]
    for name, flow in profile.flows.items():
        body += [f"<h2>{escape(TITLES.get(name, name))}: {1e3 * flow.seconds:.1f} ms</h2>"]
        body += [*_lane(flow, longest), *_table(flow)]
    body += ["<h2>Ratios</h2><table><tr><th></th><th>measured</th><th>floor</th></tr>"]
    for name, ratio in profile.ratios.items():
        floor = "" if ratio.arithmetic is None else f"{ratio.arithmetic:.3f}"
        body.append(_row("td", RATIOS.get(name, name), f"{ratio.measured:.3f}", floor))
    body += ["</table>", f"<p>{escape(' '.join((*FOOTNOTES, *profile.notices)))}</p>"]
    head = f'<meta charset="utf-8"><title>vicrop-engine profile</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _lane(flow: Flow, longest: float) -> Iterator[str]:
    yield '<div class="lane">'
    for part in flow.typical:
        left, width = 100 * part.start / longest, 100 * part.seconds / longest
        colour = COLOURS.get(part.stage, OTHER)
        told = f"{part.stage}: {1e3 * part.seconds:.1f} ms. {MEANINGS.get(part.stage, '')}"
        style = f"left:{left:.3f}%;width:{width:.3f}%;background:{colour}"
        yield f'<div style="{style}" title="{escape(told)}"></div>'
    yield "</div>"


def _table(flow: Flow) -> Iterator[str]:
    yield "<table>" + _row("th", "stage", "ms", "p95", "share", "tokens", "GFLOP", "MB of weights", "GFLOP/s")
    for stage in flow.stages:
        flops = stage.flops or 0
        yield _row(
            "td",
            stage.stage,
            f"{1e3 * stage.seconds:.1f}",
            f"{1e3 * flow.p95[stage.stage]:.1f}",
            f"{stage.seconds / flow.seconds:.1%}" if flow.seconds else "",
            f"{stage.tokens or ''}",
            f"{flops / 1e9:.2f}" if flops else "",
            f"{stage.weight_bytes / 1e6:.1f}" if stage.weight_bytes else "",
            f"{flops / stage.seconds / 1e9:.1f}" if flops and stage.seconds else "",
        )
    operations = f"{flow.flops / 1e9:.2f}" if flow.flops else ""
    last = (
        "total",
        f"{1e3 * flow.seconds:.1f}",
        f"{1e3 * flow.p95['total']:.1f}",
        "",
        "",
        operations,
        "",
        "",
    )
    yield f"<tfoot>{_row('td', *last)}</tfoot></table>"


def _row(kind: str, *cells: str) -> str:
    return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"
