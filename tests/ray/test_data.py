"""The batch job on a real local Ray: the answers of one by one, no row lost, taken up where it ended."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray.data

from tests.ray.cluster import Ask
from tests.ray.comparing import own_facts
from vicrop_engine.examples import signs
from vicrop_engine.ray_data.__main__ import main

HEATMAP = "heatmap"
Line = dict[str, Any]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions in an order that mixes pictures, with one about a picture that is not there."""
    lines = [
        {"image": str(path), "question": example.question, "id": example.answer} for path, example in signs()
    ]
    lines = [*lines[:24:2], {"image": "nowhere.png", "question": "What?"}, *lines[1:24:2]]
    path = tmp_path_factory.mktemp("job") / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def job(cluster: None) -> Callable[..., int]:
    """The command, with its engine."""
    with warnings.catch_warnings():  # Ray's own, when it is first asked for its settings
        warnings.filterwarnings("ignore", ".* is deprecated", DeprecationWarning, r"ray\.data\.context")
        ray.data.DataContext.get_current().enable_progress_bars = False
    return lambda *arguments: main(["llava-signs", *map(str, arguments)])


def lines_of(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def written(job: Callable[..., int], asked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two engines answered; not to be changed."""
    output = tmp_path_factory.mktemp("job") / "answers.jsonl"
    assert job(asked, "-o", output, "--actors", 2) == 0
    return output


def test_answers_are_those_of_one_by_one(asked: Path, written: Path, alone: Ask) -> None:
    given, lines = lines_of(asked), [line for line in lines_of(written) if line["error"] is None]
    assert len(lines) == len(given) - 1
    for line in lines:
        question = given[line["row"]]
        assert line["given"] == question
        expected = alone(Path(question["image"]), question["question"]).to_json()
        assert own_facts({**line, HEATMAP: None}) == own_facts({**expected, HEATMAP: None})


def test_a_bad_row_loses_no_other(asked: Path, written: Path) -> None:
    lines = {line["row"]: line for line in lines_of(written)}
    assert sorted(lines) == list(range(len(lines_of(asked))))
    bad = [line for line in lines.values() if line["error"] is not None]
    assert [(line["row"], line["answer"]) for line in bad] == [(12, None)]
    assert "nowhere.png does not exist" in bad[0]["error"]


def test_a_pictures_prefix_is_run_once(written: Path) -> None:
    """Of the questions about a picture, in the order they were answered, the first alone ran its tokens."""
    run: dict[str, list[int]] = {}
    for line in lines_of(written):
        if line["error"] is None:
            run.setdefault(line["given"]["image"], []).append(line["tokens"]["prefill"])
    assert max(map(len, run.values())) > 1
    for first, *others in run.values():
        assert all(other < first for other in others)


def test_a_job_that_was_cut_off_asks_what_is_missing_and_what_had_failed(
    job: Callable[..., int],
    asked: Path,
    written: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text, output = written.read_text(encoding="utf-8"), tmp_path / "answers.jsonl"
    output.write_text(text[: len(text) * 2 // 3], encoding="utf-8")
    whole = output.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]
    kept = [line for line in whole if json.loads(line)["error"] is None]
    assert 0 < len(kept) < 24
    assert job(asked, "-o", output, "--actors", 2) == 0
    said = f"{25 - len(kept)} questions asked, {len(kept)} answered before, 1 failed"
    assert said in capsys.readouterr().err
    assert output.read_text(encoding="utf-8").startswith("".join(kept))
    assert sorted(line["row"] for line in lines_of(output)) == list(range(25))


def test_answers_to_something_else_are_not_added_to(
    asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "answers.jsonl"
    before = json.dumps({"row": 0, "given": lines_of(asked)[0], "run": "another", "error": None}) + "\n"
    output.write_text(before)
    assert main(["llava-signs", str(asked), "-o", str(output)]) == 2
    assert "holds answers to other questions" in capsys.readouterr().err
    assert output.read_text() == before


def test_without_its_extra_the_command_says_what_to_install(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "vicrop_engine.ray_data.job", raising=False)
    assert main(["llava-signs", str(asked), "-o", str(tmp_path / "answers.jsonl")]) == 1
    assert "pip install 'vicrop-engine[cpu,serve,ray]'" in capsys.readouterr().err
