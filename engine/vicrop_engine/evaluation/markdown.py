"""A report as a page of Markdown: a table a benchmark, with what belongs beside the numbers above it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vicrop_engine.evaluation.marks import Figure
from vicrop_engine.evaluation.pointing import MEASURES
from vicrop_engine.evaluation.report import PLAIN, Report, Row, Section
from vicrop_engine.evaluation.settings import Sample

MOST_GROUPS = 12  # columns of a table of categories: more stand in report.json


def markdown(report: Report) -> str:
    """The page."""
    lines = [f"# {report.facts['caption']}", ""]
    for each in report.sections:
        lines += [*section_lines(each), ""]
    lines.append(
        "Intervals are of 95 %: Wilson's for means, the bootstrap's for other totals and for differences, "
        "which are paired: on the questions that both ways answered. Failed questions are in no number."
    )
    return "\n".join(lines) + "\n"


def section_lines(section: Section) -> Iterable[str]:
    """The part of one benchmark."""
    yield from (f"## {section.plan.benchmark.name}", "", *_about(section))
    for table in (*_score_tables(section.rows), _cost_table(section), _pointing_table(section)):
        if table:
            yield from ("", *table)
    for note in dict.fromkeys(row.scorer.note for row in section.rows if row.scorer.note):
        yield from ("", f"Scorer: {note}.")


def _about(section: Section) -> Iterable[str]:
    """What was asked, of what and how, and what is missing."""
    plan = section.plan
    origin, prompt = plan.questions.origin, plan.prompt
    template = prompt.template.replace("\n", "\\n")
    yield (
        f"`{origin.dataset}`, revision `{origin.revision}`, configuration `{origin.config}`, split "
        f"`{origin.split}`: {len(plan.rows)} of {origin.rows} questions{drawn(plan.settings.sample)}. "
        f"Prompt of `{plan.harness}`, at most {plan.max_new_tokens} tokens: `{template}`."
    )
    if prompt.note:
        yield f"Note: {prompt.note}."
    if section.failed:
        failed = ", ".join(dict.fromkeys(f"`{line['question_id']}`" for line in section.failed))
        yield f"**{len(section.failed)} failed**: {failed}."
    if section.unanswered:
        yield f"**Not finished**: {section.unanswered} answers are missing; run the same command again."


def _score_tables(rows: Sequence[Row]) -> Iterable[list[str]]:
    if rows:
        yield _table(_score_columns(rows), map(_score_cells, rows))
    for what, groups in _groupings(rows):
        cells = (
            [_name(row), row.scorer.name, *(cell(groups_of(row, what).get(group)) for group in groups)]
            for row in rows
        )
        yield _table([f"by {what}", "scorer", *groups], cells)


def _cost_table(section: Section) -> list[str]:
    cells = (
        [
            each.variant.name,
            *(_number(seconds, 4) for seconds in (each.seconds, each.beyond_none)),
            *(_number(tokens, 1) for tokens in (each.crop_tokens, each.decoded)),
        ]
        for each in section.costs
    )
    head = ["cost a question", "seconds", "beyond none", "crop's tokens", "tokens decoded"]
    return _table(head, cells) if section.costs else []


def _pointing_table(section: Section) -> list[str]:
    cells = (
        [variant.name, str(figures["iou"].n), *(cell(figures[name]) for name in MEASURES)]
        for variant, figures in section.pointing.items()
    )
    return _table(["pointing, %", "n", *MEASURES.values()], cells) if section.pointing else []


def drawn(sample: Sample) -> str:
    """How the questions were chosen."""
    if sample.size is not None:
        return f", drawn at random by seed {sample.seed}"
    return "" if sample.limit is None else ", the first ones"


def cell(figure: Figure | None) -> str:
    """A number with its interval."""
    return "" if figure is None else f"{figure.value:.1f} ({figure.low:.1f} to {figure.high:.1f})"


def groups_of(row: Row, what: str) -> dict[str, Figure]:
    """The figures of a row by size or by category."""
    return row.by_size if what == "size" else row.by_category


def _groupings(rows: Sequence[Row]) -> Iterable[tuple[str, list[str]]]:
    for what in ("size", "category"):
        groups = list(dict.fromkeys(name for row in rows for name in groups_of(row, what)))
        if groups and len(groups) <= MOST_GROUPS:
            yield what, groups


def _score_columns(rows: Sequence[Row]) -> list[str]:
    known = ["published"] if any(row.published is not None for row in rows) else []
    return ["method", "scorer", "metric", "n", "%", "against none", *known]


def _score_cells(row: Row) -> list[str]:
    against = "" if row.against_none is None else _signed(row.against_none)
    known = [] if row.published is None else [f"{row.published:.2f}"]
    return [
        _name(row),
        row.scorer.name,
        row.scorer.metric,
        str(row.figure.n),
        cell(row.figure),
        against,
        *known,
    ]


def _name(row: Row) -> str:
    return f"{row.variant.name} (no crop)" if row.variant == PLAIN else row.variant.name


def _signed(figure: Figure) -> str:
    return f"{figure.value:+.1f} ({figure.low:+.1f} to {figure.high:+.1f})"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    filled = ([*cells, *[""] * (len(head) - len(cells))] for cells in rows)
    return [_line(head), "|" + "---|" * len(head), *map(_line, filled)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |"
