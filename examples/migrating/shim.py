"""Brings the workers of the old registry into the fleet and keeps them alive there, until each does so itself.

It only reads the old registry, so that one needs no change, and it may be stopped or started again at any time.
"""

import asyncio
from contextlib import suppress

import httpx

TURN_S = 0.2
# Whether a worker lives is for the old registry to say; this is long enough for another shim to go on.
TTL_MS = 10_000
MARK = {"kept_by": "shim"}


class Shim:
    """One task that repeats what the old registry says as heartbeats of nodes."""

    def __init__(self, theirs: httpx.AsyncClient, fleet: httpx.AsyncClient) -> None:
        self._theirs, self._fleet = theirs, fleet
        self._kept: dict[str, int] = {}
        # nodes that heartbeat themselves by now: never touched again
        self.gone_over: set[str] = set()

    @property
    def kept(self) -> list[str]:
        return sorted(self._kept)

    async def run(self) -> None:
        while True:
            # either side may be away for a while; the nodes are lost in the fleet if it lasts
            with suppress(httpx.HTTPError):
                await self.turn()
            await asyncio.sleep(TURN_S)

    async def turn(self) -> None:
        for worker in (await self._theirs.get("/workers")).raise_for_status().json():
            if worker["id"] not in self.gone_over:
                await self._beat(worker)

    async def _beat(self, worker: dict[str, object]) -> None:
        name = str(worker["id"])
        if name not in self._kept and not await self._take(worker, name):
            return
        body = {"incarnation": self._kept[name], **_room(worker)}
        answer = await self._fleet.post(f"/v1/nodes/{name}/heartbeat", json=body)
        if answer.status_code == 409:
            # fenced: the worker has registered itself, and has the id from now on
            self.gone_over.add(name)
            del self._kept[name]
        elif answer.status_code == 404:
            # removed or lost meanwhile; if it is still in the old registry, the next turn registers it again
            del self._kept[name]

    async def _take(self, worker: dict[str, object], name: str) -> bool:
        """Register the worker, or go on with what an earlier shim registered, whose leases would else be lost."""
        known = await self._fleet.get(f"/v1/nodes/{name}")
        if known.is_success:
            node = known.json()["node"]
            if node["labels"] != MARK:
                self.gone_over.add(name)
                return False
            if node["state"] != "lost":
                self._kept[name] = node["incarnation"]
                return True
        elif known.status_code != 404:
            # nobody knows now whether the worker has gone over
            return False
        body = {"endpoint": worker["url"], "capabilities": worker["offers"], "labels": MARK, "ttl_ms": TTL_MS}
        answer = await self._fleet.put(f"/v1/nodes/{name}", json=body | _room(worker))
        if answer.is_success:
            self._kept[name] = answer.json()["incarnation"]
        return answer.is_success


def _room(worker: dict[str, object]) -> dict[str, int]:
    """What the old registry's own calls leave of the slots. A node has at least one: a full one is overloaded."""
    room = int(str(worker["slots"])) - int(str(worker["assigned"]))
    return {"slots": max(1, room), "cpu": 100 if room <= 0 else 0}
