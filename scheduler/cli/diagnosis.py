"""What is said of the facts of a fleet: a finding each, with how bad it is and what to do about it."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from scheduler.store.health import ServerFacts, ShardFacts, UserFacts
from scheduler.store.library import Library

Level = Literal["ok", "warn", "fail"]
CLOCKS_APART_MS, SILENT_MS, WAITED_MS = 1_000, 5_000, 60_000
FULL_PERCENT = 80


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `at` is a primary, a shard or a replica; `fix` is empty where all is well."""

    check: str
    level: Level
    at: str
    said: str
    fix: str = ""


def of_server(server: ServerFacts, library: Library, *, cluster: bool) -> Iterator[Finding]:
    """Findings of one primary."""

    def told(check: str, level: Level, said: str, fix: str = "") -> Finding:
        return Finding(check, level, server.name, said, fix)

    major = int(server.version.partition(".")[0])
    name = "Valkey" if "valkey_version" in server.info else "Redis"
    if major < 7:
        yield told("version", "fail", f"{name} {server.version} is too old", "run Redis 7.0 or newer, or Valkey")
    else:
        yield told("version", "ok", f"{name} {server.version}")
    yield from _library(server, library)
    if server.info.get("role") != "master":
        fix = "name the primary in REDIS_URL, or its cluster or sentinels"
        yield told("role", "fail", "it follows another server and takes no writes", fix)
    yield _persistence(server)
    yield _policy(server)
    yield _memory(server)
    yield from _copies(server)
    if cluster:
        yield _coverage(server)
    if abs(server.ahead_ms) > CLOCKS_APART_MS:
        said = (
            f"its clock is {abs(server.ahead_ms)} ms {'ahead of' if server.ahead_ms > 0 else 'behind'} this machine's"
        )
        yield told("server clock", "warn", said, "run NTP on both: instants shown to people come from the server")
    else:
        yield told("server clock", "ok", f"within {CLOCKS_APART_MS} ms of this machine's")


def _library(server: ServerFacts, library: Library) -> Iterator[Finding]:
    need = f"ABI {library.abi} revision {library.revision}"
    if not server.library_known:
        return  # each shard says which library serves it
    if server.library is None:
        yield Finding("library", "fail", server.name, "the function library is missing", "run `fleet library load`")
        return
    abi, revision = server.library
    yield _fits("library", server.name, abi, revision, need, library)


def _fits(check: str, at: str, abi: int, revision: int, need: str, library: Library) -> Finding:
    said = f"ABI {abi} revision {revision}"
    if abi == library.abi and revision >= library.revision:
        return Finding(check, "ok", at, said)
    return Finding(check, "fail", at, f"{said}, this program needs {need}", "run `fleet library load`")


def _persistence(server: ServerFacts) -> Finding:
    if server.info.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            "persistence", "fail", server.name, "the last write to the AOF failed", "make room on its disk"
        )
    if server.number("aof_enabled"):
        return Finding("persistence", "ok", server.name, "appendonly yes: a killed process loses nothing")
    fix = "set `appendonly yes`, as in deploy/redis/redis.conf"
    return Finding("persistence", "warn", server.name, "there is no AOF: a crash loses every job", fix)


def _policy(server: ServerFacts) -> Finding:
    policy = str(server.info.get("maxmemory_policy", "?"))
    if policy == "noeviction":
        return Finding("eviction", "ok", server.name, "noeviction")
    said = f"{policy} takes keys away behind everybody's back"
    return Finding("eviction", "fail", server.name, said, "set `maxmemory-policy noeviction`")


def _memory(server: ServerFacts) -> Finding:
    limit, used = server.number("maxmemory"), server.number("used_memory")
    mib = f"{used / 2**20:,.0f} MiB used"
    if not limit:
        fix = "set `maxmemory` to 60 % of the machine's memory"
        return Finding("memory", "warn", server.name, f"{mib} of no limit: the kernel would kill the server", fix)
    percent = used * 100 / limit
    if percent < FULL_PERCENT:
        return Finding("memory", "ok", server.name, f"{mib}, {percent:.0f} % of the limit")
    level: Level = "warn" if percent < 100 else "fail"
    fix = "raise `maxmemory`, send smaller payloads, or add shards"
    return Finding(
        "memory", level, server.name, f"{mib}, {percent:.0f} % of the limit: beyond it claims are refused", fix
    )


def _copies(server: ServerFacts) -> Iterator[Finding]:
    followers, needed = server.number("connected_slaves"), int(server.config.get("min-replicas-to-write", 0))
    good = server.info.get("min_slaves_good_slaves")
    if good is not None and int(good) < max(needed, 1):
        said = f"it takes no writes: {good} of its copies follow closely, it asks for {needed or 'some'}"
        yield Finding("copies", "fail", server.name, said, "bring its copies back, or set `min-replicas-to-write 0`")
    elif good is None and followers:
        said = "it acknowledges writes that no copy has: a failover may forget them"
        yield Finding(
            "copies", "warn", server.name, said, "set `min-replicas-to-write 1` and `min-replicas-max-lag 3`"
        )
    else:
        yield Finding(
            "copies",
            "ok",
            server.name,
            f"{followers} servers follow it" if followers else "no server follows it, and none is asked for",
        )


