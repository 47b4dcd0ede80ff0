"""The key map: every key that the functions make, its type and its meaning; `docs/architecture.md` has the same."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from redis.exceptions import NoPermissionError, RedisError

from scheduler.errors import ServerUnavailable
from scheduler.store.client import Client, heeding_cancel

Kind = Literal["hash", "zset", "set", "stream", "string"]

# Tokens, and ids of jobs and sessions, may have colons of their own.
_WITH_COLONS = ("P:cap:", "P:job:", "P:session:", "P:hold:", "P:rate:")
# What one look may list, so that it ends on a large fleet, too.
PAGE, PAGES_MAX = 1_000, 200
_LOOKS: dict[Kind, str] = {
    "hash": "HGETALL '{key}'",
    "zset": "ZRANGE '{key}' 0 9 WITHSCORES",
    "set": "SRANDMEMBER '{key}' 10",
    "stream": "XREVRANGE '{key}' + - COUNT 10",
    "string": "GET '{key}'",
}


@dataclass(frozen=True)
class KeyRow:
    """Keys of one shape; `P` stands for the shard's prefix, and words in angle brackets for a part each."""

    pattern: str
    kind: Kind
    meaning: str

    @cached_property
    def _form(self) -> re.Pattern[str]:
        inner, _, last = re.sub("<[a-z]+>", "<>", self.pattern.removeprefix("P")).rpartition("<>")
        ends = ".+" if self.pattern.startswith(_WITH_COLONS) else "[^:]+"
        begins = "".join("[^:]+" if part == "<>" else re.escape(part) for part in re.split("(<>)", inner))
        return re.compile(f"{begins}{ends if '<' in self.pattern else ''}{re.escape(last)}\\Z")

    def fits(self, rest: str) -> bool:
        """Whether a key of this shape has this behind the shard's prefix."""
        return self._form.match(rest) is not None

    def look(self, key: str) -> str:
        """What shows the key, or its first entries, in redis-cli."""
        return f"redis-cli {_LOOKS[self.kind].format(key=key)}"


