"""The raw calls of a test: seeds, claims and time on one shard, with nothing of ours between test and server."""

import json
from typing import Any, cast

import msgpack
import redis

from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, NodeId, PoolName, Tenant
from scheduler.domain.job import JobRequest
from scheduler.store.codec import Shortlist, pack_claim
from tests.lua.keyspace import P

Reply = list[Any]


class Shard:
    """One shard of the test's server, fleet:{0} where nothing else is said."""

    def __init__(self, client: redis.Redis, key: str = P) -> None:
        self.client, self.key = client, key

    def call(self, name: str, *args: str | bytes | float, key: str | None = None) -> Reply:
        """FCALL as redis-cli would; an error reply raises redis.ResponseError. Answers to claims come unpacked."""
        answer = cast(
            "Reply",
            self.client.execute_command("FCALL", f"fleet1_{name}", 1, self.key if key is None else key, *args),
        )
        return [answer[0], *msgpack.unpackb(answer[1], raw=True)] if name == "job_claim" else answer

    def register(self, node: str = "n1", capabilities: str = "asr:zh", slots: int = 2, **fields: object) -> str:
        """A node in the fleet; answers its incarnation."""
        given: dict[str, object] = {"endpoint": f"http://{node}", "slots": slots, "capabilities": capabilities}
        pairs = [str(word) for pair in (given | fields).items() for word in pair]
        return cast("str", self.call("node_register", node, *pairs)[1].decode())

    def packed(
        self,
        job: str = "j1",
        *nodes: str,
        requires: str = "asr:zh",
        tenant: str = "acme",
        pool: str | None = None,
        digest: str = "d",
        known: bool = True,
        languages: str = "",
        **fields: Any,
    ) -> bytes:
        """A claim as a replica with a fresh snapshot packs it (known: it holds the nodes' structure)."""
        lists = {name: fields.pop(name) for name in ("offered", "look", "last") if name in fields}
        demand = demand_from_tokens(
            requires.split(), Tenant(tenant), PoolName(pool) if pool else None, fallback=fields.pop("fallback", True)
        )
        shortlist = Shortlist(
            [NodeId(node) for node in nodes],
            [(self.field(f"node:{node}", "structure") if known else "") or "0" for node in nodes],
            [1 for _ in nodes],
            int(self.meta("config_version")),
            int(self.meta("structure_version")),
            **lists,
        )
        packed = pack_claim(JobRequest(JobId(job), digest, demand, **fields), shortlist)
        if languages:
            packed = msgpack.packb({**msgpack.unpackb(packed), "languages": languages}, use_bin_type=False)
        return packed

    def claim(self, job: str = "j1", *nodes: str, **fields: Any) -> Reply:
        """One claim; its own answer, without the reply's first word."""
        word, answer = self.call("job_claim", self.packed(job, *nodes, **fields))
        assert word == b"claimed"
        if answer[0] == b"refused":
            # a refusal ends with the epoch that it was decided in
            assert answer.pop().decode() == self.meta("epoch")
        return cast("Reply", answer)

    def place(self, job: str = "j1", node: str = "n1", **fields: Any) -> str:
        """A claim that must be placed on that node; answers its fence."""
        answer = self.claim(job, node, **fields)
        assert answer[:3] == [b"placed", job.encode(), node.encode()], answer
        return cast("str", answer[5].decode())

    def run(self, job: str = "j1", node: str = "n1", **fields: Any) -> str:
        """A running job on that node; answers its fence."""
        fence = self.place(job, node, **fields)
        assert self.call("job_start", job, fence)[0] == b"running"
        return fence

    def put(self, pool: str, **fields: object) -> str:
        """A configured pool, of every node where it says nothing else; answers the config_version."""
        text = json.dumps({"selector": {"all": True}} | fields)
        word, version = self.call("pool_put", pool, text)
        assert word == b"stored"
        return cast("str", version.decode())

    def apply(self, pools: dict[str, Any], **more: object) -> str:
        """The whole configuration in place of the present one; answers the config_version."""
        answer = self.call("pools_apply", self.meta("config_version"), json.dumps({"pools": pools} | more))
        assert answer[0] == b"applied"
        return cast("str", answer[1].decode())

    def beat(self, node: str = "n1", **fields: object) -> None:
        """A heartbeat of the node's present incarnation."""
        pairs = [str(word) for pair in fields.items() for word in pair]
        assert self.call("node_heartbeat", node, self.field(f"node:{node}", "incarnation"), *pairs)[0] == b"ok"

    def field(self, key: str, name: str) -> str:
        value = cast("bytes | None", self.client.hget(f"{self.key}:{key}", name))
        return value.decode() if value is not None else ""

    def meta(self, name: str) -> str:
        value = cast("bytes | None", self.client.hget(self.key, name))
        return value.decode() if value is not None else "0"

    def advance(self, ms: int) -> None:
        """Time passes on the shard clock."""
        self.client.hincrby(self.key, "clock", ms)
