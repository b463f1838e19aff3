"""`eval` on the built-in signs and on lists of one's own: tables, files, and runs that are taken up again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Run, refused
from tests.evaluation.miniatures import png, with_pictures, write_hub
from vicrop_engine.engine import ViCropEngine
from vicrop_engine.examples import signs

ASKED, METHODS = 5, ("none", "rel-att")
Document = dict[str, Any]


def evaluated(run: Run, out: Path, *arguments: str | Path) -> Document:
    ran = run("eval", "llava-signs", *arguments, "--out", out, "--json")
    assert ran.status == 0, ran.err
    found: Document = json.loads(ran.out)
    assert json.loads((out / "report.json").read_text()) == found
    return found


def lines_of(out: Path) -> list[Document]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first signs, asked without and with the crop; not to be changed."""
    out = tmp_path_factory.mktemp("done") / "out"
    command = [sys.executable, "-m", "vicrop_engine.cli", *asking(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out


def asking(out: Path) -> list[str]:
    return ["eval", "llava-signs", "signs", "--limit", str(ASKED), "--methods", *METHODS, "--out", str(out)]


def test_answers_are_those_of_ask(done: Path) -> None:
    engine = ViCropEngine.load("llava-signs")
    lines = lines_of(done)
    assert [(line["row"], line["settings"]["method"]) for line in lines] == [
        (row, method) for row in range(ASKED) for method in METHODS
    ]
    for line in lines:
        path, example = signs()[line["row"]]
        answer = engine.ask(path, example.question, method=line["settings"]["method"])
        assert (line["answer"], line["answer_without_crop"]) == (answer.answer, answer.answer_without_crop)
        assert line["crop_box"] == (None if answer.crop_box is None else list(answer.crop_box))
        assert line["error"] is None


def test_the_report_has_all_that_belongs_beside_a_number(done: Path) -> None:
    [section] = json.loads((done / "report.json").read_text())["benchmarks"]
    assert (section["dataset"], section["split"], section["rows"]) == ("signs, built in", "all", 201)
    assert section["revision"].startswith("sha256:")
    assert section["sample"] == {"limit": ASKED}
    assert section["prompt"]["template"].endswith("using a single word or phrase.")
    assert section["prompt"]["max_new_tokens"] == 20
    plain, crop = section["scores"]
    right = [signs()[line["row"]][1].answer == line["answer"] for line in lines_of(done)]
    assert plain["value"] == 100 * sum(right[::2]) / ASKED
    assert crop["value"] == 100 * sum(right[1::2]) / ASKED
    assert crop["against_none"]["value"] == crop["value"] - plain["value"]
    assert (plain["crop"], crop["crop"], plain["against_none"]) == (False, True, None)
    assert sum(figure["n"] for figure in crop["by_size"].values()) == ASKED
    assert section["cost"][1]["crop_tokens"] > 0
    assert section["pointing"][0]["iou"]["n"] == ASKED
    page = (done / "report.md").read_text(encoding="utf-8")
    assert "| rel-att | exact |" in page
    assert "seconds" in page
    with Image.open(done / "report.png") as plot:
        assert plot.width == 1400


@pytest.mark.parametrize("seed", range(10))
def test_cut_off_at_any_byte_it_ends_in_the_same_file(
    run: Run, done: Path, tmp_path: Path, seed: int
) -> None:
    """As a kill leaves it; one that tears a line apart too."""
    whole = (done / "answers.jsonl").read_bytes()
    (tmp_path / "answers.jsonl").write_bytes(whole[: random.Random(seed).randrange(len(whole))])
    ran = run(*asking(tmp_path))
    assert ran.status == 0
    assert (tmp_path / "answers.jsonl").read_bytes() == whole


def test_killed_and_taken_up_again_it_gives_the_same_file(done: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vicrop_engine.cli", *asking(tmp_path)]
    path, whole = tmp_path / "answers.jsonl", (done / "answers.jsonl").read_bytes()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (path.exists() and path.stat().st_size):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.stat().st_size < len(whole)
    subprocess.run(command, check=True, capture_output=True)
    assert path.read_bytes() == whole


def test_what_is_answered_is_not_asked_again(
    run: Run, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "answers.jsonl").write_bytes((done / "answers.jsonl").read_bytes())
    monkeypatch.setattr(ViCropEngine, "as_given", lambda engine: None)  # whoever asks fails
    monkeypatch.setattr("vicrop_engine.evaluation.run._check", lambda plan, asking: None)
    monkeypatch.setattr("vicrop_engine.evaluation.asking.Scheduled.replies", lambda *_: iter(()))
    ran = run(*asking(tmp_path))
    assert ran.status == 0
    assert f"{ASKED} | " in ran.out


def test_progress_is_told_with_the_accuracy_so_far(
    run: Run, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = b"".join((done / "answers.jsonl").read_bytes().splitlines(keepends=True)[:ASKED])
    right = [signs()[line["row"]][1].answer == line["answer"] for line in lines_of(done)]
    for name in ("lines", "bar"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "answers.jsonl").write_bytes(half)
    ran = run(*asking(tmp_path / "lines"))
    shares = [f"{method} {sum(right[place::2]) / ASKED:.1%}" for place, method in enumerate(METHODS)]
    assert f"100%  signs, {', '.join(shares)}" in ran.err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    ran = run(*asking(tmp_path / "bar"))
    assert ran.status == 0
    assert (tmp_path / "bar" / "answers.jsonl").read_bytes() == (done / "answers.jsonl").read_bytes()


def test_stopped_by_hand_it_says_how_to_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vicrop_engine.evaluation.session.run_plan", stopped)
    ran = run(*asking(tmp_path / "out"))
    assert (ran.status, ran.out) == (1, "")
    assert "run it again to go on" in ran.err


def own_list(tmp_path: Path, *more: Document) -> Path:
    """Signs as a list of one's own, with a picture that is none in the middle."""
    rows: list[Document] = [
        {
            "id": f"q{number}",
            "image": str(path),
            "question": each.question,
            "answer": each.answer,
            "box": list(each.box),
        }
        for number, (path, each) in enumerate(signs()[:3])
    ]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows.insert(1, {"id": "bad", "image": "broken.png", "question": "What?", "answers": ["a", "b"]})
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *more]), encoding="utf-8")
    return path


def test_one_bad_picture_is_one_counted_failure(run: Run, tmp_path: Path) -> None:
    found = evaluated(run, tmp_path / "out", "--data", own_list(tmp_path), "--methods", "none")
    [section] = found["benchmarks"]
    assert [(each["question_id"], each["method"]) for each in section["failed"]] == [("bad", "none")]
    assert "broken.png" in section["failed"][0]["error"]
    assert [score["n"] for score in section["scores"]] == [3]
    again = evaluated(run, tmp_path / "out", "--data", own_list(tmp_path), "--methods", "none")
    assert again == found | {"benchmarks": [{**section, "cost": again["benchmarks"][0]["cost"]}]}


def test_a_parquet_file_of_ones_own(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    table = with_pictures("textvqa").select_columns(["image", "question", "answers"])
    table.to_parquet(str(path))
    [section] = evaluated(run, tmp_path / "out", "--data", path, "--methods", "none")["benchmarks"]
    assert (section["dataset"], section["asked"], section["failed"]) == ("mine.parquet", 3, [])


def test_several_benchmarks_and_scorers_from_the_same_answers(run: Run, tmp_path: Path) -> None:
    copies = [f"{name}={write_hub(name, tmp_path)}" for name in ("vstar", "pope")]
    out = tmp_path / "out"
    found = evaluated(
        run, out, *copies, "--methods", "none", "rel-att", "--scorer", "lmms-eval", "vlmevalkit"
    )
    kept = (out / "answers.jsonl").read_bytes()
    by_name = {section["benchmark"]: section for section in found["benchmarks"]}
    scorers = [(score["scorer"], score["metric"], score["method"]) for score in by_name["vstar"]["scores"]]
    assert scorers == [
        ("lmms-eval", "vstar_overall_acc", "none"),
        ("lmms-eval", "vstar_overall_acc", "rel-att"),
        ("vlmevalkit", "accuracy, exact_matching", "none"),
        ("vlmevalkit", "accuracy, exact_matching", "rel-att"),
    ]
    assert {score["metric"] for score in by_name["pope"]["scores"]} == {
        *("pope_accuracy", "pope_f1_score", "Overall (F1)", "acc")
    }
    assert by_name["pope"]["prompt"]["harness"] == "lmms-eval"
    assert lines_of(out)[0]["question"].count("Answer with the option's letter") == 2
    other = evaluated(
        run, out, *copies, "--methods", "none", "rel-att", "--scorer", "vlmevalkit", "--prompt", "lmms-eval"
    )
    assert (out / "answers.jsonl").read_bytes() == kept
    assert {score["scorer"] for section in other["benchmarks"] for score in section["scores"]} == {
        "vlmevalkit"
    }


def test_boxes_without_answers(run: Run, tmp_path: Path) -> None:
    copy = write_hub("textvqa-boxes", tmp_path)
    [section] = evaluated(
        run,
        tmp_path / "out",
        f"textvqa-boxes={copy}",
        "--methods",
        "rel-att",
        "--layers",
        "1",
        "--layers",
        "all",
    )["benchmarks"]
    assert section["scores"] == []
    assert [(each["method"], each["layers"], each["iou"]["n"]) for each in section["pointing"]] == [
        ("rel-att", "1", 2),
        ("rel-att", "all", 2),
    ]
    engine = ViCropEngine.load("llava-signs").as_given()
    line = lines_of(tmp_path / "out")[0]
    assert line["answer"] is None
    assert line["crop_box"] == list(engine.locate(png(0), line["question"], method="rel-att", layers="1").box)


def test_vstars_own_files_and_their_boxes(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "vstar" / "direct_attributes"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(png(0))
    (folder / "a.json").write_text(json.dumps({"bbox": [[10, 10, 20, 20], [50, 30, 5, 5]]}))
    row = {"image": "direct_attributes/a.png", "text": "What?\n(A) a\n(B) b\nAnswer.", "label": "A"}
    row |= {"category": "direct_attributes"}
    (tmp_path / "vstar" / "test_questions.jsonl").write_text(json.dumps(row) + "\n")
    [section] = evaluated(run, tmp_path / "out", f"vstar-boxes={tmp_path / 'vstar'}")["benchmarks"]
    assert [(each["method"], each["iou"]["n"]) for each in section["pointing"]] == [("rel-att", 1)]
    assert (
        lines_of(tmp_path / "out")[0]["question"]
        == "What? Answer the question using a single word or phrase."
    )


def test_accuracy_by_size_with_boxes_of_another_data_set(run: Run, tmp_path: Path) -> None:
    textvqa, boxes = write_hub("textvqa", tmp_path), write_hub("textvqa-boxes", tmp_path)
    [section] = evaluated(
        run, tmp_path / "out", f"textvqa={textvqa}", "--boxes", f"textvqa-boxes={boxes}", "--methods", "none"
    )["benchmarks"]
    assert {size: figure["n"] for size, figure in section["scores"][0]["by_size"].items()} == {"medium": 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("no benchmark is given",)),
        (("signz",), ("unknown benchmark 'signz'", "did you mean 'signs'")),
        (("signs", "--methods", "rel-at"), ("unknown method 'rel-at'", "did you mean 'rel-att'")),
        (("signs", "--scorer", "papers"), ("unknown scorer 'papers'", "did you mean 'paper'")),
        (("signs", "--sample", "5"), ("--sample '5'", "SEED:N")),
        (("signs", "--limit", "0"), ("--limit 0",)),
        (("signs", "--limit", "5", "--sample", "1:5"), ("leave one of them out",)),
        (("signs", "--running", "0"), ("--running 0",)),
        (("signs", "--max-new-tokens", "5000"), ("at most",)),
        (("signs=x",), ("built in",)),
        (("aokvqa", "--scorer", "lmms-eval"), ("aokvqa is not scored by lmms-eval", "paper")),
        (("textvqa=nowhere",), ("there is no nowhere",)),
        (("textvqa-boxes=nowhere", "--methods", "none"), ("makes no crop",)),
        (("vstar-boxes",), ("vstar-boxes=DIR",)),
        (("signs", "--boxes", "signs=x"), ("wanted NAME=PATH",)),
        (("--data", "nowhere.jsonl"), ("nowhere.jsonl cannot be read",)),
    ],
)
def test_what_cannot_be_is_refused(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(run("eval", "llava-signs", *arguments, "--out", tmp_path / "out"), *words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"image": "a.png", "question": "What?"}', ("row 5", "no column 'answer'")),
        ("{", ("line 5 is no JSON",)),
        ("[1]", ("line 5 is no object",)),
        ('{"image": "a.png", "question": "W?", "answer": "a", "box": [5, 5, 1, 9]}', ("row 5", "x0 < x1")),
        ('{"image": "a.png", "question": "W?", "answers": 5}', ("row 5", "wanted a list of texts")),
    ],
)
def test_a_bad_line_of_ones_own_list_is_refused_by_its_number(
    run: Run, tmp_path: Path, row: str, words: tuple[str, ...]
) -> None:
    path = own_list(tmp_path)
    path.write_text(path.read_text() + row + "\n")
    refused(run("eval", "llava-signs", "--data", path, "--out", tmp_path / "out"), *words)


def test_without_its_extra_it_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    ran = run("eval", "llava-signs", "textvqa", "--out", tmp_path / "out")
    assert ran.status == 1
    assert "pip install 'vicrop-engine[eval]'" in ran.err
