"""Every benchmark from a miniature of its repository: read as the hub has it, worded as the harnesses do."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from tests.evaluation.hub_rows import ROWS
from tests.evaluation.miniatures import HUBS, png, with_pictures, write_hub
from vicrop_engine.errors import DatasetError, ImageError
from vicrop_engine.evaluation.benchmarks.table import BENCHMARKS, find_benchmark
from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.sources import hub
from vicrop_engine.evaluation.sources.hub import HubQuestions, open_benchmark

OFFLINE = ("signs", "vstar-boxes")  # not of the hub's tables
HARNESS: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parent / "harness.json.gz").read_bytes())
)


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory to write repositories to."""
    return tmp_path_factory.mktemp("hub")


def opened(name: str, mirror: Path) -> HubQuestions:
    return open_benchmark(BENCHMARKS[name], write_hub(name, mirror / name))


def questions_of(name: str, mirror: Path) -> list[Question]:
    found = opened(name, mirror)
    return [found.question(row) for row in range(found.origin.rows)]


def test_there_is_a_miniature_of_every_benchmark_of_the_hub() -> None:
    assert set(HUBS) == set(ROWS) == set(BENCHMARKS) - set(OFFLINE)


@pytest.mark.parametrize("name", HUBS)
def test_a_benchmark_is_read_as_it_stands_on_the_hub(name: str, mirror: Path) -> None:
    found, where = opened(name, mirror), HUBS[name]
    origin, place = found.origin, BENCHMARKS[name].place
    assert (origin.dataset, origin.config, origin.split) == (where.repository, where.config, where.split)
    assert place.ids[0] == where.repository
    assert origin.rows == len(ROWS[name])
    assert origin.revision.startswith("sha256:")
    ids = [found.question(row).id for row in range(origin.rows)]
    assert len(set(ids)) == origin.rows
    for row in range(origin.rows):
        picture = found.picture(row)
        assert isinstance(picture, bytes)
        with Image.open(io.BytesIO(picture)) as image:
            assert image.size == (90, 60)


@pytest.mark.parametrize("name", sorted(set(HUBS) - {"gqa"}))
def test_each_question_has_its_own_picture(name: str, mirror: Path) -> None:
    found = opened(name, mirror)
    assert [found.picture(row) for row in range(found.origin.rows)] == [
        png(row) for row in range(found.origin.rows)
    ]


def test_gqas_pictures_are_found_by_their_name(mirror: Path) -> None:
    found = opened("gqa", mirror)
    n22, n11 = png(0), png(1)
    assert [found.picture(row) for row in range(3)] == [n11, n22, n11]


@pytest.mark.parametrize("said", [name for name in HARNESS["prompts"]])
def test_prompts_are_those_of_the_harness(said: str, mirror: Path) -> None:
    harness, name = said.split(" ")
    prompt = BENCHMARKS[name].worded_by(harness)
    written = [prompt.write(question) for question in questions_of(name, mirror)]
    assert written == HARNESS["prompts"][said]
    assert len(written) == len(ROWS[name])


def test_every_prompt_of_a_harness_is_held_against_it() -> None:
    """But for those that differ from one which is by their rows alone."""
    alike = {"hrbench8k": "hrbench4k", "cvbench-2d": "cvbench", "cvbench-3d": "cvbench-2d"}
    alike |= dict.fromkeys(("pope-adversarial", "pope-popular", "pope-random"), "pope")
    for name, benchmark in BENCHMARKS.items():
        for harness, prompt in benchmark.prompts.items():
            if harness in ("lmms-eval", "vlmevalkit") and f"{harness} {name}" not in HARNESS["prompts"]:
                assert prompt.write is BENCHMARKS[alike[name]].prompts[harness].write


def test_the_papers_prompt_is_the_engines_own(mirror: Path) -> None:
    [first, *_] = questions_of("textvqa", mirror)
    asked = BENCHMARKS["textvqa"].worded_by("paper").write(first)
    assert asked == "what does NASA say on the sign? Answer the question using a single word or phrase."
    [vstar, *_] = questions_of("vstar", mirror)
    look = BENCHMARKS["vstar"].worded_by("paper").look
    assert look is not None
    assert look(vstar) == (
        "What is the material of the glove? Answer the question using a single word or phrase."
    )


