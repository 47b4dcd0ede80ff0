"""What a person may set: `FLEET_*` in the environment over a TOML file, over these defaults."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from scheduler.errors import BadInput

Auth = Literal["auto", "required", "off"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One replica's settings, each with its range and what it means: docs/settings.md is made from these."""

    redis_url: Annotated[
        str,
        Meta(
            description="where Redis is: `redis://host`, `redis+cluster://host,host`, "
            "`redis+sentinel://host,host/service`, each with TLS as `rediss…`, or `unix://`"
        ),
    ] = "redis://127.0.0.1:6379"
    namespace: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", description="first part of every key")
    ] = "fleet"
    refresh_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="milliseconds between two refreshes of the snapshot")
    ] = 200
    reap_ms: Annotated[int, Meta(ge=10, le=60_000, description="milliseconds between two turns of reaping")] = 250
    deadline_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="milliseconds until a placement is decided, or answered 503")
    ] = 1_000
    redis_timeout_ms: Annotated[int, Meta(ge=10, le=60_000, description="milliseconds for one call to Redis")] = 1_000
    redis_connections: Annotated[int, Meta(ge=4, le=1_000, description="a replica's connections to Redis")] = 16
    body_max_bytes: Annotated[int, Meta(ge=1_024, le=67_108_864, description="the largest request body")] = 1_048_576
    candidates: Annotated[int, Meta(ge=1, le=16, description="nodes in a shortlist")] = 3
    event_clients: Annotated[
        int,
        Meta(
            ge=1, le=10_000, description="clients that may follow the events of one replica; others are answered 503"
        ),
    ] = 256
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
            description="whether an API key is asked for: `auto` (beyond the loopback, and on it once there is "
            "a key), `required` or `off`"
        ),
    ] = "auto"
    connections: Annotated[
        int,
        Meta(ge=16, le=100_000, description="connections of one replica; one more makes an idle one go, or gets 503"),
    ] = 8_192
    arrival_ms: Annotated[
        int, Meta(ge=100, le=600_000, description="milliseconds in which a whole request must arrive")
    ] = 10_000
    idle_ms: Annotated[
        int, Meta(ge=1_000, le=3_600_000, description="milliseconds for which a connection may ask for nothing")
    ] = 75_000


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the settings as people are told of it: numbers have ranges, words choices, other texts a pattern."""

    name: str
    default: object
    meaning: str
    low: int | None
    high: int | None
    pattern: str
    choices: tuple[str, ...]

    @property
    def range(self) -> str:
        """What it may be, for people."""
        return ", ".join(self.choices) if self.low is None else f"{self.low:,} to {self.high:,}"

    @property
    def variables(self) -> tuple[str, ...]:
        """What it is called in the environment; the first wins."""
        own = f"FLEET_{self.name.upper()}"
        return (own, "REDIS_URL") if self.name == "redis_url" else (own,)


def _setting(field: msgspec.structs.FieldInfo) -> Setting:
    kind = field.type.__origin__
    meta: Meta = next(meta for meta in field.type.__metadata__ if isinstance(meta, Meta))
    low, high = (None if bound is None else int(bound) for bound in (meta.ge, meta.le))
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return Setting(field.name, field.default, meta.description or "", low, high, meta.pattern or "", choices)


SETTINGS = {field.name: _setting(field) for field in msgspec.structs.fields(Settings)}


# of the one pattern that there is
_NAME = "1 to 64 characters of A-Z a-z 0-9 . _ - and begin with a letter or digit"


def _converted(name: str, value: object) -> object:
    if name not in SETTINGS:
        raise BadInput(name, "is not a setting")
    low, high = SETTINGS[name].low, SETTINGS[name].high
    if low is None or high is None:
        if not isinstance(value, str) or not value:
            raise BadInput(name, "must be text")
        choices = SETTINGS[name].choices
        if choices and value not in choices:
            raise BadInput(name, f"must be one of {', '.join(choices)}")
        if re.match(SETTINGS[name].pattern, value) is None:
            raise BadInput(name, f"must be {_NAME}")
        return value
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
        if key.startswith("FLEET_") and name in SETTINGS:
            values[name] = value
    return Settings(**{name: _converted(name, value) for name, value in values.items()})  # type: ignore[arg-type]
