"""What a replica's answer means where it is not the one hoped for: each problem document as an exception."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from scheduler.domain.reason import RefusalClass
from scheduler.errors import BadInput, FleetError


class Refused(FleetError):
    """No node takes the job"""

    code: ClassVar[str] = "refused"

    def __init__(
        self, class_: RefusalClass, reasons: Mapping[str, int], detail: str = "", snapshot_age_ms: int = 0
    ) -> None:
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        super().__init__(f"{class_}{f', {detail}' if detail else ''}{f' ({told})' if told else ''}")
        # pickle and copy call the class again with args
        self.args = (class_, dict(reasons), detail, snapshot_age_ms)
        self.class_ = class_
        self.reasons = dict(reasons)
        self.snapshot_age_ms = snapshot_age_ms


class Crowded(FleetError):
    """Too much waits already for this job to wait, too"""

    code = "crowded"


class Conflict(FleetError):
    """The id was used for another job"""

    code = "conflict"


class Fenced(FleetError):
    """This attempt is over: the job has another fence by now"""

    code = "fenced"


class Denied(FleetError):
    """The key is missing or not good, or it or its tenant may not do this"""

    code = "denied"


class Unknown(FleetError):
    """There is nothing of this id, as far as this tenant may see"""

    code = "unknown"


class NoReplica(FleetError):
    """No replica has answered in time"""

    code = "no_replica"


class Failed(FleetError):
    """A replica answered what it never should"""

    code = "failed"


Document = dict[str, Any]


def document_of(content: bytes) -> Document:
    """The problem document, or an empty one where somebody else than a replica has answered."""
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def error_of(status: int, document: Document) -> FleetError:
    """The exception for an answer of this status. NoReplica means that another replica may do better."""
    detail = str(document.get("detail") or document.get("title") or f"status {status}")
    if "class" in document:
        try:
            class_ = RefusalClass(document["class"])
        except ValueError:
            return Failed(f"refused, but it is not known how: {document['class']}")
        return Refused(class_, document.get("reasons") or {}, detail, document.get("snapshot_age_ms") or 0)
    if document.get("title") == "Crowded":
        return Crowded(detail)
    match status:
        case 400 | 413 | 415 | 422:
            field = document.get("field")
            return BadInput(field, _without(field, detail)) if field else BadInput("request", detail)
        case 401 | 403:
            return Denied(detail)
        case 404:
            return Unknown(detail)
        case 409:
            return Fenced(detail) if document.get("title") == "Fenced" else Conflict(detail)
        case 502 | 503 | 504:
            return NoReplica(detail)
        case _:
            return Failed(f"{status}: {detail}")


def _without(field: str, detail: str) -> str:
    """BadInput puts the field before what is wrong, as the document did."""
    return detail.removeprefix(f"{field} ")