def test_what_stands_in_rows_in_ways_of_its_own(mirror: Path) -> None:
    vstar = questions_of("vstar", mirror)
    assert vstar[0].options == ("rubber", "cotton", "kevlar", "leather")
    assert [question.answers for question in vstar] == [("A",), ("B",), ("D",)]
    aokvqa = questions_of("aokvqa", mirror)
    assert aokvqa[0].answers[5:] == ("bus", "taxi", "it's there", "travel", "train")
    assert questions_of("aokvqa-choice", mirror)[0].answers == ("D",)
    assert questions_of("cvbench", mirror)[1].answers == ("B",)
    assert questions_of("vqav2", mirror)[1].answers == ("2",) * 7 + ("two",) * 3
    assert [question.cycle for question in questions_of("hrbench4k", mirror)] == [
        f"cycle_{n}" for n in range(4)
    ]
    assert questions_of("textvqa-boxes", mirror)[0].boxes == ((10, 5, 30, 13),)


def test_a_parquet_file_alone_does(mirror: Path, tmp_path: Path) -> None:
    path = tmp_path / "val.parquet"
    with_pictures("textvqa").to_parquet(str(path))
    found = open_benchmark(BENCHMARKS["textvqa"], path)
    assert [found.question(row) for row in range(3)] == questions_of("textvqa", mirror)


def test_two_copies_of_one_name_are_read_as_they_are(tmp_path: Path) -> None:
    """The library itself keeps what it made of the first, by the directory's name and card."""
    first, second = (write_hub("vstar", tmp_path / name) for name in ("first", "second"))
    [path] = second.rglob("*.parquet")
    table = pyarrow.parquet.read_table(path)
    place = table.schema.get_field_index("label")
    others = pyarrow.array(["C"] * len(table))
    pyarrow.parquet.write_table(table.set_column(place, table.schema.field(place), others), path)
    of_first, of_second = (open_benchmark(BENCHMARKS["vstar"], copy) for copy in (first, second))
    assert of_first.question(0).answers != of_second.question(0).answers == ("C",)
    assert of_first.origin.revision != of_second.origin.revision


def test_a_saved_data_set_does(mirror: Path, tmp_path: Path) -> None:
    with_pictures("textvqa").save_to_disk(str(tmp_path / "saved"))
    found = open_benchmark(BENCHMARKS["textvqa"], tmp_path / "saved")
    assert found.question(2) == questions_of("textvqa", mirror)[2]
    assert found.picture(2) == png(2)


def test_the_new_place_is_tried_before_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def load(source: str, place: object, digest: object) -> object:
        tried.append(source)
        if source.startswith("lmms-lab-encoder/"):
            raise ConnectionError("no such data set")
        return with_pictures("textvqa")

    monkeypatch.setattr(hub, "_load", load)
    found = open_benchmark(BENCHMARKS["textvqa"])
    assert tried == ["lmms-lab-encoder/textvqa", "lmms-lab/textvqa"]
    assert found.origin.dataset == "lmms-lab/textvqa"


def test_offline_nothing_is_fetched_and_what_was_tried_is_said() -> None:
    """HF_HUB_OFFLINE is set for all tests."""
    with pytest.raises(
        DatasetError, match=r"tried lmms-lab-encoder/textvqa .* lmms-lab/textvqa .*BENCHMARK=PATH"
    ):
        open_benchmark(BENCHMARKS["textvqa"])


def test_the_commit_of_the_hub_is_told_from_the_files() -> None:
    class Info:
        download_checksums = dict.fromkeys([f"hf://datasets/a/b@{'c' * 40}/x.parquet"])

    class Table:
        info = Info()

    assert hub._commit(Table()) == "c" * 40  # type: ignore[arg-type]
    assert hub._commit(object()) == "unknown"  # type: ignore[arg-type]


def test_a_row_of_another_layout_is_refused_by_its_column(mirror: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    with_pictures("textvqa").rename_column("answers", "answer").to_parquet(str(path))
    with pytest.raises(DatasetError, match=r"has no column 'answers'.*did you mean 'answer'"):
        open_benchmark(BENCHMARKS["textvqa"], path).question(0)
    with_pictures("textvqa").rename_column("image", "picture").to_parquet(str(tmp_path / "bare.parquet"))
    with pytest.raises(DatasetError, match="has no column 'image'"):
        open_benchmark(BENCHMARKS["textvqa"], tmp_path / "bare.parquet")


def test_a_picture_that_is_none_is_that_questions_error(tmp_path: Path) -> None:
    path = tmp_path / "hr.parquet"
    table = with_pictures("hrbench4k").map(lambda row: {"image": "no base64!"})
    table.to_parquet(str(path))
    found = open_benchmark(BENCHMARKS["hrbench4k"], path)
    assert found.question(0).category == "single"
    with pytest.raises(ImageError, match="is no base64"):
        found.picture(0)


def test_an_unknown_benchmark_is_refused_with_the_nearest() -> None:
    with pytest.raises(Exception, match="did you mean 'textvqa'"):
        find_benchmark("textvqaa")
