"""Who takes part in the soak, and in which order they come."""

import time
from pathlib import Path

import redis

from scheduler.dev.server import free_port
from tests.soak.chaos import Cast

P = "fleet:{0}"
CLAIMERS, AGENTS, REPLICAS = 2, 4, 2


def _relayed(cast: Cast, url: str) -> str:
    cast.start("relay", "tests.soak.relay", url.rpartition(":")[2])
    log, end = cast.folder / "relay.log", time.monotonic() + 20
    while not (said := log.read_text("utf-8")).endswith("\n"):
        if time.monotonic() > end:
            raise TimeoutError(f"the relay does not say where it is: {said}")
        time.sleep(0.05)
    return said.strip()


def _wait_nodes(client: redis.Redis, least: int) -> None:
    """A fleet that is not there yet would rightly call a job impossible."""
    end = time.monotonic() + 30
    while len(client.zrange(f"{P}:nodes", 0, -1)) < least:
        if time.monotonic() > end:
            raise TimeoutError(f"{least} nodes do not come within 30 s")
        time.sleep(0.05)


def populate(cast: Cast, client: redis.Redis, url: str, claims: int) -> list[Path]:
    """Start everybody, every other one behind the relay. Answers the ledgers of those that claim."""
    ways, ledgers = (_relayed(cast, url), url), []
    for i in range(AGENTS):
        ledger = cast.folder / f"agent{i}.ledger"
        cast.start(f"agent{i}", "tests.soak.node", f"agent{i}", ways[i % 2], ledger)
    _wait_nodes(client, AGENTS)
    ports = [free_port() for _ in range(REPLICAS)]
    for i, port in enumerate(ports):
        cast.start(f"replica{i}", "scheduler.cli.main", "serve", "--port", port, REDIS_URL=ways[i % 2])
    for i in range(CLAIMERS):
        ledgers.append(cast.folder / f"claimer{i}.ledger")
        cast.start(f"claimer{i}", "tests.soak.claimer", f"claimer{i}", ways[i % 2], ledgers[-1], claims // CLAIMERS)
    ledgers.append(cast.folder / "web.ledger")
    cast.start("web", "tests.soak.web", "web", ",".join(f"http://127.0.0.1:{port}" for port in ports), ledgers[-1])
    return ledgers
