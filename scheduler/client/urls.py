"""The replicas' addresses in turn; one that failed is left out for a moment."""

import threading
from collections.abc import Sequence

import httpx

from scheduler.errors import BadInput


class Urls:
    """Round robin over the addresses that are not set aside. May be used by many threads."""

    def __init__(self, urls: str | Sequence[str]) -> None:
        self._urls = [url.rstrip("/") for url in ([urls] if isinstance(urls, str) else urls)]
        if not self._urls:
            raise BadInput("urls", "must name at least one replica")
        if bad := [url for url in self._urls if not _is_address(url)]:
            raise BadInput("urls", f"must begin with http:// or https:// and name a host, not {bad[0]!r}")
        self._until = dict.fromkeys(self._urls, 0.0)
        self._turn = 0
        self._lock = threading.Lock()

    def pick(self, now: float) -> tuple[str, float]:
        """The next address and the seconds to wait for it: none but where every one is set aside."""
        with self._lock:
            self._turn += 1
            turned = [self._urls[(self._turn + i) % len(self._urls)] for i in range(len(self._urls))]
            # the sort keeps the order of turns among those that are free now
            url = min(turned, key=lambda url: max(self._until[url], now))
            return url, max(self._until[url] - now, 0.0)

    def set_aside(self, url: str, until: float) -> None:
        with self._lock:
            self._until[url] = until


def _is_address(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)