def _coverage(server: ServerFacts) -> Finding:
    said = server.config.get("cluster-require-full-coverage")
    if said == "yes":
        fix = "set `cluster-require-full-coverage no`"
        return Finding("coverage", "warn", server.name, "a primary that is gone would stop every shard", fix)
    return Finding(
        "coverage",
        "ok",
        server.name,
        "may not be read" if said is None else "a primary that is gone stops its own shards only",
    )


def of_shard(shard: ShardFacts, first: ShardFacts, tags: Sequence[str], library: Library) -> Iterator[Finding]:
    """Findings of one shard, beside the first one, which every other must agree with."""
    at = f"{{{shard.tag}}}"

    def told(check: str, level: Level, said: str, fix: str = "") -> Finding:
        return Finding(check, level, at, said, fix)

    need = f"ABI {library.abi} revision {library.revision}"
    if shard.library is not None:
        yield _fits("library", at, *shard.library, need, library)
    elif "frozen" not in shard.meta:
        yield told(
            "library", "fail", "it cannot be called here", "run `fleet library load`, or allow FCALL to this user"
        )
    yield from _agreement(shard, first, tags, at)
    if "frozen" in shard.meta:
        yield told(
            "frozen", "fail", "nothing in it changes", f"once its hash slot has moved: `fleet shard thaw {shard.tag}`"
        )
        return
    yield _clock(shard, at)
    if shard.overdue_leases or shard.overdue_nodes or shard.orphans:
        said = f"{shard.overdue_leases} leases and {shard.overdue_nodes} nodes are overdue"
        said += ", leases of gone incarnations are left" if shard.orphans else ""
        fix = f"nobody reaps: start a replica, or run `redis-cli FCALL fleet1_reap 1 '{shard.key}'`"
        paused = "paused_ms" in shard.meta
        if paused:
            said += "; reaping pauses, for half of the nodes lapsed at once"
            fix = "look at the network between nodes and Redis; the pause ends within 30 s"
        yield told("reaping", "warn", said, fix)
    else:
        yield told("reaping", "ok", "nothing is overdue")
    if shard.lost or shard.quarantined:
        said = f"of {shard.nodes} nodes {shard.lost} are lost and {shard.quarantined} quarantined"
        yield told(
            "nodes", "warn", said, "`fleet nodes` and `fleet events --kind node_lost,node_quarantined` say which"
        )
    else:
        yield told("nodes", "ok", "none is lost or quarantined")
    said = f"{shard.waiting} jobs wait" + (
        f", the oldest for {shard.oldest_ms / 1000:,.0f} s" if shard.oldest_ms else ""
    )
    if shard.oldest_ms > WAITED_MS:
        yield told("waiting", "warn", said, "`fleet explain` says what keeps nodes from them; add such nodes")
    else:
        yield told("waiting", "ok", said)


def of_fleet(shards: Sequence[ShardFacts]) -> Finding:
    """Whether there is anything to place on."""
    nodes = sum(shard.nodes for shard in shards)
    if nodes:
        return Finding(
            "fleet", "ok", "Redis", f"{nodes} nodes in {len(shards)} shard{'s' if len(shards) > 1 else ''}"
        )
    return Finding("fleet", "warn", "Redis", "it has no node", "start nodes: `fleet node run`")


def _agreement(shard: ShardFacts, first: ShardFacts, tags: Sequence[str], at: str) -> Iterator[Finding]:
    if len(tags) == 1:
        return
    if shard.meta.get("tags", "").split() != list(tags):
        said = f"it knows the shards {shard.meta.get('tags') or 'not at all'}, the first one {' '.join(tags)}"
        yield Finding("shards agree", "fail", at, said, "run `fleet init`, and restart replicas")
    elif shard.pools != first.pools:
        versions = f"{shard.number('config_source')}, the first has {first.number('config_version')}"
        said = f"its pools are a copy of version {versions}"
        yield Finding("shards agree", "warn", at, said, "a replica copies them within a second: is one running?")
    else:
        yield Finding("shards agree", "ok", at, "the same shards and pools as the first")


def _clock(shard: ShardFacts, at: str) -> Finding:
    if "clock" not in shard.meta:
        return Finding("shard clock", "ok", at, "nothing has happened in it yet")
    if shard.silent_ms < -CLOCKS_APART_MS:
        said = f"the server's clock stepped back by {-shard.silent_ms / 1000:,.0f} s; deadlines are not touched by it"
        return Finding("shard clock", "warn", at, said, "run NTP on the server")
    if shard.silent_ms > SILENT_MS:
        said = f"it stands still: no replica or node has called for {shard.silent_ms / 1000:,.0f} s"
        return Finding("shard clock", "warn", at, said, "start a replica (`fleet serve`) or nodes")
    behind = f"{shard.clock_behind_ms / 1000:,.1f} s behind the wall clock, by all times that Redis was away"
    return Finding("shard clock", "ok", at, behind if shard.clock_behind_ms > CLOCKS_APART_MS else "it runs")


def of_user(user: UserFacts) -> Iterator[Finding]:
    """Findings of the user of our connection."""
    name = f"the user {user.name}" if user.name else "this user"
    if user.refused:
        said = f"{name} may not {', '.join(user.refused)}"
        yield Finding(
            "user", "warn", "Redis", said, "right for an inspector or a node; replicas need deploy/acl/users.acl"
        )
    else:
        yield Finding("user", "ok", "Redis", f"{name} may do all that a replica does")
    if user.open:
        said = "anybody who reaches the server may do everything: the user default needs no password"
        yield Finding("access", "warn", "Redis", said, "load deploy/acl/users.acl; docs/access.md says how")
