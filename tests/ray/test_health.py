"""When a replica says that only a new one helps, and when Ray finds that its extra is missing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.ray.cluster import PLAN
from vicrop_engine.counters import Tally
from vicrop_engine.errors import DeadlineError, RunError, WorkFailedError
from vicrop_engine.ray_serve.messages import Asked
from vicrop_engine.ray_serve.replica import FAILURES, Replica
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.vicrop.params import AskParams


@pytest.fixture
def replica() -> Iterator[Replica]:
    """A replica in this process, with no Ray around it."""
    replica = Replica(PLAN)
    yield replica
    replica.__del__()


def end_next(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, error: Exception | None, late: float = 0.0
) -> None:
    """Have one request end with the error, or, without one, not end at all; it came `late` seconds ago."""
    handle = RequestHandle(1, deadline=-late, tally=Tally())
    if error is not None:
        handle.future.set_exception(error)
    monkeypatch.setattr(replica._scheduler, "submit", lambda *_, **__: handle)

    async def ask() -> None:
        async for _ in replica.ask(Asked(b"", "What?", AskParams(), 1.0)):
            pass

    async def ask_for_a_moment() -> None:
        asking = asyncio.create_task(ask())
        await asyncio.wait([asking], timeout=0.05 if error is None else None)
        try:
            await replica.check_health()
        finally:
            asking.cancel()

    asyncio.run(ask_for_a_moment())


def test_a_replica_whose_graphs_fail_again_and_again_is_ill(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(FAILURES - 1):
        end_next(replica, monkeypatch, RunError("the device is lost"))
    with pytest.raises(WorkFailedError, match="last 3 requests failed"):
        end_next(replica, monkeypatch, RunError("the device is lost"))


def test_requests_that_end_late_or_with_bad_input_are_no_illness(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(FAILURES):
        end_next(replica, monkeypatch, DeadlineError("too late"))
    for _ in range(FAILURES - 1):  # so that none of those before was counted
        end_next(replica, monkeypatch, RunError("the device is lost"))
    with pytest.raises(WorkFailedError, match="last 3 requests failed"):
        end_next(replica, monkeypatch, RunError("the device is lost"))


def test_a_request_that_does_not_end_long_after_its_deadline_is_an_illness(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_next(replica, monkeypatch, None, late=PLAN.scale.stuck_seconds - 5)
    with pytest.raises(WorkFailedError, match="seconds after its deadline"):
        end_next(replica, monkeypatch, None, late=PLAN.scale.stuck_seconds + 5)


def test_without_its_extra_the_application_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['ray'] = None\n"
        "from vicrop_engine.errors import ViCropError\n"
        "try:\n    import vicrop_engine.ray_serve\n"
        "except ViCropError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "needs ray, which is not installed; run pip install 'vicrop-engine[cpu,serve,ray]'" in done.stdout
