"""An example for each shape, put together from the words of its names."""

from typing import Any

from scheduler.http.words import WORDS, word_of

Schemas = dict[str, dict[str, Any]]


def example_of(schema: dict[str, Any], schemas: Schemas, owner: str = "", name: str = "") -> Any:
    """A value that the schema allows: with all fields, and one of each list."""
    if "$ref" in schema:
        inner = str(schema["$ref"]).rpartition("/")[2]
        if "enum" in schemas[inner]:
            return example_of(schemas[inner], schemas, owner, name)
        return example_of(schemas[inner], schemas, inner)
    word = word_of(owner, name)
    given = word.example if word else None
    if "type" not in schema and "anyOf" in schema:
        return example_of(schema["anyOf"][0], schemas, owner, name)
    if "enum" in schema:
        return given if given in schema["enum"] else schema["enum"][0]
    match schema.get("type"):
        case "object":
            return _object(schema, schemas, owner, given)
        case "array":
            return [example_of(schema["items"], schemas, owner, name)] if schema["items"] else [_JOB]
        case _ if given is not None or f"{owner}.{name}" in WORDS:
            return given
        case "string":
            return "text"
        case kind:
            return schema.get("default", schema.get("minimum", kind == "boolean" or 1))


# The jobs of a batch are looked at one by one, so their shape is not in the schema of the batch.
_JOB = {"requires": ["asr:zh"], "id": "job-2"}


def _object(schema: dict[str, Any], schemas: Schemas, owner: str, given: Any) -> Any:
    if "properties" in schema:
        return {
            field: example_of(shape, schemas, owner or str(schema.get("title", "")), field)
            for field, shape in schema["properties"].items()
        }
    if isinstance(given, dict):
        return given
    inner = schema.get("additionalProperties")
    return {"0": example_of(inner, schemas)} if isinstance(inner, dict) else {}
