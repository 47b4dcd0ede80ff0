"""Two worlds of one fleet, each a keyspace with a replica of its own: what a tenant is told in each."""

import json
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from scheduler.app import create_app
from scheduler.domain.apikey import KeyId, key_text, new_key
from scheduler.domain.shards import home_tag
from scheduler.http.connections import Limits
from scheduler.settings import Settings
from tests.e2e.conftest import wait_until
from tests.integration.http.listening import served

LONG_MS = 600_000
# In a body: the fence or the incarnation that what the call is about has now.
PRESENT = "PRESENT"
# What no two runs of the same calls have alike, by the name of the field, and of the header.
CLOCKS = {
    # instants, and durations that go on meanwhile
    *("at_ms", "created_at_ms", "started_at_ms", "ended_at_ms", "lease_expires_at_ms", "heartbeat_at_ms"),
    *("registered_at_ms", "snapshot_age_ms", "remaining_ms", "drain_ms"),
    # numbers that Redis draws from its clock
    *("fence", "incarnation"),
    # by chance, so that it says nothing
    "request_id",
}
# The length is that of the numbers above.
OF_THE_REQUEST = {"date", "x-request-id", "content-length"}


@dataclass(frozen=True)
class Call:
    """One call: with which key, and what. `about` is the job or node whose number it needs."""

    key: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    about: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class World:
    """A fleet under a name of its own on the same server."""

    name: str
    redis: Any
    http: httpx.Client
    tags: tuple[str, ...]
    keys: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def ready(self) -> bool:
        return self.http.get("/readyz").status_code == 200

    def shard(self, tag: str) -> str:
        return f"{self.name}:{{{tag}}}"

    def make_key(self, name: str, tenant: str, role: Any, node: str | None = None) -> None:
        id_, secret = KeyId(secrets.token_hex(8)), secrets.token_urlsafe(32)
        key = new_key(secret, tenant, role, int(time.time() * 1000), node=node)
        self.redis.execute_command("FCALL", "fleet1_apikey_put", 1, self.shard("0"), id_, msgspec.json.encode(key))
        self.keys[name] = key_text(id_, secret)

    def ask(self, call: Call, known: dict[str, int]) -> httpx.Response:
        """The answer; numbers that it has of jobs and nodes are remembered. `known` are those that it was told."""
        number = self.numbers.get(call.about) or known.get(call.about, 1)
        body = call.body and {name: number if value == PRESENT else value for name, value in call.body.items()}
        headers = {"authorization": f"Bearer {self.keys[call.key]}", **dict(call.headers)}
        told = self.http.request(call.method, call.path, json=body, headers=headers)
        if told.status_code < 300 and told.headers["content-type"] == "application/json":
            self._remember(call, told.json())
        return told

    def _remember(self, call: Call, told: dict[str, Any]) -> None:
        if "incarnation" in told:
            self.numbers[call.path.rpartition("/")[2]] = told["incarnation"]
        jobs = [one.get("job") for one in told["jobs"]] if "jobs" in told else [told.get("job")]
        for job in jobs:
            if job and job["fence"]:
                self.numbers[job["id"]] = job["fence"]

    def settle(self) -> None:
        """Whatever is overdue is reaped: at which moment a replica would do that is chance."""
        for tag in self.tags:
            while self.redis.execute_command("FCALL", "fleet1_reap", 1, self.shard(tag))[1:] != [0, 0, 0]:
                pass

    def events(self, key: str, last: frozenset[str]) -> dict[str, list[dict[str, Any]]]:
        """All that the key's owner may hear, by job or node, until each of these jobs was cancelled."""
        heard: dict[str, list[dict[str, Any]]] = defaultdict(list)
        headers = {"authorization": f"Bearer {self.keys[key]}"}
        with self.http.stream("GET", "/v1/events?after=0", headers=headers) as stream:
            assert stream.status_code == 200, stream.read()
            for line in stream.iter_lines():
                if line.startswith("event:"):
                    heard["-"].append({"event": line})
                if not line.startswith("data: "):
                    continue
                told = json.loads(line.removeprefix("data: "))
                event = {name: value for name, value in told.items() if name not in {*CLOCKS, "id"}}
                heard[event.get("job") or event.get("node", "")].append(event)
                last -= {event.get("job")} if event.get("kind") == "job_cancelled" else set()
                if not last:
                    return heard
        raise AssertionError("the stream ended by itself")


