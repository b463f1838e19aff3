"""The soak in its short form: all kinds of hostile requests against a server in a process of its own."""

from __future__ import annotations

import random

from scripts.soak import soak, table
from scripts.soak_attacks import MAKERS, STALL, Attack, attacks
from scripts.soak_client import CLOSED, GONE, judge

REQUESTS = 300


def test_a_server_under_hostile_requests_stays_right_and_small() -> None:
    report = soak(REQUESTS, seed=7)
    assert report.wrong == [], table(report)
    assert len(report.results) == len(MAKERS)
    assert sum(results.total() for results in report.results.values()) == REQUESTS
    assert report.answered >= 1 + REQUESTS // 100
    for results in report.results.values():
        assert set(results) <= {GONE, CLOSED} or all(int(each) < 500 for each in set(results) - {CLOSED})


def test_the_same_seed_makes_the_same_attacks() -> None:
    assert [make() for make in attacks(3, 40)] == [make() for make in attacks(3, 40)]
    assert [make() for make in attacks(3, 40)] != [make() for make in attacks(4, 40)]
    assert {make(random.Random(0)).manner for _, make in MAKERS} >= {STALL}


def test_the_judge_knows_a_bad_answer() -> None:
    """What the soak would report, were a server to answer so."""

    def wrong(
        body: bytes, status: str = "400 Bad Request", kind: str = "application/json", **how: bool
    ) -> str:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return judge(Attack("a kind", b"", **how), head.encode() + body).wrong or ""  # type: ignore[arg-type]

    error = b'{"error": {"message": "no", "type": "a", "param": null, "code": null}}'
    assert wrong(error) == ""
    assert "status 200" in wrong(b"{}", "200 OK")
    assert wrong(b"{}", "200 OK", may_answer=True) == ""
    assert "status 500" in wrong(error, "500 Internal Server Error")
    assert "without an error document" in wrong(b"no")
    assert "without an error document" in wrong(error, kind="text/plain")
    assert "without an error document" in wrong(b'{"error": {"message": "", "type": "a"}}')
    assert "inside" in wrong(error.replace(b"no", b"in /usr/lib/a.py"))
    assert "without an answer" in (judge(Attack("a kind", b""), b"").wrong or "")
    assert judge(Attack("a kind", b"", may_close=True), b"").wrong is None
