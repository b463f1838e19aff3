"""Progress where standard error is no terminal: lines that say something new, and no more."""

from __future__ import annotations

import sys

import pytest

from vicrop_engine.cli.output import first_answer_shown, progress_bar


def test_a_stage_is_one_line_and_one_more_for_every_twentieth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("building") as progress:
        progress("reading", 0.0)
        for megabytes in range(101):
            progress(f"fetching, {megabytes} of 100 MB", megabytes / 200)
        progress("writing: layer 0, 1 of 9 MB", 0.6)
        progress("writing: layer 1, 2 of 9 MB", 0.61)
        progress("writing: layer 1, 3 of 9 MB", 0.62)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "  0%  reading",
        *(f"{percent:3}%  fetching, {2 * percent} of 100 MB" for percent in range(0, 51, 5)),
        " 60%  writing: layer 0, 1 of 9 MB",
        " 61%  writing: layer 1, 2 of 9 MB",
    ]


def test_the_first_answer_is_shown_on_a_terminal_while_it_grows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with first_answer_shown() as heard:
        assert heard is None, "no terminal"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with first_answer_shown() as heard:
        assert heard is not None
        heard("[bold]K7")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "without the crop: [bold]K7" in captured.err
