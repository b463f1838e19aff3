"""OpenTelemetry's spans of a request and its stages, when an endpoint to send them to is named.

Spans are made once a request is done, of the times that handle and answer hold: while it runs they cost
nothing. Where OpenTelemetry is not installed nothing of it is imported.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.vicrop.answer import Answer

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
INSTALL = "pip install 'vicrop-engine[traces]'"
NAME = "vicrop_engine"

logger = logging.getLogger("vicrop_engine.server")


class Traces(Protocol):
    """Where the spans of requests go."""

    def follow(self, handle: RequestHandle, headers: Mapping[str, str], request_id: str) -> None:
        """Make the handle's spans when it is done; the headers may name a trace it belongs to."""

    def close(self) -> None:
        """Send what is left."""


class NoTraces:
    """Nowhere."""

    def follow(self, handle: RequestHandle, headers: Mapping[str, str], request_id: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class SentTraces:
    """To the exporters of a provider."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider, self._tracer = provider, provider.get_tracer(NAME)

    def close(self) -> None:
        """As `Traces` says."""
        self._provider.shutdown()

    def follow(self, handle: RequestHandle, headers: Mapping[str, str], request_id: str) -> None:
        """As `Traces` says."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(dict(headers))
        handle.future.add_done_callback(lambda future: self._send(handle, future, parent, request_id))

    def _send(self, handle: RequestHandle, future: Future[Answer], parent: Context, request_id: str) -> None:
        from opentelemetry import trace

        error = future.exception()
        answer = future.result() if error is None else None
        at = _nanoseconds(handle.clock)
        request = self._tracer.start_span(
            "chat.completions",
            parent,
            trace.SpanKind.SERVER,
            {"vicrop.request_id": request_id, "vicrop.shared": handle.shared, **_facts(answer)},
            start_time=at(handle.arrived),
        )
        inside = trace.set_span_in_context(request)
        if error is not None:
            request.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
        if handle.began is not None:
            self._span("queue", inside, at(handle.arrived), at(handle.began))
        if answer is not None and not handle.shared:  # whose stages were another request's
            stage_at = _nanoseconds(handle.tally.clock)
            for stage, start, end in answer.spans:
                self._span(stage, inside, stage_at(start), stage_at(end))
        request.end(at(handle.clock()))

    def _span(self, name: str, context: Context, start: int, end: int) -> None:
        self._tracer.start_span(name, context, start_time=start).end(end)


def open_traces() -> Traces:
    """What the environment asks for: OTEL_EXPORTER_OTLP_ENDPOINT and its kin, as OpenTelemetry reads them.

    Without an endpoint, or without the packages, which is then said in the log, there are none.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return NoTraces()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("an endpoint for traces is set and OpenTelemetry is not installed; run %s", INSTALL)
        return NoTraces()
    name = os.environ.get("OTEL_SERVICE_NAME", "vicrop-engine")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return SentTraces(provider)


def _facts(answer: Answer | None) -> dict[str, Any]:
    """OpenTelemetry's own names where it has them; nothing of question, picture or text."""
    if answer is None:
        return {}
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": answer.engine.model,
        "gen_ai.usage.input_tokens": answer.tokens.prefill + answer.tokens.reused,
        "gen_ai.usage.output_tokens": len(answer.token_ids),
        "vicrop.method": answer.method,
        "vicrop.high_res": answer.high_res,
        "vicrop.crop_skipped": answer.crop_skipped,
    }


def _nanoseconds(clock: Callable[[], float]) -> Callable[[float], int]:
    """From seconds of a clock to nanoseconds of the epoch."""
    offset = time.time_ns() - int(clock() * 1e9)
    return lambda seconds: offset + int(seconds * 1e9)
