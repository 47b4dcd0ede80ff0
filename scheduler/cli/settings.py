"""Options that several commands share, over the environment and the settings file."""

import os

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
