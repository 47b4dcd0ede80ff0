"""What an examination of the fleet reads: facts of each primary and each shard, with no judgement of them."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from scheduler.errors import ServerUnavailable
from scheduler.store.client import Client, heeding_cancel
from scheduler.store.library import NAME, NUMBERS
from scheduler.store.views import Views

LATE_MS = 2_000
_CONFIG = ("min-replicas-to-write", "cluster-require-full-coverage")
# Each would be refused for what it is given before it changed anything: only whether it may be called is learnt.
PROBES: Mapping[str, tuple[str, ...]] = {
    "place jobs": ("job_claim", "x"),
    "finish jobs": ("job_finish", "j", "x"),
    "register nodes": ("node_register", "n"),
    "configure pools": ("pool_put", "p", "{}"),
    "reap": ("reap", "x"),
    "follow the fleet": ("mirror_read", "x"),
    "explain": ("explain", "{}"),
}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One primary. What its user may not ask is absent: from `config`, or None."""

    name: str
    info: Mapping[str, Any]
    config: Mapping[str, str]
    library: tuple[int, int] | None
    library_known: bool
    ahead_ms: int

    @property
    def version(self) -> str:
        return str(self.info.get("valkey_version") or self.info.get("redis_version") or "0")

    def number(self, name: str) -> int:
        return int(self.info.get(name) or 0)


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """One shard. `oldest_ms`: how long the first of a queue has waited; `pools`: all of its configuration as text."""

    tag: str
    key: str
    primary: str
    library: tuple[int, int] | None
    meta: Mapping[str, str]
    nodes: int
    lost: int
    quarantined: int
    overdue_nodes: int
    overdue_leases: int
    orphans: int
    waiting: int
    oldest_ms: int
    pools: str
    now_ms: int

    def number(self, name: str) -> int:
        return int(self.meta.get(name) or 0)

    @property
    def silent_ms(self) -> int:
        """Since a call last moved the shard's clock; below 0 where the wall clock stepped back meanwhile."""
        return self.now_ms - self.number("clock_seen_at_ms") if "clock" in self.meta else 0

    @property
    def clock_behind_ms(self) -> int:
        return self.now_ms - self.number("clock") if "clock" in self.meta else 0


@dataclass(frozen=True, slots=True)
class UserFacts:
    """Who we are there, and what of PROBES that user may not do; `open`: anybody may come in as this user."""

    name: str | None
    refused: tuple[str, ...] = ()
    open: bool = field(default=False)


