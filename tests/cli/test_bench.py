"""`bench` on the embedded engine and on a server of it: its document, table and picture, and refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.requests import Request

from tests.cli.conftest import Run, refused
from tests.server.running import serving
from vicrop_engine import ViCropEngine
from vicrop_engine.measure.bench.in_process import ScheduledEngine
from vicrop_engine.measure.bench.outcome import Outcome
from vicrop_engine.measure.bench.workload import Query
from vicrop_engine.server.problem import Problem
from vicrop_engine.server.routes import Routes
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler

SHORT = ("--requests", "8", "--concurrency", "4")


def test_an_engine_under_load_and_one_at_a_time(run: Run) -> None:
    ran = run("bench", "llava-signs", *SHORT, "--high-res-share", "0.5", "--threads", "1", "--json")
    assert ran.status == 0, ran.err
    document = json.loads(ran.out)
    assert document["load"] == {
        **{"requests": 8, "images_reuse": 4, "users": 4, "high_res_share": 0.5, "seed": 0},
        **{"concurrency": 4, "rate": None},
    }
    assert document["engine"]["model"] == "llava-signs"
    assert document["machine"]["threads"] == 1
    runs = document["runs"]
    assert {name: made["answers"] for name, made in runs.items()} == {
        "under_load": 8,
        "short_ones_alone": 4,
        "one_at_a_time": 8,
    }
    for made in runs.values():
        assert made["errors"] == {}
        assert 0 < made["ttft"]["p50"] <= made["latency"]["p50"] <= made["latency"]["p99"]
        assert made["processor"] > 0
    assert set(runs["under_load"]["latency_by_kind"]) == {"short", "high-res"}
    assert runs["one_at_a_time"]["reused"] == dict.fromkeys(
        ("prefix", "image_embeds", "general", "shared"), 0
    )
    assert set(document["ratios"]) == {"throughput", "processor", "short_p95", "short_p50"}


def test_the_table_and_the_picture(run: Run, tmp_path: Path) -> None:
    plot = tmp_path / "load.png"
    ran = run("bench", "llava-signs", "--requests", "4", "--rate", "200", "--no-baseline", "--plot", plot)
    assert ran.status == 0, ran.err
    assert "4 questions, 4 a picture, 200 a second at random moments" in ran.out
    assert "end to end, p95" in ran.out
    assert "Every answer and crop box is the one given one by one." in ran.out
    assert "÷ one at a time" not in ran.out
    with Image.open(plot) as image:
        assert image.width == 1600


def test_a_server_is_asked_as_a_client_asks(run: Run) -> None:
    with Scheduler(ViCropEngine.load("llava-signs")) as scheduler, serving(scheduler) as server:
        ran = run("bench", server.url, *SHORT, "--json")
    assert ran.status == 0, ran.err
    document = json.loads(ran.out)
    assert (document["server"], document["model"]) == (server.url, "llava-signs")
    load = document["runs"]["under_load"]
    assert (load["answers"], load["errors"], load["processor"]) == (8, {}, None)
    assert 0 < load["ttft"]["p50"] <= load["latency"]["p50"]
    assert document["runs"]["one_at_a_time"]["answers"] == 8


def test_errors_of_a_server_are_counted(run: Run) -> None:
    class Choosy(Scheduler):
        def submit(self, image: Any, question: str, *settings: Any, **keywords: Any) -> RequestHandle:
            asked = question if "circle" not in question else " "
            return super().submit(image, asked, *settings, **keywords)

    with Choosy(ViCropEngine.load("llava-signs")) as scheduler, serving(scheduler) as server:
        ran = run("bench", server.url, "--requests", "16", "--json")
    assert ran.status == 0, ran.err
    load = json.loads(ran.out)["runs"]["under_load"]
    assert set(load["errors"]) == {"status 400"}
    assert load["answers"] == 16 - load["errors"]["status 400"]


def test_answers_that_differ_under_load_are_not_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ScheduledEngine.ask

    def ask(self: ScheduledEngine, query: Query, start: float | None = None) -> Outcome:
        outcome = right(self, query, start)
        assert outcome.said is not None
        return dataclasses.replace(outcome, said=dataclasses.replace(outcome.said, answer="wrong"))

    monkeypatch.setattr(ScheduledEngine, "ask", ask)
    ran = run("bench", "llava-signs", *SHORT, "--json")
    assert ran.status == 1
    assert ran.out == ""
    assert "8 of 8 answers are not those given one by one" in ran.err


def test_what_cannot_be_used_is_refused(run: Run, tmp_path: Path) -> None:
    for wrong, *words in (
        (("--concurrency", "0"), "--concurrency 0", "1 or more"),
        (("--rate", "0"), "--rate 0", "above 0"),
        (("--requests", "0"), "requests 0"),
        (("--high-res-share", "2"), "high_res_share 2"),
        (("--images-reuse", "9"), "no picture of the list has 9 questions"),
        (("--plot", str(tmp_path / "plot.jpg")), "ends in .png"),
        (("--method", "rel-at"), "did you mean 'rel-att'"),
        (("--examples", str(tmp_path / "none.json")), "none.json"),
    ):
        refused(run("bench", "llava-signs", *wrong), *words)
    refused(run("bench", "ftp://127.0.0.1/"), "wanted the address of a server")


def test_a_server_that_is_not_there_is_said(run: Run) -> None:
    ran = run("bench", "http://127.0.0.1:9/", *SHORT)
    assert (ran.status, ran.out) == (1, "")
    assert "no list of models came from the server" in ran.err


def test_what_a_server_refuses_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def closed(*_: object) -> None:
        raise Problem(401, "this server wants a key")

    monkeypatch.setattr(Routes, "models", closed)
    with Scheduler(ViCropEngine.load("llava-signs")) as scheduler, serving(scheduler) as server:
        ran = run("bench", server.url)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "error: status 401 from the server: this server wants a key\n"


def test_a_key_is_handed_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def seconds(_: Routes, request: Request) -> float:
        seen.add(request.headers["authorization"])
        return 30.0

    monkeypatch.setenv("VICROP_API_KEY", "a-key-of-mine")
    monkeypatch.setattr(Routes, "_seconds", seconds)
    with Scheduler(ViCropEngine.load("llava-signs")) as scheduler, serving(scheduler) as server:
        ran = run("bench", server.url, "--requests", "1", "--images-reuse", "1")
    assert ran.status == 0, ran.err
    assert seen == {"Bearer a-key-of-mine"}
