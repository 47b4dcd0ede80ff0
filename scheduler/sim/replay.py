"""Replays a trace over HTTP: each request at its time, each job finished after its service time."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from scheduler.sim.trace import Request, service_s

CONNECTIONS = 64
ACK_MARGIN_MS = 30_000


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """How to replay. Rates in tokens a second of a node's service; speed divides every time."""

    urls: tuple[str, ...]
    speed: float
    requires: tuple[str, ...]
    affinity: str = "none"
    tenant: str = "default"
    input_rate: float = 20_000
    output_rate: float = 50
    run: str = field(default_factory=lambda: f"replay-{random.getrandbits(48):x}")

    def service_s(self, request: Request) -> float:
        return service_s(request, self.input_rate, self.output_rate) / self.speed


@dataclass
class Report:
    """What became of the requests; latencies are those of placements, in ms.

    `lost` counts jobs whose attempt was over before its end was told: their node was lost on the way.
    """

    requests: int = 0
    placed: int = 0
    failed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    conflicts: int = 0
    lost: int = 0
    finish_failed: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    nodes: Counter[str] = field(default_factory=Counter)
    session_nodes: dict[str, list[str]] = field(default_factory=dict)
    behind_ms: float = 0.0
    seconds: float = 0.0

    def document(self, known_nodes: int) -> dict[str, object]:
        """The report as plain values. `balance` counts nodes that got nothing, too."""
        ordered = sorted(self.latencies_ms)
        quantiles = {
            f"p{q}": round(ordered[min(len(ordered) * q // 100, len(ordered) - 1)], 2) if ordered else None
            for q in (50, 95, 99)
        }
        spread = max(known_nodes, len(self.nodes))
        mean = self.placed / spread if spread else 0.0
        pairs = [p for nodes in self.session_nodes.values() for p in itertools.pairwise(nodes)]
        visited = sum(len(set(nodes)) for nodes in self.session_nodes.values())
        return {
            "requests": self.requests,
            "placed": self.placed,
            "refused": sum(self.refused.values()),
            "refused_by_class": dict(self.refused),
            "refused_by_reason": dict(self.reasons),
            "failed": self.failed,
            "lost": self.lost,
            "finish_failed": self.finish_failed,
            "conflicts": self.conflicts,
            "latency_ms": quantiles,
            "balance": round(max(self.nodes.values()) / mean, 3) if self.nodes else None,
            "nodes_used": len(self.nodes),
            "placements_per_session_node": round(self.placed / visited, 3) if visited else None,
            "follow_ups_on_their_node": round(sum(a == b for a, b in pairs) / len(pairs), 4) if pairs else None,
            "behind_schedule_ms": round(self.behind_ms, 1),
            "seconds": round(self.seconds, 2),
        }


class Replay:
    """One run. At most 64 calls are out at once, others wait in turn; `behind_ms` says how late the sender was."""

    def __init__(
        self,
        plan: ReplayPlan,
        requests: list[Request],
        progress: Callable[[Report], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._plan = plan
        self._headers = headers or {}
        self._requests = requests
        self._progress = progress
        self._urls = itertools.cycle(plan.urls)
        # waiting calls stand in one queue here, oldest first, whatever they are
        self._room = asyncio.Semaphore(CONNECTIONS)
        self.report = Report(requests=len(requests))

    async def run(self) -> dict[str, object]:
        started = time.monotonic()
        session = aiohttp.ClientSession(
            headers={"x-fleet-tenant": self._plan.tenant, **self._headers},
            timeout=aiohttp.ClientTimeout(total=10),
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        )
        async with session as client:
            async with asyncio.TaskGroup() as group:
                for number, request in enumerate(self._requests):
                    due = started + request.arrival_ms / 1000 / self._plan.speed
                    late = time.monotonic() - due
                    if late < 0:
                        await asyncio.sleep(-late)
                    self.report.behind_ms = max(self.report.behind_ms, late * 1000)
                    group.create_task(self._one(client, number, request))
            self.report.seconds = time.monotonic() - started
            return self.report.document(await self._fleet_size(client))

    async def _fleet_size(self, client: aiohttp.ClientSession) -> int:
        try:
            async with client.get(f"{self._plan.urls[0]}/v1/cluster") as answer:
                return int((await answer.json())["nodes"]["ready"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return 0

    async def _post(
        self, client: aiohttp.ClientSession, path: str, body: dict[str, object]
    ) -> tuple[int, dict[str, Any]] | None:
        """One call, tried again on another replica where the connection failed: every call here is safe to repeat."""
        for _ in range(3):
            try:
                async with self._room, client.post(f"{next(self._urls)}{path}", json=body) as answer:
                    return answer.status, await answer.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                await asyncio.sleep(0.05)
        return None

    async def _one(self, client: aiohttp.ClientSession, number: int, request: Request) -> None:
        service_s = self._plan.service_s(request)
        body: dict[str, object] = {
            "id": f"{self._plan.run}-{number}",
            "requires": list(self._plan.requires),
            "deliver": "direct",
            # nobody starts it apart from its end, so the acknowledgement may take as long as the service
            "ack_ms": int(service_s * 1000) + ACK_MARGIN_MS,
        }
        if request.session:
            body["session"] = request.session
            body["affinity"] = self._plan.affinity
        started = time.perf_counter()
        answer = await self._post(client, "/v1/jobs", body)
        latency_ms = (time.perf_counter() - started) * 1000
        job = self._count(answer, request, latency_ms)
        self._progress(self.report)
        if job is None:
            return
        await asyncio.sleep(service_s)
        finish = {"fence": job["fence"], "outcome": "succeeded"}
        ended = await self._post(client, f"/v1/jobs/{job['id']}/finish", finish)
        if ended is None:
            self.report.finish_failed += 1
        elif ended != (200, {"outcome": "finished"}):
            await self._count_unfinished(client, job)

    async def _count_unfinished(self, client: aiohttp.ClientSession, job: dict[str, Any]) -> None:
        """A job whose end came too late: lost with its node, ended by an earlier telling of ours, or failed."""
        held: dict[str, Any] = {}
        for _ in range(3):
            try:
                async with self._room, client.get(f"{next(self._urls)}/v1/jobs/{job['id']}") as answer:
                    held = (await answer.json(content_type=None)).get("job", {})
                break
            except (aiohttp.ClientError, TimeoutError, ValueError):
                await asyncio.sleep(0.05)
        if held.get("reason") == "node_lost" or held.get("fence", job["fence"]) != job["fence"]:
            self.report.lost += 1
        elif held.get("state") != "succeeded":
            self.report.finish_failed += 1

    def _count(
        self, answer: tuple[int, dict[str, Any]] | None, request: Request, latency_ms: float
    ) -> dict[str, Any] | None:
        report = self.report
        body = answer[1] if answer is not None else {}
        if "job" not in body:
            if "class" in body:
                report.refused[body["class"]] += 1
                if body["reasons"]:
                    report.reasons[max(body["reasons"], key=body["reasons"].__getitem__)] += 1
            else:
                report.failed += 1
            return None
        job: dict[str, Any] = body["job"]
        report.placed += 1
        report.latencies_ms.append(latency_ms)
        report.conflicts += int(body.get("placement", {}).get("conflict", False))
        report.nodes[job["node"]["id"]] += 1
        if request.session:
            report.session_nodes.setdefault(request.session, []).append(job["node"]["id"])
        return job
