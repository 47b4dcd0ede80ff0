"""How a replica or a node of ours tells what it does: its log and, where asked for, its traces."""

from collections.abc import Callable
from urllib.parse import urlsplit

from scheduler.logs import start_logging
from scheduler.settings import Settings
from scheduler.store.address import read_address
from scheduler.tracing import start_tracing


def secrets_in(url: str) -> set[str]:
    """The passwords in a Redis URL, as they are and as they are spelled there."""
    address = read_address(url)
    user = urlsplit(url).netloc.rpartition("@")[0]
    found = {
        user.partition(":")[2],
        *(options.get("password", "") for options in (address.options, address.sentinel_options)),
    }
    return found - {""}


def observed(settings: Settings, service: str) -> Callable[[], None]:
    """Begin to write the log, and to send spans where the settings name a collector; the answer ends that."""
    start_logging(settings.log_format, settings.log_level, secrets_in(settings.redis_url))
    return start_tracing(settings.otlp_endpoint, service) if settings.otlp_endpoint else lambda: None