KEYS = (
    KeyRow(
        "P",
        "hash",
        "`abi`, `revision`, `shards`, `epoch`; `tags` of all shards where it was divided, `config_source` "
        "where it has a copy of the first shard's pools, `frozen`; `version`, `structure_version`, "
        "`config_version`; where there are quotas `tenants_version` and in copies `tenants_source`; `floor`; "
        "`clock`, `clock_seen_at_ms`, `reaped_ms`; where configured `cpu_max`, `gpu_max`, `mem_max`, "
        "`language_pools`, `weights`; `paused_ms` while reaping pauses; once there was something to reap "
        "`reaped_nodes`, `reaped_leases`, `reaped_jobs`; `apikeys_version` in the first shard, since there was a key",
    ),
    KeyRow("P:node:<id>", "hash", "what the node reports, and its `state`, `incarnation`, `pools`, `structure`"),
    KeyRow("P:node:<id>:leases", "zset", "job → deadline; its size is the number of used slots"),
    KeyRow("P:node:<id>:inbox", "stream", "deliveries and cancels not yet taken"),
    KeyRow(
        "P:node:<id>:ending",
        "hash",
        "job → fence and inbox entry of an attempt that is over but that the node has not confirmed; its "
        "slot stays used",
    ),
    KeyRow("P:nodes", "zset", "node → deadline of its heartbeat; of a lost node, when it is forgotten"),
    KeyRow("P:lost", "zset", "lost node → when it is forgotten; they are in `P:nodes`, too"),
    KeyRow(
        "P:waiting",
        "hash",
        "`<demand>:<tenant>` → what its jobs want, in JSON; at most 128, and 256 with those of jobs that wait again",
    ),
    KeyRow("P:queue:<demand>:<tenant>", "zset", "waiting job → priority and age; the lowest is served first"),
    KeyRow("P:pending", "zset", "waiting job → until when it waits"),
    KeyRow("P:fair", "hash", "tenant → its turn in the queues; gone when nobody waits"),
    KeyRow("P:free", "set", "nodes that can take a job now"),
    KeyRow("P:cap:<token>", "set", "nodes that offer it; `asr:zh` is also under `asr`"),
    KeyRow("P:pool:<name>", "set", "members"),
    KeyRow("P:pools", "hash", "pool → configuration in JSON; absent while none is configured"),
    KeyRow("P:settled", "zset", "node → the `config_version` under which its pools were computed"),
    KeyRow("P:changed", "zset", "node → version of its last material change; removed nodes stay as tombstones"),
    KeyRow("P:removed", "zset", "tombstone → when it was set; after ten minutes it goes, and `floor` rises past it"),
    KeyRow("P:quarantined", "zset", "node that failed job after job → until when it is set aside"),
    KeyRow("P:orphans", "set", "`<node>:<incarnation>` of the gone incarnations that held leases"),
    KeyRow("P:orphan:<node>:<incarnation>", "zset", "their leases, for reaping to page through"),
    KeyRow("P:orphan:<node>:<incarnation>:ending", "hash", "their endings"),
    KeyRow(
        "P:job:<id>",
        "hash",
        "demand, payload, state, node, fence, attempt, result, `traceparent`; kept for an hour after its end. "
        "`ending:<fence>` names a node that owes a confirmation",
    ),
    KeyRow(
        "P:moved",
        "zset",
        "job that is in another shard → when that is looked after again; its hash has `state` `moved`, "
        "`shard` and `hold`",
    ),
    KeyRow(
        "P:hold:<token>",
        "string",
        "the node of a slot that is held for a moment, for a job of another shard; the token stands among the "
        "leases. Empty for a minute once it is over",
    ),
    KeyRow("P:mover", "string", "the replica that looks for slots elsewhere for what waits here, for 300 ms"),
    KeyRow("P:leases", "zset", "every lease that reaping may end, by deadline"),
    KeyRow("P:tenants", "hash", "tenant, or `*` for all others → its quotas in JSON"),
    KeyRow(
        "P:lent", "hash", "`<quota> <tenant>` → what this shard took of the parts of others, or below 0 gave them"
    ),
    KeyRow(
        "P:tenant:<tenant>:leases",
        "zset",
        "job, or held token → its fence; `<job> <fence>` is an attempt that is over but that its node has not "
        "confirmed. Its size is the number of slots that the tenant occupies",
    ),
    KeyRow(
        "P:rate:<tenant>", "string", "requests of this second; with `:before` of the one before; first shard only"
    ),
    KeyRow("P:session:<tenant>:<id>", "string", "the session's node, with a time to live"),
    KeyRow("P:apikeys", "hash", "API key → its JSON, with a hash and no secret; in the first shard only"),
    KeyRow("P:apikeys_ending", "zset", "API key that ends by itself → when"),
    KeyRow("P:events", "stream", "what happened, with reasons; about the last 10,000"),
    KeyRow(
        "P:audit",
        "stream",
        "who changed nodes, pools or others' jobs, by a door that says who; about the last 10,000",
    ),
)


def row_of(rest: str) -> KeyRow | None:
    """The row of the key that has this behind the shard's prefix."""
    return next((row for row in KEYS if row.fits(rest)), None)


async def examples(client: Client, shard: str) -> dict[str, str] | None:
    """One key that exists for each pattern of which the shard has any; None where this user may not list keys."""
    found: dict[str, str] = {}
    cursor: Any = 0
    try:
        with heeding_cancel():
            primary = await client.primary_of(shard)
            for _ in range(PAGES_MAX):
                cursor, keys = await client.ask(primary, "SCAN", cursor, "MATCH", f"{shard}*", "COUNT", PAGE)
                if isinstance(cursor, dict):  # a cluster's client tells whose cursor it is
                    (cursor,) = cursor.values()
                for key in sorted(raw.decode() for raw in keys):
                    if row := row_of(key.removeprefix(shard)):
                        found.setdefault(row.pattern, key)
                if int(cursor) == 0 or len(found) == len(KEYS):
                    break
    except NoPermissionError:
        return None
    except (TimeoutError, RedisError, OSError) as error:
        raise ServerUnavailable(f"Redis does not answer: {error}") from error
    return found
