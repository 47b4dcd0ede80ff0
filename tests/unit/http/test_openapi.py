"""The document is made from the routes and shapes, and is whole."""

import json
import re

from scheduler.http.openapi import document
from scheduler.http.routes import OPERATIONS


def test_each_operation_has_a_name_of_its_own_and_a_schema_for_what_it_takes_and_gives() -> None:
    told = document()
    names = [told["paths"][o.path][o.method.lower()]["operationId"] for o in OPERATIONS]
    assert len(set(names)) == len(names)
    for operation in OPERATIONS:
        described = told["paths"][operation.path][operation.method.lower()]
        assert ("requestBody" in described) == (operation.body is not None)
        assert set(described["responses"]) >= {*map(str, operation.statuses)}
        parameters = {p["name"] for p in described["parameters"] if p["in"] == "path"}
        assert parameters == set(re.findall(r"{(\w+)}", operation.path))
        for status, response in described["responses"].items():
            assert ("application/problem+json" in response["content"]) == (int(status) >= 400)


def test_each_operation_says_which_roles_may_call_it() -> None:
    told = document()
    assert told["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    for operation in OPERATIONS:
        described = told["paths"][operation.path][operation.method.lower()]
        assert described["security"] == ([] if operation.roles is None else [{"apiKey": []}])
        assert described.get("x-roles") == (None if operation.roles is None else sorted(operation.roles))
        assert described.get("x-whole", False) is operation.whole
        assert ({"401", "403"} <= set(described["responses"])) is (operation.roles is not None)


def test_limits_of_the_shapes_are_in_the_document_and_readable_outside_python() -> None:
    told = document()
    job = told["components"]["schemas"]["JobBody"]
    assert job["additionalProperties"] is False
    assert (job["properties"]["priority"]["minimum"], job["properties"]["priority"]["maximum"]) == (0, 9)
    assert job["properties"]["requires"]["anyOf"][0]["items"]["pattern"].endswith("$")
    assert "\\\\Z" not in json.dumps(told)


def test_services_are_described_by_their_kinds_and_those_of_a_request_by_their_names() -> None:
    schemas = document()["components"]["schemas"]
    entry = schemas["RegisterBody"]["properties"]["services"]["anyOf"][0]["items"]
    assert set(entry["discriminator"]["mapping"]) == {"asr", "nmt", "semantic", "tts"}
    assert schemas["Asr"]["required"] == ["service", "languages"]
    assert schemas["Nmt"]["properties"]["rule"]["enum"] == ["any_to_any", "any_to_en", "en_to_any", "pairs"]
    assert schemas["Nmt"]["additionalProperties"] is False
    job = schemas["JobBody"]["properties"]
    assert job["services"]["anyOf"][0]["items"]["enum"] == ["asr", "nmt", "semantic", "tts"]
    assert job["src"]["anyOf"][0]["maxLength"] == 35
