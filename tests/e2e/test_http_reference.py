"""The HTTP reference holds: a live replica answers each example as it says, and each limit is where it says."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from openapi_schema_validator import OAS31Validator

from scheduler.http.openapi import document
from tests.e2e.conftest import wait_until

JSON, MSGPACK = "application/json", "application/msgpack"
DOCUMENT = document()
Call = tuple[str, str, dict[str, Any]]


def calls() -> list[Call]:
    """Every operation, those that make things first and those that take them out last."""
    found = [(method, path, told) for path, methods in DOCUMENT["paths"].items() for method, told in methods.items()]
    return sorted(found, key=lambda call: {"put": 0, "delete": 2}.get(call[0], 1))


def example(told: dict[str, Any]) -> Any:
    return told["requestBody"]["content"][JSON]["example"] if "requestBody" in told else None


class Client:
    """Sends examples, with the numbers in them that only this fleet can tell."""

    def __init__(self, http: httpx.Client, kind: str) -> None:
        self.http, self.kind = http, kind
        self.numbers: dict[str, int] = {}

    def send(self, call: Call, body: Any = None, *, bare: bool = False, **changed: Any) -> httpx.Response:
        """With every parameter's example, or bare with the path's alone, but for those that are changed."""
        method, path, told = call
        by_place: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}}
        for parameter in told["parameters"]:
            name, place = parameter["name"], parameter["in"]
            if not bare or place == "path" or name in changed:
                by_place[place][name] = str(changed.get(name, parameter["example"]))
        filled = path.format(**{name: quote(value, safe=":") for name, value in by_place["path"].items()})
        headers = by_place["header"] | {"accept": self.kind, "content-type": self.kind}
        encode = msgspec.msgpack.encode if self.kind == MSGPACK else msgspec.json.encode
        request = self.http.build_request(
            method, filled, params=by_place["query"], headers=headers, content=None if body is None else encode(body)
        )
        endless = any("text/event-stream" in answer["content"] for answer in told["responses"].values())
        answer = self.http.send(request, stream=endless)
        if endless and answer.status_code >= 400:
            answer.read()
        answer.close()
        return answer

    def live(self, body: Any) -> Any:
        """The body with fences and incarnations that were told before."""
        match body:
            case dict():
                return {k: self.numbers.get(k, v) if isinstance(v, int) else self.live(v) for k, v in body.items()}
            case list():
                return [self.live(inner) for inner in body]
            case _:
                return body

    def learn(self, told: Any) -> None:
        match told:
            case dict():
                for name, value in told.items():
                    if name in {"fence", "incarnation"} and isinstance(value, int) and value:
                        self.numbers[name] = value
                    self.learn(value)
            case list():
                for inner in told:
                    self.learn(inner)
            case _:
                return


def decoded(answer: httpx.Response) -> Any:
    decode = msgspec.msgpack.decode if answer.headers["content-type"].endswith("msgpack") else msgspec.json.decode
    return decode(answer.content)


def conforms(value: Any, schema: dict[str, Any]) -> None:
    OAS31Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


@pytest.fixture(params=[JSON, MSGPACK])
def client(http: httpx.Client, request: pytest.FixtureRequest) -> Client:
    return Client(http, request.param)


@pytest.mark.timeout(120)
def test_each_example_is_answered_as_the_document_says(client: Client) -> None:
    http = client.http
    http.put("/v1/pools/pool-2", json={"selector": {"all": True}}).raise_for_status()
    made = False
    for call in calls():
        method, path, told = call
        if method != "put" and not made:
            made = True
            wait_until(lambda: http.get("/v1/pools/pool-1").json()["pool"]["members"] or _beat(client), "a member")
            wait_until(lambda: http.get("/v1/nodes/node-1").status_code == 200, "the node is seen")
        answer = client.send(call, client.live(example(told)))
        assert answer.status_code < 300, (method, path, answer.content)
        response = told["responses"][str(answer.status_code)]
        kind = answer.headers["content-type"]
        content = response["content"].get(kind) or response["content"][kind.partition(";")[0]]
        if kind in {JSON, MSGPACK}:
            conforms(decoded(answer), content["schema"])
            client.learn(decoded(answer))
        if "example" in content:
            conforms(content["example"], content["schema"])
        for name, header in response.get("headers", {}).items():
            conforms(answer.headers[name], header["schema"])


def _beat(client: Client) -> bool:
    """What brings the node into the pool; always False."""
    call = next(call for call in calls() if call[2]["operationId"] == "post_heartbeat")
    client.send(call, client.live(example(call[2]))).raise_for_status()
    return False


def wrong_numbers(shape: dict[str, Any]) -> Iterator[Any]:
    if shape.get("type") in {"integer", "number"}:
        yield from (shape[word] + step for word, step in (("minimum", -1), ("maximum", 1)) if word in shape)


def wrong(shape: dict[str, Any], shown: Any) -> Iterator[Any]:
    """Values just outside of what the shape allows."""
    for choice in shape.get("anyOf", [shape]):
        yield from wrong_numbers(choice)
        if "maxLength" in choice:
            yield "x" * (choice["maxLength"] + 1)
        if "pattern" in choice or "enum" in choice:
            yield "?!"
        if "maxItems" in choice:
            yield shown * (choice["maxItems"] + 1)
        if choice.get("minItems"):
            yield []
        if choice.get("uniqueItems"):
            yield shown * 2
        if "maxProperties" in choice:
            yield {f"k{number}": "v" for number in range(choice["maxProperties"] + 1)}


@pytest.mark.timeout(180)
def test_each_limit_of_a_parameter_is_kept(client: Client) -> None:
    for call in calls():
        for parameter in call[2]["parameters"]:
            for value in wrong(parameter["schema"], parameter["example"]):
                answer = client.send(call, example(call[2]), bare=True, **{parameter["name"]: value})
                assert answer.status_code == 422, (call[:2], parameter, value, answer)
                assert decoded(answer)["field"] == parameter["name"]


@pytest.mark.timeout(180)
def test_each_limit_of_a_body_is_kept(client: Client) -> None:
    for call in calls():
        if "requestBody" not in call[2]:
            continue
        shown = example(call[2])
        name = call[2]["requestBody"]["content"][JSON]["schema"]["$ref"].rpartition("/")[2]
        schema = DOCUMENT["components"]["schemas"][name]
        for field, shape in schema["properties"].items():
            for value in wrong(shape, shown[field]):
                refused(client, call, shown | {field: value}, field)
        for field in schema.get("required", ()):
            refused(client, call, {other: value for other, value in shown.items() if other != field}, field)
        refused(client, call, shown | {"no_such_field": 1}, "no_such_field")


def refused(client: Client, call: Call, body: Any, field: str) -> None:
    answer = client.send(call, body)
    assert answer.status_code == 422, (call[:2], field, str(body)[:200], answer.content)
    assert decoded(answer)["field"].startswith(field), (call[:2], str(body)[:200], decoded(answer))


@pytest.mark.timeout(180)
def test_what_is_broken_or_unknown_has_the_status_of_the_document(client: Client) -> None:
    for call in calls():
        method, path, told = call
        if "requestBody" in told:
            names = {p["name"]: p["example"] for p in told["parameters"] if p["in"] == "path"}
            for status, content, kind in BROKEN:
                headers = {"content-type": kind or client.kind, "accept": client.kind}
                answer = client.http.request(method, path.format(**names), content=content, headers=headers)
                is_problem(answer, told, status)
        # of a tenant only those are told who have a key of another one
        if "404" in told["responses"] and told["operationId"] != "get_tenant":
            problem = is_problem(client.send(call, example(told)), told, 404)
            assert decoded(client.send(call, example(told)))["type"] == problem["example"]["type"]


BROKEN = ((400, b"\xc1", ""), (415, b"{}", "text/plain"), (413, b" " * 1_048_577, JSON))


def is_problem(answer: httpx.Response, told: dict[str, Any], status: int) -> dict[str, Any]:
    """What the document says of it."""
    assert answer.status_code == status, (told["operationId"], answer.content)
    problem: dict[str, Any] = told["responses"][str(status)]["content"][answer.headers["content-type"]]
    conforms(decoded(answer), problem["schema"])
    conforms(problem["example"], problem["schema"])
    return problem
