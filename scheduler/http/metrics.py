"""Prometheus metrics of one replica; labels have few values, never a job's or node's id."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from scheduler.domain.reason import RefusalClass
from scheduler.engine.dispatch import Placement, Refusal, Verdict
from scheduler.engine.engine import Engine

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


class Metrics:
    """One registry for one replica, so that several can live in a process."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self._placements = Counter("fleet_placements", "Jobs placed on a node", registry=self.registry)
        self._conflicts = Counter("fleet_conflicts", "Claims whose whole shortlist was stale", registry=self.registry)
        self._fallbacks = Counter("fleet_fallbacks", "Jobs placed outside the first pool", registry=self.registry)
        refusals = Counter("fleet_refusals", "Requests refused, by class", ["refusal_class"], registry=self.registry)
        self._refusals = {name: refusals.labels(name) for name in RefusalClass}
        self._seconds = Histogram(
            "fleet_place_seconds", "From a request to its verdict", buckets=_BUCKETS, registry=self.registry
        )
        gauges = {
            "fleet_snapshot_age_seconds": (
                "Since the snapshot was complete",
                lambda: engine.mirror.age_ms / 1000,
            ),
            "fleet_snapshot_nodes": ("Nodes in the snapshot", lambda: len(engine.mirror.snapshot.positions)),
            "fleet_snapshot_version": ("Version of the snapshot", lambda: engine.mirror.snapshot.version),
            "fleet_ready": ("1 while this replica takes requests", lambda: float(engine.obstacle() is None)),
        }
        for name, (text, read) in gauges.items():
            Gauge(name, text, registry=self.registry).set_function(read)

    def saw(self, verdict: Verdict, seconds: float) -> None:
        self._seconds.observe(seconds)
        if isinstance(verdict, Placement):
            self._placements.inc()
            if verdict.conflict:
                self._conflicts.inc()
            if verdict.fallback_used:
                self._fallbacks.inc()
        elif isinstance(verdict, Refusal):
            self._refusals[verdict.refusal].inc()
