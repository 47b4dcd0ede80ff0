"""A job as a caller asks for it; the server's own shape is `JobBody`, with the same names and defaults."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from scheduler.domain.job import ACK_MS, MAX_ATTEMPTS, PRIORITY, TIMEOUT_MS, Affinity, Deliver


class NewJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`requires` or `services` must be given. `payload` is any value that JSON can hold.

    Without an `id` the client makes one, so that the same job can be sent again, to any replica, and is placed once.
    """

    requires: Sequence[str] | None = None
    services: Sequence[str] | None = None
    src: str | None = None
    tgt: str | None = None
    pool: str | None = None
    fallback: bool = True
    exclude: Sequence[str] = ()
    session: str | None = None
    affinity: Affinity = "none"
    id: str | None = None
    payload: Any = UNSET
    deliver: Deliver = "inbox"
    priority: int = PRIORITY
    ack_ms: int = ACK_MS
    timeout_ms: int = TIMEOUT_MS
    wait_ms: int = 0
    max_attempts: int = MAX_ATTEMPTS
    retry_failed: bool = False

    def with_id(self) -> "NewJob":
        """The same job, with an id."""
        return self if self.id is not None else msgspec.structs.replace(self, id=secrets.token_hex(16))