def _pairs(answer: Any) -> dict[str, str]:
    held = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
    return {_text(name): _text(value) for name, value in held.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class Health:
    """Reads that change nothing; each raises ServerUnavailable where Redis does not answer."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def servers(self) -> list[ServerFacts]:
        try:
            with heeding_cancel():
                return [await self._server(name) for name in await self._client.primaries()]
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(f"Redis does not answer: {error}") from error

    async def shard(self, tag: str, key: str, views: Views) -> ShardFacts:
        """Facts of one shard, by its key and what reads it."""
        meta, _, _ = await views.shard()
        try:
            with heeding_cancel():
                return await self._shard(tag, key, views, meta)
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(f"Redis does not answer: {error}") from error

    async def user(self, key: str) -> UserFacts:
        """What we may do at the primary that serves this shard."""
        try:
            with heeding_cancel():
                return await self._user(key)
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(f"Redis does not answer: {error}") from error

    async def _user(self, key: str) -> UserFacts:
        primary = await self._client.primary_of(key)
        name = await self._allowed(primary, "ACL", "WHOAMI")
        refused: list[str] = []
        for what, (function, *args) in PROBES.items():
            try:
                await self._client.execute_command("FCALL", f"{NAME}_{function}", 1, key, *args)
            except NoPermissionError:
                refused.append(what)
            except ResponseError:
                continue
        rules = await self._allowed(primary, "ACL", "LIST") or ()
        default = next((rule for rule in map(_text, rules) if rule.startswith("user default ")), "")
        is_open = {"on", "nopass"}.issubset(default.split())
        return UserFacts(None if name is None else _text(name), tuple(refused), is_open)

    async def _allowed(self, primary: str, *command: str) -> Any:
        """The answer, or None where this user may not ask."""
        try:
            return await self._client.ask(primary, *command)
        except ResponseError:
            return None

    async def _server(self, name: str) -> ServerFacts:
        info = await self._client.ask(name, "INFO")
        before = time.time()
        seconds, micros = await self._client.ask(name, "TIME")
        here_ms = (before + time.time()) * 500
        config: dict[str, str] = {}
        for option in _CONFIG:
            told = await self._allowed(name, "CONFIG", "GET", option)
            config |= _pairs(told) if told else {}
        listed = await self._allowed(name, "FUNCTION", "LIST", "LIBRARYNAME", NAME, "WITHCODE")
        code = _pairs(listed[0]).get("library_code", "") if listed else ""
        held = NUMBERS.search(code)
        return ServerFacts(
            name=name,
            info=info,
            config=config,
            library=(int(held[1]), int(held[2])) if held else None,
            library_known=listed is not None,
            ahead_ms=round(int(seconds) * 1000 + int(micros) / 1000 - here_ms),
        )

    async def _shard(self, tag: str, key: str, views: Views, meta: Mapping[str, str]) -> ShardFacts:
        # what came due a moment ago is not late: reaping comes every 250 ms
        clock = int(meta.get("clock", 0)) - LATE_MS
        pipe = self._client.pipeline(transaction=False)
        for command in (
            ("ZCARD", f"{key}:nodes"),
            ("ZCARD", f"{key}:lost"),
            ("ZCARD", f"{key}:quarantined"),
            ("ZCOUNT", f"{key}:nodes", "-inf", f"({clock}"),
            ("ZCOUNT", f"{key}:lost", "-inf", f"({clock}"),
            ("ZCOUNT", f"{key}:leases", "-inf", f"({clock}"),
            ("ZCARD", f"{key}:pending"),
            ("HKEYS", f"{key}:waiting"),
            ("EXISTS", f"{key}:orphans"),
        ):
            pipe.execute_command(*command)
        nodes, lost, quarantined, lapsed, forgotten, leases, waiting, queues, orphans = await pipe.execute()
        primary = await self._client.primary_of(key)
        seconds, micros = await self._client.ask(primary, "TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        created = await self._first_created(key, [_text(queue) for queue in queues])
        _, configuration = await views.configuration()
        return ShardFacts(
            tag=tag,
            key=key,
            primary=primary,
            library=await self._library(key),
            meta=meta,
            nodes=nodes,
            lost=lost,
            quarantined=quarantined,
            overdue_nodes=lapsed - forgotten,
            overdue_leases=leases,
            orphans=orphans,
            waiting=waiting,
            oldest_ms=now_ms - created if created else 0,
            pools=repr(configuration),
            now_ms=now_ms,
        )

    async def _library(self, key: str) -> tuple[int, int] | None:
        """ABI and revision that this shard is served by; None where there is none, or it may not be asked."""
        try:
            answer = await self._client.execute_command("FCALL", f"{NAME}_library_read", 1, key)
        except ResponseError:
            return None
        return int(answer[1]), int(answer[2])

    async def _first_created(self, key: str, queues: Sequence[str]) -> int:
        """When the oldest of the first jobs of these queues was created, by the wall clock; 0 where none waits."""

        async def created(queue: str) -> int:
            heads = await self._client.execute_command("ZRANGE", f"{key}:queue:{queue}", 0, 0)
            held = (
                await self._client.execute_command("HGET", f"{key}:job:{_text(heads[0])}", "created_at_ms")
                if heads
                else 0
            )
            return int(held or 0)

        found = [at for at in await asyncio.gather(*map(created, queues)) if at]
        return min(found, default=0)
