"""What Prometheus is told, under the names the field uses. Counts what handles and answers say."""

from __future__ import annotations

from concurrent.futures import Future

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.answer import Answer

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._registry = CollectorRegistry()
        self._gauges(scheduler)
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "From a request's arrival to the first token of an answer."
        )
        self.latency = self._histogram(
            "e2e_request_latency_seconds", "From a request's arrival to its whole answer."
        )
        self.queue_time = self._histogram(
            "request_queue_time_seconds", "From a request's arrival to the begin of work on it."
        )
        self.stages = self._histogram("stage_seconds", "Time of a request in a stage.", "stage")
        self.prefix_queries = self._counter("prefix_cache_queries", "Pictures whose prefix was looked up.")
        self.prefix_hits = self._counter("prefix_cache_hits", "Pictures whose prefix was there.")
        self.image_queries = self._counter(
            "image_cache_queries", "Pictures, tiles and crops whose embeds were looked up."
        )
        self.image_hits = self._counter(
            "image_cache_hits", "Pictures, tiles and crops whose embeds were there."
        )
        self.general_queries = self._counter("general_cache_queries", "General prompts looked up.")
        self.general_hits = self._counter("general_cache_hits", "General prompts whose row was there.")
        self.shared = self._counter("requests_shared", "Requests answered with another's work.")
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of answered requests.")
        self.cached_tokens = self._counter("prompt_tokens_cached", "Of these, taken from a KV cache.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens generated, of both answers.")
        self.crops_made = self._counter("crops_made", "Answers with a crop.")
        self.crops_skipped = self._counter("crops_skipped", "Crops left out as unlikely to matter.")
        self.tiles = self._counter("tiles", "Tiles looked at.")
        self.requests = self._counter("requests", "Answered chat requests by HTTP status.", "status")

    def follow(self, handle: RequestHandle) -> None:
        """Count the handle when it is done, whoever still waits for it."""
        handle.future.add_done_callback(lambda future: self._count(handle, future))

    def render(self) -> bytes:
        """The text that is scraped."""
        return generate_latest(self._registry)

    def _count(self, handle: RequestHandle, future: Future[Answer]) -> None:
        now = handle.clock()
        if handle.began is not None:
            self.queue_time.observe(handle.began - handle.arrived)
        if handle.first_token is not None:
            self.time_to_first_token.observe(handle.first_token - handle.arrived)
        self._count_reuse(handle)
        if not future.cancelled() and future.exception() is None:
            self.latency.observe(now - handle.arrived)
            self._count_answer(future.result(), shared=handle.shared)

    def _count_reuse(self, handle: RequestHandle) -> None:
        seen = handle.counters
        self.prefix_queries.inc(seen.prefix_hits + seen.prefix_prefills)
        self.prefix_hits.inc(seen.prefix_hits)
        self.image_queries.inc(seen.vision_hits + seen.vision_images)
        self.image_hits.inc(seen.vision_hits)
        self.general_queries.inc(seen.general_hits + seen.general_prefills)
        self.general_hits.inc(seen.general_hits)
        self.shared.inc(handle.shared)

    def _count_answer(self, answer: Answer, *, shared: bool) -> None:
        self.prompt_tokens.inc(answer.tokens.prefill + answer.tokens.reused)
        self.cached_tokens.inc(answer.tokens.reused)
        self.generation_tokens.inc(answer.tokens.decoded)
        if shared:  # whose stages and crop were another request's
            return
        for stage, seconds in answer.timings.items():
            if stage != "total":
                self.stages.labels(stage=stage).observe(seconds)
        self.crops_made.inc(answer.crop_box is not None)
        self.crops_skipped.inc(answer.crop_skipped)
        self.tiles.inc(len(answer.tiles))

    def _gauges(self, scheduler: Scheduler) -> None:
        for name, text, read in (
            ("num_requests_running", "Requests under way.", lambda: scheduler.running),
            ("num_requests_waiting", "Requests accepted and not begun.", lambda: scheduler.waiting),
            (
                "kv_cache_usage_perc",
                "Share of the KV slots in use, 0 to 1.",
                lambda: scheduler.kv_usage,
            ),
        ):
            Gauge(f"vicrop:{name}", text, registry=self._registry).set_function(read)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"vicrop:{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"vicrop:{name}", text, labels, registry=self._registry, buckets=SECONDS)
