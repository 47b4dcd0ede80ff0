"""Stands for what you have: one process keeps its workers in a dict behind a lock. It knows nothing of the fleet."""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SILENT_S = 10.0


@dataclass
class Worker:
    """What a worker last said of itself, and how many calls were sent to it."""

    id: str
    url: str
    offers: list[str]
    slots: int
    busy: int = 0
    assigned: int = 0
    heard_at: float = field(default_factory=time.monotonic)

    def fits(self, needs: Sequence[str]) -> bool:
        alive = time.monotonic() - self.heard_at < SILENT_S
        return alive and set(needs) <= set(self.offers) and max(self.busy, self.assigned) < self.slots


class Registry:
    """The only copy of the truth, while this process lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}

    def heartbeat(self, told: Worker) -> None:
        with self._lock:
            known = self._workers.get(told.id)
            told.assigned = known.assigned if known else 0
            self._workers[told.id] = told

    def assign(self, needs: Sequence[str]) -> Worker | None:
        with self._lock:
            fitting = [worker for worker in self._workers.values() if worker.fits(needs)]
            if not fitting:
                return None
            best = min(fitting, key=lambda worker: worker.assigned / worker.slots)
            best.assigned += 1
            return best

    def release(self, name: str) -> None:
        with self._lock:
            self._workers[name].assigned -= 1

    def workers(self) -> list[dict[str, object]]:
        with self._lock:
            return [asdict(worker) for worker in self._workers.values() if worker.fits(()) or worker.assigned]


def create() -> Starlette:
    registry = Registry()

    async def heartbeat(request: Request) -> Response:
        registry.heartbeat(Worker(**await request.json()))
        return JSONResponse({})

    async def assign(request: Request) -> Response:
        worker = registry.assign((await request.json())["needs"])
        if worker is None:
            return JSONResponse({"error": "no capacity"}, 503)
        return JSONResponse({"id": worker.id, "url": worker.url})

    async def release(request: Request) -> Response:
        registry.release((await request.json())["id"])
        return JSONResponse({})

    async def workers(_: Request) -> Response:
        return JSONResponse(registry.workers())

    return Starlette(
        routes=[
            Route("/heartbeat", heartbeat, methods=["POST"]),
            Route("/assign", assign, methods=["POST"]),
            Route("/release", release, methods=["POST"]),
            Route("/workers", workers),
        ]
    )
