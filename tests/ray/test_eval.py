"""`eval --ray`: the file of a run in this process, byte for byte, by two engines on Ray."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import pyarrow.parquet
import pytest
import ray.data

from tests.evaluation.data_cache import data_cache
from tests.evaluation.miniatures import write_hub
from tests.own_home import own_home
from vicrop_engine import cli

__all__ = ["data_cache", "own_home"]
HERE = ("--limit", "6", "--methods", "none", "rel-att")


def asking(out: Path, *more: str) -> list[str]:
    return ["eval", "llava-signs", *more, *HERE, "--out", str(out)]


def on_ray(out: Path, *more: str) -> None:
    with warnings.catch_warnings():  # Ray's own, when it is first asked for its settings
        warnings.filterwarnings("ignore", ".* is deprecated", DeprecationWarning, r"ray\.data\.context")
        ray.data.DataContext.get_current().enable_progress_bars = False
    assert cli.main([*asking(out, *more), "--ray", "--actors", "2"]) == 0


def test_two_engines_on_ray_give_the_same_file(cluster: None, tmp_path: Path) -> None:
    assert cli.main(asking(tmp_path / "here", "signs")) == 0
    on_ray(tmp_path / "ray", "signs")
    here, there = ((tmp_path / name / "answers.jsonl").read_bytes() for name in ("here", "ray"))
    assert here == there
    assert here.count(b"\n") == 12
    cost = json.loads((tmp_path / "ray" / "report.json").read_text())["benchmarks"][0]["cost"]
    assert all(each["seconds"] > 0 for each in cost)


def test_it_goes_on_where_the_other_ended_and_counts_what_fails(cluster: None, tmp_path: Path) -> None:
    """Pictures that are content, with one that is none."""
    copy = write_hub("hrbench4k", tmp_path)
    [path] = copy.rglob("*.parquet")
    rows = pyarrow.parquet.read_table(path)
    pictures = ["!" if number == 2 else each for number, each in enumerate(rows["image"].to_pylist())]
    place = rows.schema.get_field_index("image")
    pyarrow.parquet.write_table(rows.set_column(place, rows.schema.field(place), [pictures]), path)
    name = f"hrbench4k={copy}"
    assert cli.main(asking(tmp_path / "here", name)) == 0
    whole = (tmp_path / "here" / "answers.jsonl").read_bytes()
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "answers.jsonl").write_bytes(whole[: len(whole) // 2])
    on_ray(tmp_path / "ray", name)
    assert (tmp_path / "ray" / "answers.jsonl").read_bytes() == whole
    errors = [json.loads(line)["error"] for line in whole.decode().splitlines()]
    assert [number for number, error in enumerate(errors) if error] == [4, 5]


def test_boxes_are_not_asked_on_ray(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"textvqa-boxes={write_hub('textvqa-boxes', tmp_path)}"
    assert cli.main(["eval", "llava-signs", name, "--ray", "--out", str(tmp_path / "out")]) == 2
    assert "leave --ray out" in capsys.readouterr().err


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "vicrop_engine.ray_data.job", raising=False)
    assert cli.main([*asking(tmp_path / "out", "signs"), "--ray"]) == 1
    assert "pip install 'vicrop-engine[cpu,serve,ray]'" in capsys.readouterr().err
