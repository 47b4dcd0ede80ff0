"""The one exception tree; each class has a stable wire code, and its docstring begins its message."""

from typing import ClassVar


class FleetError(Exception):
    """Fleet failed"""

    code: ClassVar[str] = "internal"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        # Under -OO there are no docstrings; the code still says which error it is.
        begin = (type(self).__doc__ or self.code).strip()
        return f"{begin}: {self.detail}" if self.detail else begin


class BadInput(FleetError):
    """Bad input"""

    code = "bad_input"

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{field} {what}")
        # pickle and copy call the class again with args.
        self.args = (field, what)
        self.field = field
        self.what = what


class ServerUnavailable(FleetError):
    """The Redis server does not answer"""

    code = "server_unavailable"


class ReplicaUnavailable(FleetError):
    """The replica does not answer as it should"""

    code = "replica_unavailable"


class ServerTooOld(FleetError):
    """The Redis server is too old, 7.0 or newer is needed"""

    code = "server_too_old"


class LibraryMismatch(FleetError):
    """The function library on the server is not the one this program needs"""

    code = "library_mismatch"


class NoServer(FleetError):
    """No Redis server was found"""

    code = "no_server"


class Overrun(FleetError):
    """A bounded queue is full or a deadline has passed"""

    code = "overrun"


class BenchmarkFailed(FleetError):
    """The benchmark cannot go on"""

    code = "benchmark_failed"
