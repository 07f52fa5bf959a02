"""Traces reach a collector, tell the request's number, and keep secrets to themselves."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from serving_here import NOW, until, url_of
from starlette.testclient import TestClient

from crm.errors import UsageError
from ledger.ledger import open_ledger
from serving import traces
from serving.api import create_api


@pytest.fixture
def collector():
    """An OTLP receiver on loopback: its address, and the spans that came."""
    spans: list = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/traces"
            spans.extend(s for r in sent.resource_spans for scope in r.scope_spans for s in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *told) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()


def told_of(span) -> dict[str, str]:
    return {each.key: str(each.value) for each in span.attributes}


@pytest.mark.slow
def test_spans_reach_the_collector_with_the_number_of_the_request_and_no_secret(workspace, collector, monkeypatch):
    endpoint, spans = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setattr(traces, "_tracers", [])
    secret, _ = open_ledger(url_of(workspace)).create_key("test", ["admin"], now=NOW)
    caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-request-id": "mine-1"}
    with TestClient(create_api(workspace, url_of(workspace)), headers={"x-api-key": secret}) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/v1/model?token=hidden", headers=caller).status_code == 200
        assert client.get("/v1/nothing").status_code == 404
    named = {span.name: span for span in spans}
    model = next(span for name, span in named.items() if "/v1/model" in name)
    assert model.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert "mine-1" in str(told_of(model)) and "load data and model" in named
    assert not any("readyz" in name for name in named)
    everything = str(spans)
    assert "hidden" not in everything and secret not in everything


def test_without_the_environment_variable_nothing_is_traced(monkeypatch):
    for name in traces.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert not traces.are_wanted()
    with traces.span("a step"):
        pass


def test_traces_without_their_extra_are_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UsageError) as refused:
        traces.begin_traces()
    assert "dealcast[traces]" in refused.value.details[0].next_step
