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
        assert set(described["responses"]) >= {"422", "503", *map(str, operation.statuses)}
        parameters = {p["name"] for p in described["parameters"] if p["in"] == "path"}
        assert parameters == set(re.findall(r"{(\w+)}", operation.path))
        for status, response in described["responses"].items():
            assert ("application/problem+json" in response["content"]) == (int(status) >= 400)


def test_limits_of_the_shapes_are_in_the_document_and_readable_outside_python() -> None:
    told = document()
    job = told["components"]["schemas"]["JobBody"]
    assert (job["required"], job["additionalProperties"]) == (["requires"], False)
    assert (job["properties"]["priority"]["minimum"], job["properties"]["priority"]["maximum"]) == (0, 9)
    assert job["properties"]["requires"]["items"]["pattern"].endswith("$")
    assert "\\\\Z" not in json.dumps(told)
