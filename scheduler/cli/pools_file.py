"""A file of pools: TOML in, the JSON that Redis judges out; every error names the file."""

import datetime as dt
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from scheduler.domain.configuration import Configuration, LanguagePools, Limits
from scheduler.domain.ids import PoolName
from scheduler.domain.pool import Pool
from scheduler.errors import BadInput

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoolsFile:
    """What a file says, not judged yet. `text` is the JSON for pools_apply."""

    path: Path
    document: dict[str, Any]
    text: str

    def bad(self, field: str, what: str) -> BadInput:
        """The error of a field of this file; `json` is the whole of it."""
        return BadInput(f"{self.path}" if field == "json" else f"{self.path}: {field}", what)

    def configuration(self) -> Configuration:
        """The same as values with their defaults, once Redis has found it sound."""
        told = self._value("pools", self.document.get("pools", {}), dict[PoolName, Any])
        pools = {name: self._value(f"pools.{name}", pool, Pool) for name, pool in told.items()}
        limits = self._value("limits", self.document.get("limits", {}), Limits)
        template = self.document.get("language_pools")
        of_languages = None if template is None else self._value("language_pools", template, LanguagePools)
        weights = self._value("weights", self.document.get("weights", {}), dict[str, int])
        return Configuration(pools, limits, of_languages, weights)

    def _value(self, field: str, told: object, kind: type[T]) -> T:
        try:
            return msgspec.convert(told, kind)
        except msgspec.ValidationError as error:
            # what the decoder in Redis cannot tell apart: an empty list and an empty table, 5.0 and 5
            what, _, at = str(error).partition(" - at `$")
            raise self.bad(field + at.rstrip("`"), f"must be otherwise: {what}") from error


def _check(path: Path, at: str, value: object) -> None:
    """TOML has values that JSON has not."""
    match value:
        case dict():
            for name, inner in value.items():
                _check(path, f"{at}.{name}" if at else name, inner)
        case list():
            for inner in value:
                _check(path, at, inner)
        case float() if not math.isfinite(value):
            raise BadInput(f"{path}: {at}", f"must be a number, not {value}")
        case dt.date() | dt.time():
            raise BadInput(f"{path}: {at}", "must not be a date or a time")
        case _:
            return


def read_pools(path: Path) -> PoolsFile:
    """The file's content; BadInput where it cannot be read or is no TOML."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(str(path), f"cannot be read: {error}") from error
    _check(path, "", document)
    return PoolsFile(path, document, json.dumps(document))
