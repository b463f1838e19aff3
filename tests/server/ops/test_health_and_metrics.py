"""When a server is ready, and what it counts."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.server.fake_scheduler import FakeScheduler, an_answer
from tests.server.running import Running, chat, demo_picture, serving, small_picture, wait_until
from vicrop_engine.errors import RunError


def ended(found: dict[str, float]) -> float:
    """Requests that have ended, which they do after their answer is sent."""
    return sum(value for name, value in found.items() if name.startswith("vicrop:requests_total["))


def counted(server: Running, requests: float) -> dict[str, float]:
    """The samples when so many requests have ended."""
    wait_until(lambda: ended(samples(server)) >= requests, "the count")
    return samples(server)


def samples(server: Running) -> dict[str, float]:
    """Every sample by name, with its label's value in brackets."""
    with server.http() as http:
        response = http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = [value for key, value in sample.labels.items() if key != "le"]
            found[f"{sample.name}[{labels[0]}]" if labels else sample.name] = sample.value
    return found


def health(server: Running) -> tuple[int, str]:
    with server.http() as http:
        response = http.get("/health")
    return response.status_code, response.json()["status"]


def test_ready_only_after_the_first_question_and_not_while_draining() -> None:
    scheduler = FakeScheduler(cold=True)
    with serving(scheduler) as server:
        assert health(server) == (503, "warming up")
        wait_until(lambda: scheduler.warm_up is not None)
        scheduler.warm_up.future.set_result(an_answer())
        wait_until(lambda: health(server) == (200, "ready"), "readiness")
        server.app.state.readiness.drain()
        assert health(server) == (503, "draining")


def test_never_ready_when_the_first_question_fails() -> None:
    scheduler, told = FakeScheduler(cold=True), []
    with serving(scheduler) as server:
        server.app.state.readiness.on_failure = lambda: told.append(True)
        wait_until(lambda: scheduler.warm_up is not None)
        scheduler.warm_up.future.set_exception(RunError("no memory"))
        wait_until(lambda: told, "the failure")
        assert health(server) == (503, "failed")
        assert str(server.app.state.readiness.failure) == "no memory"


def test_gauges_are_the_schedulers() -> None:
    with serving(FakeScheduler()) as server:
        found = samples(server)
    assert found["vicrop:num_requests_running"] == 3
    assert found["vicrop:num_requests_waiting"] == 2
    assert found["vicrop:kv_cache_usage_perc"] == 0.25


def ask(scheduler: FakeScheduler, server: Running, **facts: Any) -> Any:
    """The answer to a request whose handle ends with these facts: `tally`, `shared` and the answer's own."""
    scheduler.tally, scheduler.shared = facts.pop("tally", {}), facts.pop("shared", False)
    scheduler.answer = an_answer(**facts)
    return server.post(chat("What is it?", small_picture())).json()


def test_a_request_is_counted_with_what_it_reused() -> None:
    scheduler = FakeScheduler()
    tally = {"prefix_hits": 1, "vision_hits": 2, "vision_images": 3, "general_prefills": 1}
    with serving(scheduler) as server:
        answer = ask(
            scheduler, server, tally=tally, crop_box=(0, 0, 5, 5), tiles=((0, 0, 9, 9), (9, 0, 18, 9))
        )
        found = counted(server, 1)
    assert answer["vicrop"]["reused"] == {"prefix": 1, "image_embeds": 2, "general": 0, "shared": False}
    wanted = {
        "prefix_cache_queries_total": 1,
        "prefix_cache_hits_total": 1,
        "image_cache_queries_total": 5,
        "image_cache_hits_total": 2,
        "general_cache_queries_total": 1,
        "general_cache_hits_total": 0,
        "requests_shared_total": 0,
        "prompt_tokens_total": 140,
        "prompt_tokens_cached_total": 40,
        "generation_tokens_total": 5,
        "crops_made_total": 1,
        "crops_skipped_total": 0,
        "tiles_total": 2,
        "requests_total[200]": 1,
        "time_to_first_token_seconds_sum": 2.0,
        "e2e_request_latency_seconds_count": 1,
        "stage_seconds_sum[prefill]": 0.25,
        "stage_seconds_sum[decode]": 0.5,
    }
    assert {name: round(found[f"vicrop:{name}"], 6) for name in wanted} == wanted
    assert round(found["vicrop:request_queue_time_seconds_sum"], 6) == 0.03
    assert "vicrop:stage_seconds_sum[total]" not in found


def test_work_that_was_anothers_is_not_counted_twice() -> None:
    scheduler = FakeScheduler()
    with serving(scheduler) as server:
        answer = ask(scheduler, server, shared=True, crop_skipped=True)
        found = counted(server, 1)
    assert answer["vicrop"]["reused"]["shared"] is True
    assert found["vicrop:requests_shared_total"] == 1
    assert found["vicrop:generation_tokens_total"] == 5
    assert found["vicrop:crops_skipped_total"] == 0
    assert "vicrop:stage_seconds_sum[prefill]" not in found


def test_real_answers_move_the_counters(server: Running) -> None:
    before = samples(server)
    document = server.post(chat(picture=demo_picture())).json()
    server.post(chat(n=3))
    after = counted(server, ended(before) + 2)
    moved = {name: after[name] - before.get(name, 0.0) for name in after}
    assert moved["vicrop:generation_tokens_total"] == document["vicrop"]["tokens"]["decoded"]
    assert moved["vicrop:prompt_tokens_total"] == document["usage"]["prompt_tokens"]
    assert moved["vicrop:crops_made_total"] == 1
    assert moved["vicrop:requests_total[200]"] == 1
    assert moved["vicrop:requests_total[400]"] == 1
    assert moved["vicrop:time_to_first_token_seconds_count"] == 1
    assert moved["vicrop:stage_seconds_count[crop_prefill]"] == 1
    assert (after["vicrop:num_requests_running"], after["vicrop:num_requests_waiting"]) == (0, 0)
