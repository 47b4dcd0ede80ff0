"""What a person may set: `FLEET_*` in the environment over a TOML file, over these defaults."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from scheduler.errors import BadInput

Auth = Literal["auto", "required", "off"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One replica's settings. Durations in milliseconds."""

    redis_url: str = "redis://127.0.0.1:6379"
    namespace: str = "fleet"
    refresh_ms: int = 200
    reap_ms: int = 250
    deadline_ms: int = 1_000
    redis_timeout_ms: int = 1_000
    redis_connections: int = 16
    body_max_bytes: int = 1_048_576
    candidates: int = 3
    event_clients: int = 256
    log_format: Annotated[
        Literal["text", "json"], Meta(description="how records are written on stderr: `text` or `json`")
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="the least of what is logged: `debug`, `info`, `warning` or `error`"),
    ] = "info"
    access_log: Annotated[
        Literal["off", "on"], Meta(description="`on`: a replica logs each request that it answers")
    ] = "off"
    otlp_endpoint: Annotated[
        str,
        Meta(description="where spans are sent to, such as `http://127.0.0.1:4318`; needs the extra `otel`"),
    ] = ""
    auth: Annotated[
        Auth,
        Meta(
            description="whether an API key is asked for: `auto` (beyond the loopback, and on it once "
            "there is a key), `required` or `off`"
        ),
    ] = "auto"
    connections: int = 8_192
    arrival_ms: int = 10_000
    idle_ms: int = 75_000


_RANGES: dict[str, tuple[int, int]] = {
    "refresh_ms": (10, 60_000),
    "reap_ms": (10, 60_000),
    "deadline_ms": (10, 60_000),
    "redis_timeout_ms": (10, 60_000),
    "redis_connections": (4, 1_000),
    "body_max_bytes": (1_024, 67_108_864),
    "candidates": (1, 16),
    "event_clients": (1, 10_000),
    "connections": (16, 100_000),
    "arrival_ms": (100, 600_000),
    "idle_ms": (1_000, 3_600_000),
}


_CHOICES: dict[str, tuple[str, ...]] = {
    name: get_args(hint) for name, hint in get_type_hints(Settings).items() if get_origin(hint) is Literal
}


def _converted(name: str, value: object) -> object:
    if name not in Settings.__struct_fields__:
        raise BadInput(name, "is not a setting")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise BadInput(name, f"must be one of {', '.join(_CHOICES[name])}")
    if name not in _RANGES:
        if not isinstance(value, str) or not value:
            raise BadInput(name, "must be text")
        return value
    low, high = _RANGES[name]
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
    if number is None or not low <= number <= high:
        raise BadInput(name, f"must be a whole number from {low} to {high}")
    return number


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from `FLEET_CONFIG` (a TOML file) and `FLEET_*`; `REDIS_URL` stands for `FLEET_REDIS_URL`.

    Raises BadInput that names the setting and its limits.
    """
    values: dict[str, object] = {}
    if file := environ.get("FLEET_CONFIG"):
        try:
            values.update(tomllib.loads(Path(file).read_text("utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadInput("FLEET_CONFIG", f"cannot be read: {error}") from error
    if url := environ.get("REDIS_URL"):
        values["redis_url"] = url
    for key, value in environ.items():
        name = key.removeprefix("FLEET_").lower()
        if key.startswith("FLEET_") and name in Settings.__struct_fields__:
            values[name] = value
    return Settings(**{name: _converted(name, value) for name, value in values.items()})  # type: ignore[arg-type]
