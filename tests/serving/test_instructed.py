"""Questions about one picture side by side, where each has image tokens of its own."""

from __future__ import annotations

from typing import Any

from tests.engines import BLIPS, built_blip
from tests.serving.conftest import Start
from tests.serving.test_own_sizes import check_under_load, requests
from vicrop_engine import ViCropEngine

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"method": "grad-att"},
    {"method": "none"},
    {"first_answer": False},
    {"localize": "Where is the sign?"},
    {"method": "grad-att", "localize": "Where is the sign?"},
    {"high_res": "on"},
    {"compat": "mllms-know"},
)


def test_answers_under_load_are_those_of_requests_one_by_one(start: Start) -> None:
    engine = ViCropEngine.load(built_blip(BLIPS["every other layer looks"]).engine, threads=1)
    check_under_load(start, engine, requests(KINDS))
