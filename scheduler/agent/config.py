"""What a node says of itself, and how its agent behaves."""

import re
from dataclasses import dataclass, field

from scheduler.domain.ids import NodeId, Token, checked_id
from scheduler.domain.services import Service, offered
from scheduler.errors import BadInput

SLOTS_MAX = 1_000_000
LABELS_MAX = 64
_ENDPOINT = re.compile(r"^[A-Za-z0-9][\w\-.~:/?#@!$&'()*+,;=%\[\]]{0,511}\Z", re.ASCII)
_LABEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}=[A-Za-z0-9._:/-]{0,128}\Z")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node. Limits in percent; None leaves the fleet's default. BadInput names the field and the limit.

    It offers its capabilities and the tokens of its services that are ready, which are `offered`.
    """

    id: NodeId
    slots: int
    capabilities: tuple[Token, ...] = ()
    endpoint: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    cpu_max: float | None = None
    gpu_max: float | None = None
    mem_max: float | None = None
    heartbeat_ms: int = 1_000
    ttl_ms: int = 3_000
    drain_ms: int = 30_000
    services: tuple[Service, ...] = ()
    offered: tuple[Token, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked_id("id", self.id)
        # computed once here, and not with each heartbeat
        object.__setattr__(self, "offered", offered(self.capabilities, self.services))
        if not 1 <= self.slots <= SLOTS_MAX:
            raise BadInput("slots", f"must be from 1 to {SLOTS_MAX}")
        if self.endpoint and _ENDPOINT.match(self.endpoint) is None:
            raise BadInput("endpoint", "must be 1 to 512 characters of a URL")
        if len(self.labels) > LABELS_MAX:
            raise BadInput("labels", f"must be at most {LABELS_MAX}")
        if not all(_LABEL.match(f"{name}={value}") for name, value in self.labels.items()):
            raise BadInput("labels", "must be key=value words of A-Z a-z 0-9 . _ - / up to 64 and 128 characters")
        for name in ("cpu_max", "gpu_max", "mem_max"):
            limit = getattr(self, name)
            if limit is not None and not 0 <= limit <= 100:
                raise BadInput(name, "must be a number from 0 to 100")
        if not 100 <= self.ttl_ms <= 3_600_000:
            raise BadInput("ttl_ms", "must be from 100 to 3600000")
        if not 10 <= self.heartbeat_ms <= self.ttl_ms // 2:
            raise BadInput("heartbeat_ms", f"must be from 10 to half of ttl_ms, {self.ttl_ms // 2}")
        if not 0 <= self.drain_ms <= 86_400_000:
            raise BadInput("drain_ms", "must be from 0 to 86400000")

    def registration(self) -> dict[str, object]:
        """The optional fields of node_register that are set."""
        fields: dict[str, object] = {"ttl_ms": self.ttl_ms}
        if self.labels:
            fields["labels"] = " ".join(f"{name}={value}" for name, value in self.labels.items())
        for name in ("cpu_max", "gpu_max", "mem_max"):
            if (value := getattr(self, name)) is not None:
                fields[name] = value
        return fields


def labels_from(text: str) -> dict[str, str]:
    """Labels from `key=value key=value`."""
    pairs = [word.partition("=") for word in text.split()]
    if any(not equals for _, equals, _ in pairs):
        raise BadInput("labels", "must be key=value words")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise BadInput("labels", "must name each key once")
    return {name: value for name, _, value in pairs}
