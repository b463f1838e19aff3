"""Spans of a request and its stages, kept in memory instead of sent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.server.fake_scheduler import FakeScheduler, an_answer
from tests.server.running import chat, serving, small_picture, wait_until
from vicrop_engine.errors import RunError
from vicrop_engine.server.ops import traces
from vicrop_engine.server.ops.traces import NoTraces, SentTraces, open_traces
from vicrop_engine.timing import Span

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def sent(exporter: InMemorySpanExporter) -> Iterator[SentTraces]:
    """Traces that end in the exporter."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield SentTraces(provider)
    provider.shutdown()


def spans(exporter: InMemorySpanExporter, count: int) -> dict[str, ReadableSpan]:
    wait_until(lambda: len(exporter.get_finished_spans()) == count, "the spans")
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_has_its_stages_below_it(sent: SentTraces, exporter: InMemorySpanExporter) -> None:
    scheduler = FakeScheduler()
    stages = (Span("prefill", 10.0, 10.25), Span("decode", 10.25, 10.75))
    scheduler.answer = an_answer(spans=stages)
    with serving(scheduler, traces=sent) as server:
        server.post(chat("What?", small_picture()), traceparent=PARENT, **{"X-Request-Id": "trace-7"})
        found = spans(exporter, 4)
    request = found["chat.completions"]
    assert f"{request.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{request.parent.span_id:016x}" == PARENT.split("-")[2]
    wanted = {"vicrop.request_id": "trace-7", "vicrop.shared": False, "gen_ai.usage.input_tokens": 140}
    assert {key: request.attributes[key] for key in wanted} == wanted
    assert "What?" not in str(dict(request.attributes))
    for name, seconds in (("queue", 0.03), ("prefill", 0.25), ("decode", 0.5)):
        span = found[name]
        assert span.parent.span_id == request.context.span_id
        assert (span.end_time - span.start_time) / 1e9 == pytest.approx(seconds, abs=1e-5)
    assert found["decode"].start_time == found["prefill"].end_time


def test_stages_of_anothers_work_are_not_told_again(sent: SentTraces, exporter: InMemorySpanExporter) -> None:
    scheduler = FakeScheduler()
    scheduler.shared, scheduler.answer = True, an_answer(spans=(Span("prefill", 0.0, 1.0),))
    with serving(scheduler, traces=sent) as server:
        server.post(chat("What?", small_picture()))
        found = spans(exporter, 2)
    assert set(found) == {"chat.completions", "queue"}
    assert found["chat.completions"].parent is None


def test_a_failure_is_marked(sent: SentTraces, exporter: InMemorySpanExporter) -> None:
    scheduler = FakeScheduler()
    handle = scheduler.submit(b"", "What?")
    sent.follow(handle, {}, "r")
    handle.future.set_exception(RunError("/secret"))
    status = spans(exporter, 1)["chat.completions"].status
    assert (status.status_code.name, status.description) == ("ERROR", "RunError")


def test_nothing_is_sent_unless_an_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in traces.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)  # an import of it would fail
    assert isinstance(open_traces(), NoTraces)


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, EXPORTER, None)
    assert isinstance(open_traces(), NoTraces)
    assert "pip install 'vicrop-engine[traces]'" in caplog.text


def test_an_endpoint_gets_them(monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    parts = EXPORTER.split(".")
    for count in range(2, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:count]), ModuleType(".".join(parts[:count])))
    monkeypatch.setitem(sys.modules, EXPORTER, SimpleNamespace(OTLPSpanExporter=lambda: exporter))
    opened = open_traces()
    handle = FakeScheduler().submit(b"", "What?")
    opened.follow(handle, {}, "r")
    handle.future.set_result(an_answer())
    opened.close()
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == "vicrop-engine"
