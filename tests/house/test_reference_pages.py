"""docs/http.md and docs/settings.md are what the program says of itself, and it leaves nothing out."""

import ast
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from scheduler.http.openapi import document
from scheduler.http.problems import PROBLEMS
from scheduler.settings import SETTINGS
from tests.house.reference import COMMAND, DOCS, PAGES

SOURCES = sorted((Path(__file__).parents[2] / "scheduler").rglob("*.py"))


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_as_the_program_makes_it(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == PAGES[name](), f"make it again: {COMMAND}"


def test_the_document_is_openapi() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_each_field_parameter_answer_and_header_is_described_with_an_example() -> None:
    told = document()
    lacking = [
        f"{name}.{field}"
        for name, schema in told["components"]["schemas"].items()
        for field, shape in schema.get("properties", {}).items()
        if not shape.get("description")
    ]
    lacking += [name for name, schema in told["components"]["schemas"].items() if not schema.get("description")]
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            lacking += [
                f"{method} {path} {p['name']}"
                for p in operation["parameters"]
                if not p["description"] or p["example"] is None
            ]
            if body := operation.get("requestBody"):
                shape = told["components"]["schemas"][_name(body["content"]["application/json"]["schema"])]
                shown = body["content"]["application/json"]["example"]
                lacking += [f"{method} {path} {field}" for field in shape["properties"].keys() - shown.keys()]
                lacking += [] if body["description"] else [f"{method} {path} body"]
            for status, answer in operation["responses"].items():
                bare = [name for name, header in answer.get("headers", {}).items() if not header["description"]]
                lacking += [f"{method} {path} {status}"] if bare or not answer["description"] else []
    assert lacking == []


def _name(schema: dict[str, str]) -> str:
    return schema["$ref"].rpartition("/")[2]


def test_each_title_of_a_problem_is_on_the_list() -> None:
    known = {kind.title for kind in PROBLEMS}
    raised: set[str] = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
                title = node.args[1] if len(node.args) > 1 else None
                raised |= {str(title.value)} if isinstance(title, ast.Constant) else set()
    assert len(raised) > 10
    assert raised - known == set()


def test_each_setting_says_what_it_means_and_each_number_its_range() -> None:
    for setting in SETTINGS.values():
        assert setting.meaning, setting
        assert (setting.low is not None) == isinstance(setting.default, int), setting
        assert setting.low is None or isinstance(setting.default, int)
