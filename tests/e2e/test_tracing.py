"""One trace from the client over a replica and Redis to the node's handler, as a real receiver gets it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from scheduler.client import AsyncClient, Client, NewJob
from scheduler.dev.process import stop
from scheduler.dev.server import free_port
from tests.e2e.collector import Collector, Seen
from tests.e2e.conftest import register, wait_until
from tests.e2e.processes import Processes
from tests.sharded import Shards

pytestmark = pytest.mark.timeout(120)

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def processes(redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    running = Processes(redis_url, tmp_path)
    yield running
    stop(running.started)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def tracer(collector: Collector) -> Iterator[Any]:
    """The test is a program that traces, too, with a provider of its own."""
    provider = TracerProvider(resource=Resource({"service.name": "caller"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")))
    yield provider.get_tracer("test")
    provider.shutdown()


def mark(url: str, node: str, how: str) -> None:
    assert httpx.post(f"{url}/v1/nodes/{node}/{how}", timeout=10).status_code == 200


def named(spans: list[Seen], name: str) -> list[Seen]:
    return [span for span in spans if span.name == name]


def parents(spans: list[Seen], span: Seen) -> list[str]:
    """The names of what the span is part of, from the outermost on."""
    by_id = {other.id: other for other in spans}
    path: list[str] = []
    while span.parent:
        span = by_id[span.parent]
        path.insert(0, f"{span.service}: {span.name}")
    return path


def test_a_job_that_is_placed_at_once_is_one_trace(processes: Processes, collector: Collector, tracer: Any) -> None:
    url = processes.replica({"FLEET_OTLP_ENDPOINT": collector.url})
    processes.node("n1", {"FLEET_OTLP_ENDPOINT": f"{collector.url}/"})
    with Client(url) as client:
        wait_until(lambda: [node.id for node in client.nodes()] == ["n1"], "the node is there", 20)
        with tracer.start_as_current_span("ask"):
            placed = client.place(NewJob(requires=["a"], wait_ms=10_000))
        done = client.wait(placed.job.id, deadline_s=20)
    spans = collector.wait(lambda spans: len(spans) >= 4)
    assert {span.trace for span in spans} == {spans[0].trace}
    (ask,), (place,), (run,) = (named(spans, name) for name in ("ask", "place job", "run job"))
    claims = named(spans, "claim")
    assert claims
    assert all(parents(spans, claim) == ["caller: ask", "fleet-replica: place job"] for claim in claims)
    assert (ask.parent, place.parent) == ("", ask.id)
    assert parents(spans, run) == ["caller: ask", "fleet-replica: place job"]
    # its last two digits are flags
    assert str(placed.job.traceparent)[:-2] == f"00-{ask.trace}-{place.id}-"
    assert done.result == f"{placed.job.traceparent} {ask.trace} 1"
    assert place.attributes["fleet.outcome"] in {"placed", "waiting"}
    assert (place.attributes["fleet.job.id"], place.attributes["fleet.tenant"]) == (placed.job.id, "default")
    if place.attributes["fleet.outcome"] == "placed":
        assert {
            name: place.attributes[f"fleet.{name}"] for name in ("node.id", "pool", "candidates", "conflict", "fence")
        } == {"node.id": "n1", "pool": "default", "candidates": 1, "conflict": False, "fence": placed.job.fence}
    assert (run.service, run.attributes["fleet.node.id"], run.attributes["fleet.attempt"]) == ("fleet-node", "n1", 1)
    assert collector.paths == {"/v1/traces"}


def test_a_job_that_waits_and_is_tried_again_stays_in_its_trace(
    processes: Processes, collector: Collector, tracer: Any
) -> None:
    url = processes.replica({"FLEET_OTLP_ENDPOINT": collector.url})
    with Client(url) as client:
        with tracer.start_as_current_span("ask"):
            job = NewJob(requires=["a"], payload="fail once", wait_ms=60_000, retry_failed=True)
            with pytest.raises(Exception, match=r"impossible|unavailable"):
                client.place(NewJob(requires=["a"]), deadline_s=2)
        processes.node("n1", {"FLEET_OTLP_ENDPOINT": collector.url})
        wait_until(lambda: [node.id for node in client.nodes()] == ["n1"], "the node is there", 20)
        mark(url, "n1", "cordon")
        with tracer.start_as_current_span("ask again"):
            placed = client.place(job, patient=False)
        assert placed.job.state == "pending"
        mark(url, "n1", "uncordon")
        done = client.wait(placed.job.id, deadline_s=30)
    assert done.result is not None
    spans = collector.wait(lambda spans: len(named(spans, "run job")) == 2)
    (ask, again) = named(spans, "ask") + named(spans, "ask again")
    (refused, waited) = (
        next(span for span in named(spans, "place job") if span.parent == asked.id) for asked in (ask, again)
    )
    # unavailable: of a fleet that is so new, nodes may only not have registered yet
    assert refused.trace == ask.trace
    assert refused.attributes["fleet.refusal.class"] in {"impossible", "unavailable"}
    assert waited.attributes["fleet.outcome"] == "waiting"
    first, second = sorted(named(spans, "run job"), key=lambda span: span.attributes["fleet.attempt"])
    for run in (first, second):
        assert (run.trace, run.parent) == (again.trace, waited.id)
    assert (
        (first.attributes["fleet.attempt"], first.failed),
        (second.attributes["fleet.attempt"], second.failed),
    ) == (
        (1, True),
        (2, False),
    )
    assert str(placed.job.traceparent)[:-2] == f"00-{again.trace}-{waited.id}-"
    assert done.result == f"{placed.job.traceparent} {again.trace} 2"


def test_without_the_extra_the_trace_is_passed_on_as_text(processes: Processes) -> None:
    url = processes.replica(without=True)
    processes.node("n1", without=True)
    wait_until(lambda: httpx.get(f"{url}/v1/nodes", timeout=5).json()["nodes"], "the node is there", 20)
    for header, told in ((PARENT, PARENT), ("00-bad", ""), (None, "")):
        headers = {} if header is None else {"traceparent": header}
        answer = httpx.post(
            f"{url}/v1/jobs", json={"requires": ["a"], "wait_ms": 10_000}, headers=headers, timeout=10
        )
        assert answer.status_code in {201, 202}, answer.text
        assert answer.json()["job"].get("traceparent", "") == told
        job = answer.json()["job"]["id"]
        ended = httpx.get(f"{url}/v1/jobs/{job}?wait_ms=20000", timeout=30).json()["job"]
        assert ended["result"] == f"{told} nothing is imported 1"


def test_a_setting_that_needs_the_extra_says_so(processes: Processes) -> None:
    process = processes.start(
        "serve", "--port", str(free_port()), without=True, environ={"FLEET_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    )
    assert process.wait(20) == 2
    assert 'pip install "fleet-scheduler[otel]"' in processes.said(0)


@pytest.mark.parametrize("bad", ["127.0.0.1:4318", "grpc://h", "http://user:secret@h"])
def test_what_is_no_address_of_a_collector_is_refused_by_name(processes: Processes, bad: str) -> None:
    process = processes.start("serve", "--port", str(free_port()), environ={"FLEET_OTLP_ENDPOINT": bad})
    assert process.wait(20) == 2
    assert "otlp_endpoint must be an address" in processes.said(0)
    assert "secret" not in processes.said(0)


def test_a_collector_that_is_away_stops_nothing(processes: Processes, shards: Shards) -> None:
    url = processes.replica({"FLEET_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"})
    register(shards, "n1", "a")
    for _ in range(20):
        assert httpx.post(f"{url}/v1/jobs", json={"requires": ["a"]}, timeout=10).status_code == 201
    processes.started[0].terminate()
    processes.started[0].wait(15)


def test_a_direct_job_and_its_start_say_which_trace_it_is_part_of(processes: Processes, shards: Shards) -> None:
    url = processes.replica()
    register(shards, "n1", "a")
    body = {"requires": ["a"], "deliver": "direct", "id": "d1"}
    told = [
        httpx.post(f"{url}/v1/jobs", json=body, headers={"traceparent": given}, timeout=10)
        for given in (PARENT, PARENT.replace("b7", "c8"))
    ]
    assert [answer.status_code for answer in told] == [201, 200], "the trace is no part of what is the same job"
    job = told[0].json()["job"]
    assert (job["traceparent"], "traceparent" in told[1].json()["job"]) == (PARENT, False)
    start = httpx.post(f"{url}/v1/jobs/{job['id']}/start", json={"fence": job["fence"]}, timeout=10).json()
    assert (start["traceparent"], start["attempt"]) == (PARENT, 1)
    batch = {"jobs": [{"requires": ["a"], "deliver": "direct"}] * 2}
    told_batch = httpx.post(f"{url}/v1/jobs:batch", json=batch, headers={"traceparent": PARENT}, timeout=10).json()
    assert [one["job"]["traceparent"] for one in told_batch["jobs"]] == [PARENT] * 2


async def test_the_async_client_sends_the_present_trace(processes: Processes, shards: Shards, tracer: Any) -> None:
    url = processes.replica()
    register(shards, "n1", "a")
    async with AsyncClient(url) as client:
        with tracer.start_as_current_span("ask") as ask:
            placed = await client.place(NewJob(requires=["a"], deliver="direct"))
        outside = await client.place(NewJob(requires=["a"], deliver="direct"))
    context = ask.get_span_context()
    assert str(placed.job.traceparent)[:-2] == f"00-{context.trace_id:032x}-{context.span_id:016x}-"
    assert not outside.job.traceparent


def test_nothing_imports_opentelemetry_for_a_program_that_does_not() -> None:
    code = (
        "import sys, scheduler.client\n"
        "from scheduler import tracing\n"
        "with tracing.span('x', 'SERVER') as span:\n"
        "    assert span is None\n"
        "assert tracing.headers() == {}\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
