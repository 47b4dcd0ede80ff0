"""Probes, metrics and the OpenAPI document."""

import re

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from scheduler.http.routes import OPERATIONS
from tests.integration.http.conftest import Speaker

JOB = {"requires": ["asr:zh"]}


async def samples(plain: httpx.AsyncClient) -> dict[str, float]:
    """Metric and labels -> value, read as Prometheus reads it."""
    response = await plain.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def total(found: dict[str, float], name: str) -> float:
    """Over the shards."""
    values = [value for sample, value in found.items() if sample.partition("{")[0] == name]
    assert values, name
    return sum(values)


async def test_a_replica_with_redis_is_alive_and_ready(plain: httpx.AsyncClient) -> None:
    for path, text in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
        response = await plain.get(path)
        assert (response.status_code, response.text) == (200, text)
        assert response.headers["content-type"].startswith("text/plain")
        assert (await plain.head(path)).status_code == 200


async def test_metrics_count_verdicts_and_requests(speak: Speaker) -> None:
    await speak.register("n1", slots=1)
    for _ in range(3):
        await speak("POST", "/v1/jobs", JOB)
    await speak("GET", "/v1/nodes/n1")
    await speak("GET", "/v1/nodes/n2")
    await speak("PATCH", "/v1/nodes/n2")
    await speak("GET", "/made/up/path")
    await speak("BREW", "/v1/nodes")
    found = await samples(speak.client)
    assert found["fleet_placements_total{}"] == 1
    assert found["fleet_refusals_total{class=overloaded}"] == 2
    assert found["fleet_refusals_total{class=impossible}"] == 0
    assert found["fleet_conflicts_total{}"] == 0
    assert found["fleet_claim_seconds_count{}"] == 3
    assert found["fleet_claim_seconds_sum{}"] > 0
    assert found["fleet_snapshot_age_ms{shard=0}"] >= 0
    requests = {name: value for name, value in found.items() if name.startswith("fleet_http_requests_total")}
    assert requests == {
        "fleet_http_requests_total{method=PUT,route=/v1/nodes/{node},status=201}": 1,
        "fleet_http_requests_total{method=POST,route=/v1/jobs,status=201}": 1,
        "fleet_http_requests_total{method=POST,route=/v1/jobs,status=503}": 2,
        "fleet_http_requests_total{method=GET,route=/v1/nodes/{node},status=200}": 1,
        "fleet_http_requests_total{method=GET,route=/v1/nodes/{node},status=404}": 1,
        "fleet_http_requests_total{method=other,route=/v1/nodes/{node},status=405}": 1,
        "fleet_http_requests_total{method=other,route=/v1/nodes,status=405}": 1,
        "fleet_http_requests_total{method=other,route=other,status=404}": 1,
    }


async def test_metrics_tell_the_size_of_the_snapshot(speak: Speaker) -> None:
    assert total(await samples(speak.client), "fleet_snapshot_nodes") == 0
    await speak.register("n1")
    await speak.followed()
    assert total(await samples(speak.client), "fleet_snapshot_nodes") == 1


async def test_openapi_names_every_route_and_resolves(plain: httpx.AsyncClient) -> None:
    response = await plain.get("/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    document = response.json()
    assert document["openapi"].startswith("3.1")
    named = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert named == {("GET", "/openapi.json"), *((operation.method, operation.path) for operation in OPERATIONS)}
    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', response.text))
    assert references == set(schemas)
    assert "\\\\Z" not in response.text


async def test_what_is_answered_fits_its_shape_in_openapi(speak: Speaker) -> None:
    await speak.register("n1")
    document = (await speak.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    placed = await speak("POST", "/v1/jobs", JOB)
    assert placed.body.keys() == schemas["PlacementAnswer"]["properties"].keys()
    # the request is of no trace
    assert placed.body["job"].keys() == schemas["PlacedJob"]["properties"].keys() - {"traceparent"}
    assert placed.body["placement"].keys() == schemas["PlacementFacts"]["properties"].keys()
    node = await speak("GET", "/v1/nodes/n1")
    assert node.body["node"].keys() == schemas["NodeView"]["properties"].keys()


async def test_accept_decides_the_format_and_the_question_where_it_does_not(plain: httpx.AsyncClient) -> None:
    packed = {"content-type": "application/msgpack"}
    body = msgspec.msgpack.encode({})
    answers = {
        "application/json": "application/problem+json",
        "application/msgpack": "application/problem+msgpack",
        "application/json;q=0.5, application/msgpack": "application/problem+msgpack",
        "application/json, application/msgpack;q=0.5": "application/problem+json",
        "application/msgpack;q=0, */*": "application/problem+json",
        "*/*": "application/problem+msgpack",
        "text/html": "application/problem+msgpack",
    }
    for accept, kind in answers.items():
        response = await plain.post("/v1/jobs", content=body, headers=packed | {"accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (422, kind), accept
    response = await plain.get("/v1/jobs/x")
    assert response.headers["content-type"] == "application/problem+json"
