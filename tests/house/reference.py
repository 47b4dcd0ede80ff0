"""Writes docs/http.md and docs/settings.md from the program itself: `.venv/bin/python -m tests.house.reference`."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scheduler.http.openapi import document
from scheduler.http.problems import PROBLEMS
from scheduler.settings import SETTINGS

DOCS = Path(__file__).parents[2] / "docs"
COMMAND = ".venv/bin/python -m tests.house.reference"
_MADE = f"<!-- Made from the program by `{COMMAND}`: change the program, not this page. -->\n"
_HTTP = """\
What every replica answers over HTTP. Each of them tells it as OpenAPI 3.1 at `/openapi.json`, which this page is made
from. [client.md](client.md) has the library that speaks it.

- **Bodies** are JSON, or msgpack with `Content-Type: application/msgpack`, of at most {body:,} bytes unless
  `FLEET_BODY_MAX_BYTES` says otherwise. `Accept` chooses the form of the answer; without it the answer comes as the
  body did.
- **Names** that a body should not have are refused. An answer may get further ones with any release: pass over what
  you do not know.
- **Instants** end in `_at_ms` and are wall clock; **durations** end in `_ms`.
- **Problems** are documents of RFC 9457, `application/problem+json` or `application/problem+msgpack`;
  [their kinds](#problems) are at the end. Where another try may help, `Retry-After` says after how many seconds.
"""
_SETTINGS = """\
Each setting is an environment variable, or a name in the TOML file that `FLEET_CONFIG` points to. The environment
wins. `fleet settings` prints what holds where it is called. A value that is not in the range is refused at the start,
by name.
"""


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def _table(head: tuple[str, ...], rows: Iterable[Sequence[str]]) -> str:
    return _row(*head) + "|" + "---|" * len(head) + "\n" + "".join(_row(*row) for row in rows)


def _code(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _bounds(schema: dict[str, Any], low: str, high: str) -> str:
    least, most = schema.get(low), schema.get(high)
    if most is None:
        return "" if least is None else f" from {least:,}"
    return f" {least:,} to {most:,}" if least is not None else f" of at most {most:,}"


def kind_of(schema: dict[str, Any]) -> str:
    """A schema in words: type and limits."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(kind_of(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " ".join(f"`{word}`" for word in schema["enum"])
    match schema.get("type"):
        case "array":
            inner = f": {kind_of(schema['items'])}" if schema["items"] else ""
            distinct = "distinct " if schema.get("uniqueItems") else ""
            return f"list{_bounds(schema, 'minItems', 'maxItems')} {distinct}".rstrip() + inner
        case "object":
            other = schema.get("additionalProperties")
            names = f", names {kind_of(schema['propertyNames'])}" if "propertyNames" in schema else ""
            return "object" + _bounds(schema, "minProperties", "maxProperties") + names + (
                f": {kind_of(other)}" if isinstance(other, dict) else ""
            )  # fmt: skip
        case "string":
            pattern = f" as `{schema['pattern']}`" if "pattern" in schema else ""
            return "text" + _bounds(schema, "minLength", "maxLength") + pattern
        case "integer":
            return "whole number" + _bounds(schema, "minimum", "maximum")
        case "number":
            return "number" + _bounds(schema, "minimum", "maximum")
        case "boolean":
            return "true or false"
        case "null":
            return "null"
        case _:
            return "any value"


def _block(example: object) -> str:
    """One line for each field of the outermost object."""
    if not isinstance(example, dict):
        return f"```json\n{json.dumps(example, ensure_ascii=False)}\n```\n"
    lines = (f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in example.items())
    return "```json\n{\n" + ",\n".join(lines) + "\n}\n```\n"


def _parameters(told: dict[str, Any]) -> Iterator[str]:
    rows = [
        (f"`{p['name']}`", str(p["in"]), kind_of(p["schema"]), str(p["description"]), _code(p["example"]))
        for p in told["parameters"]
    ]
    if rows:
        yield _table(("parameter", "in", "type", "meaning", "example"), rows)


def _body(told: dict[str, Any]) -> Iterator[str]:
    if asked := told.get("requestBody"):
        content = asked["content"]["application/json"]
        optional = "" if asked["required"] else " It may be left out."
        yield f"Body: {kind_of(content['schema'])}.{optional} With every field:\n"
        yield _block(content["example"])


def _answers(told: dict[str, Any]) -> Iterator[str]:
    rows, shown = [], ""
    for status, response in told["responses"].items():
        kind, content = next(iter(response["content"].items()))
        body = kind_of(content["schema"]) if "$ref" in content["schema"] else f"`{kind}`"
        headers = " ".join(
            f"`{name}`: {header['description']}" for name, header in response.get("headers", {}).items()
        )
        rows.append((str(status), str(response["description"]), body, headers))
        if int(status) < 300 and "example" in content:
            shown = _block(content["example"])
    yield _table(("status", "when", "body", "headers"), rows)
    if shown:
        yield shown


def _shapes(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        yield f"### {name}\n"
        if said := schema.get("description"):
            yield f"{said}\n"
        if "enum" in schema:
            yield kind_of(schema) + "\n"
            continue
        required = schema.get("required", ())
        rows = [
            (f"`{field}`", kind_of(shape), _default(field, shape, required), str(shape["description"]))
            for field, shape in schema["properties"].items()
        ]
        yield _table(("field", "type", "default", "meaning"), rows)


def _default(field: str, shape: dict[str, Any], required: list[str]) -> str:
    if field in required:
        return "always given"
    return _code(shape["default"]) if "default" in shape else "may be absent"


def http_page() -> str:
    told = document()
    parts = ["# HTTP reference\n", _MADE, _HTTP.format(body=SETTINGS["body_max_bytes"].default), "## Routes\n"]
    operations = [
        (method.upper(), path, one) for path, methods in told["paths"].items() for method, one in methods.items()
    ]
    parts.append(
        _table(("route", "what it does"), [(f"`{m} {path}`", one["summary"]) for m, path, one in operations])
    )
    for method, path, one in operations:
        parts += [f"### `{method} {path}`\n", f"{one['summary']}.\n"]
        parts += [*_parameters(one), *_body(one), *_answers(one)]
    parts += ["## Shapes\n", *_shapes(told["components"]["schemas"]), "## Problems\n"]
    rows = [(f"`{kind.type}`", ", ".join(map(str, kind.statuses)), kind.meaning) for kind in PROBLEMS]
    parts.append(_table(("type", "status", "meaning"), rows))
    return "\n".join(parts)


def settings_page() -> str:
    rows = [
        (
            " or ".join(f"`{variable}`" for variable in setting.variables),
            f"`{setting.name}`",
            f"{setting.default:,}" if isinstance(setting.default, int) else f"`{setting.default}`",
            setting.range,
            setting.meaning,
        )
        for setting in SETTINGS.values()
    ]
    head = ("variable", "name in the file", "default", "range", "meaning")
    return "\n".join(["# Settings\n", _MADE, _SETTINGS, _table(head, rows)])


PAGES = {"http.md": http_page, "settings.md": settings_page}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
