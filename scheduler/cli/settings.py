"""Options that several commands share, over the environment and the settings file."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from scheduler.errors import BadInput
from scheduler.settings import Settings, load_settings


def settings_with(
    redis_url: str | None = None, namespace: str | None = None, log_level: str | None = None
) -> Settings:
    """The settings of this process; a command's own options win."""
    environ = dict(os.environ)
    if redis_url is not None:
        environ["REDIS_URL"] = redis_url
        environ.pop("FLEET_REDIS_URL", None)
    if namespace is not None:
        environ["FLEET_NAMESPACE"] = namespace
    if log_level is not None:
        environ["FLEET_LOG_LEVEL"] = log_level
    return load_settings(environ)


def with_key(command: Callable[..., None]) -> Callable[..., None]:
    """The option of commands that speak to replicas. The key itself is no option: others see those of a process."""
    return click.option(
        "--api-key-file", type=click.Path(dir_okay=False), help="file with the API key [default: FLEET_API_KEY]"
    )(command)


def key_headers(file: str | None) -> dict[str, str]:
    """What says to a replica who asks; nothing where no key is given."""
    key = os.environ.get("FLEET_API_KEY", "")
    if file is not None:
        try:
            key = Path(file).read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput("--api-key-file", f"cannot be read: {error}") from error
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise BadInput("FLEET_API_KEY", "must be an API key")
    return {"authorization": f"Bearer {key}"} if key else {}


def key_hint(status: int) -> str:
    """How a person of the command line says who asks, where an answer of this status wants to know."""
    return "; give a key with --api-key-file or FLEET_API_KEY" if status == 401 else ""