def compared(world: World, told: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body without what no two runs have alike."""
    headers = {name: value for name, value in told.headers.items() if name not in OF_THE_REQUEST}
    if "json" in headers.get("content-type", ""):
        return told.status_code, headers, _still(told.json())
    # pages show commands for Redis
    return told.status_code, headers, told.text.replace(world.name, "~")


def _still(value: Any) -> Any:
    if isinstance(value, list):
        return [_still(inner) for inner in value]
    if isinstance(value, dict):
        return {name: "~" if name in CLOCKS and inner is not None else _still(inner) for name, inner in value.items()}
    return value


@contextmanager
def worlds(redis: Any, url: str, names: tuple[str, ...], tags: tuple[str, ...]) -> Iterator[list[World]]:
    """Empty fleets, each with a replica that listens."""
    with ExitStack() as stack:
        found: list[World] = []
        for name in names:
            if len(tags) > 1:
                for tag in reversed(tags):
                    redis.execute_command("FCALL", "fleet1_shard_init", 1, f"{name}:{{{tag}}}", " ".join(tags))
            app = create_app(Settings(redis_url=url, namespace=name, auth="required"))
            port = stack.enter_context(served(app, Limits()))
            # pages show whom they were asked of
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"host": "replica"}, timeout=20)
            http = stack.enter_context(client)
            found.append(World(name, redis, http, tags))
            wait_until(found[-1].ready, "the replica is ready")
        yield found


def names_beside(tags: tuple[str, ...], tenant: str, node: str, count: int) -> list[str]:
    """Ids for jobs that lead to the shard of the node, so that no job has to move, which takes a chance time."""
    found = (f"{node}-{number}" for number in range(1_000))
    beside = [name for name in found if home_tag(tags, f"{tenant}:{name}") == home_tag(tags, node)]
    return beside[:count]


def everything_of(redis: Any, name: str, tenant: str, jobs: set[str]) -> dict[str, Any]:
    """Each key of the tenant's as its bytes, and of keys that all share what is the tenant's in them.

    Left out are the order of changes and the replicas' turns, which go on by themselves, and whose turn it is among
    tenants that wait: that is forgotten once nobody waits.
    """
    ids = "|".join(map(re.escape, sorted(jobs)))
    own = re.compile(rf"(^|[: ]){tenant}(\d+)?([: ]|$)" + (rf"|{ids}" if ids else ""))
    keys = sorted(raw.decode() for raw in redis.scan_iter(match=f"{name}:*", count=10_000))
    whole, shared = redis.pipeline(transaction=False), redis.pipeline(transaction=False)
    for key in keys:
        whole.dump(key)
        whole.type(key)
    told = whole.execute()
    found, asked = {}, []
    for key, dumped, kind in zip(keys, told[::2], told[1::2], strict=True):
        rest = key.partition("}")[2]
        if own.search(rest) or rest in {":apikeys", ":pools", ":tenants"}:
            found[key] = dumped
        elif rest not in {":changed", ":mover", ":fair"} and kind in {b"zset", b"set", b"hash"}:
            asked.append(key)
            _members(shared, key, kind)
    for key, held in zip(asked, shared.execute(), strict=True):
        members = sorted(str(member) for member in _pairs(held) if own.search(str(member[0])))
        if members:
            found[key] = members
    return found


def _members(pipe: Any, key: str, kind: bytes) -> None:
    if kind == b"zset":
        pipe.zrange(key, 0, -1, withscores=True)
    elif kind == b"set":
        pipe.smembers(key)
    else:
        pipe.hgetall(key)


def _pairs(held: Any) -> list[tuple[str, Any]]:
    if isinstance(held, set):
        return [(member.decode(), b"") for member in held]
    return [(pair[0].decode(), pair[1]) for pair in (held.items() if isinstance(held, dict) else held)]
