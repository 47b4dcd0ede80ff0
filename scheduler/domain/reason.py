"""Why a node was not chosen, and the three ways to refuse: one vocabulary for Lua, HTTP, metrics and people."""

from enum import StrEnum


class Reason(StrEnum):
    """Why one node cannot take one job."""

    LOST = "lost"
    CORDONED = "cordoned"
    DRAINING = "draining"
    FULL = "full"
    OVERLOADED = "overloaded"
    QUARANTINED = "quarantined"
    MISSING_CAPABILITY = "missing_capability"
    NOT_IN_POOL = "not_in_pool"
    TENANT_DENIED = "tenant_denied"
    QUOTA = "quota"
    EXCLUDED = "excluded"


class RefusalClass(StrEnum):
    """What would help: another fleet (impossible), a node coming back (unavailable), a free slot (overloaded), the
    end of a job of the same tenant (quota).
    """

    IMPOSSIBLE = "impossible"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    QUOTA = "quota"
