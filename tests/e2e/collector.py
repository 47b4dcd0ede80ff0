"""A real OTLP receiver on the loopback: it takes ExportTraceServiceRequests and keeps their spans."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True)
class Seen:
    """One span, its ids in hexadecimal; `service` is the program that it is of."""

    name: str
    service: str
    trace: str
    id: str
    parent: str
    failed: bool
    attributes: dict[str, str | int | bool]


def _value(value: AnyValue) -> str | int | bool:
    told: str | int | bool = getattr(value, value.WhichOneof("value") or "string_value")
    return told


class Collector:
    """Spans of any programs that send them here, in the order in which they came."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.paths: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.paths.add(self.path)
                asked = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
                collector.spans += collector.read(asked)
                told = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @staticmethod
    def read(asked: ExportTraceServiceRequest) -> list[Seen]:
        return [
            Seen(
                span.name,
                str({pair.key: _value(pair.value) for pair in of.resource.attributes}["service.name"]),
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.status.code == span.status.STATUS_CODE_ERROR,
                {pair.key: _value(pair.value) for pair in span.attributes},
            )
            for of in asked.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]

    def wait(self, wanted: Callable[[list[Seen]], bool], deadline_s: float = 15) -> list[Seen]:
        """What has come, once there is what is wanted."""
        end = time.monotonic() + deadline_s
        while not wanted(self.spans):
            assert time.monotonic() < end, self.spans
            time.sleep(0.02)
        return list(self.spans)
