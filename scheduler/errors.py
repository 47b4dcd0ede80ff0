"""The exceptions of this package: one small tree, each with a stable code for the wire."""

from typing import ClassVar


class FleetError(Exception):
    """Something that a caller can be told."""

    code: ClassVar[str] = "error"


class BadInput(FleetError):
    """A value from outside is not acceptable; names the field and the limit."""

    code = "bad_input"

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{field} {what}")
        self.field = field
        self.what = what


class ServerUnavailable(FleetError):
    """Redis did not answer, or refused, within the deadline."""

    code = "server_unavailable"


class ServerTooOld(FleetError):
    """The Redis server has no functions; 7.0 or newer is needed."""

    code = "server_too_old"


class LibraryMismatch(FleetError):
    """Redis lacks the function library, or holds one that this program cannot work with."""

    code = "library_mismatch"


class NoServer(FleetError):
    """No Redis server can be found or started."""

    code = "no_server"


class Overrun(FleetError):
    """A bounded queue is full, or a deadline passed before the work was done."""

    code = "overrun"
