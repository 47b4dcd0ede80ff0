"""Prometheus metrics of one replica; labels have few values, never a job's or node's id."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.domain.reason import Reason, RefusalClass
from scheduler.engine.dispatch import Placement, Refusal, Verdict
from scheduler.engine.engine import Engine
from scheduler.http.fleetwide import Fleetwide
from scheduler.http.tally import Tally
from scheduler.store.codec import Crowded, Waiting

# a second series for each counter, of which nobody asks
disable_created_metrics()  # type: ignore[no-untyped-call]

# Of what there may be too many, so that one more job cannot wait.
_LIMITS = ("demands", "jobs", "tenant", "waiting_jobs", "other")
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


def _usable(engine: Engine) -> float:
    return float(sum(shard.obstacle() is None for shard in engine.shards))


class Metrics:
    """One registry for one replica, so that several can live in a process."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        # apart, for the dashboard reads what is counted here twice a second
        self._fleet = CollectorRegistry()
        self._fleet.register(Fleetwide(engine))
        self._placements = Counter("fleet_placements", "Jobs placed on a node", registry=self.registry)
        self._conflicts = Counter("fleet_conflicts", "Claims whose whole shortlist was stale", registry=self.registry)
        self._fallbacks = Counter("fleet_fallbacks", "Jobs placed outside the first pool", registry=self.registry)
        self._regret = self._tally(
            "fleet_claim_regret_ratio",
            "Load of the chosen node less the best true load of the shortlist, 0 to 1",
            (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
        )
        self._age = self._tally("fleet_claim_snapshot_age_seconds", "Age of the snapshot at the decision", _BUCKETS)
        reasons = Counter(
            "fleet_refusal_reasons", "Refusals by most common reason", ["reason"], registry=self.registry
        )
        self._reasons = {name: reasons.labels(name) for name in Reason}
        self._sheds = Counter(
            "fleet_sheds", "Requests refused because this replica has enough to do", registry=self.registry
        )
        self._waits = Counter("fleet_waits", "Jobs accepted to wait for a slot", registry=self.registry)
        crowded = Counter("fleet_crowded", "Jobs refused because too many wait", ["limit"], registry=self.registry)
        self._crowded = {name: crowded.labels(name) for name in _LIMITS}
        refusals = Counter("fleet_refusals", "Requests refused, by class", ["class"], registry=self.registry)
        self._refusals = {name: refusals.labels(name) for name in RefusalClass}
        self._seconds = self._tally("fleet_claim_seconds", "From a request to its verdict", _BUCKETS)
        self._requests = Counter(
            "fleet_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._answered: dict[tuple[str, str, int], Counter] = {}
        gauges = {
            "fleet_long_polls": (
                "Long polls that wait for a job now",
                lambda: sum(shard.waker.count for shard in engine.shards),
            ),
            "fleet_event_clients": (
                "Clients that follow the events now",
                lambda: max(shard.fanout.count for shard in engine.shards),
            ),
            "fleet_placements_under_way": ("Placements under way now", lambda: engine.door.under_way),
            "fleet_shards": ("Shards that can be placed in now", lambda: _usable(engine)),
            "fleet_ready": ("1 while this replica takes requests", lambda: float(engine.obstacle() is None)),
        }
        for name, (text, read) in gauges.items():
            Gauge(name, text, registry=self.registry).set_function(read)

    def _tally(self, name: str, text: str, bounds: tuple[float, ...]) -> Tally:
        tally = Tally(name, text, bounds)
        self.registry.register(tally)
        return tally

    def text(self) -> bytes:
        """What /metrics answers: this replica's own counts, and the fleet as it knows it."""
        return generate_latest(self.registry) + generate_latest(self._fleet)

    def saw(self, verdict: Verdict, seconds: float) -> None:
        self._seconds.observe(seconds)
        if isinstance(verdict, Placement):
            self._placements.inc()
            self._regret.observe(verdict.regret)
            self._age.observe(verdict.snapshot_age_ms / 1000)
            if verdict.conflict:
                self._conflicts.inc()
            if verdict.fallback_used:
                self._fallbacks.inc()
        elif isinstance(verdict, Waiting):
            self._waits.inc()
        elif isinstance(verdict, Crowded):
            self._crowded.get(verdict.limit, self._crowded["other"]).inc()
        elif isinstance(verdict, Refusal):
            self._refusals[verdict.refusal].inc()
            self._age.observe(verdict.snapshot_age_ms / 1000)
            if verdict.reasons:
                self._reasons[max(verdict.reasons, key=verdict.reasons.__getitem__)].inc()

    def shed(self) -> None:
        self._sheds.inc()

    def answered(self, method: str, route: str, status: int) -> None:
        counter = self._answered.get((method, route, status))
        if counter is None:
            counter = self._requests.labels(method, route, str(status))
            self._answered[method, route, status] = counter
        counter.inc()


class Counted:
    """Counts what the app answers, by the route's template; it stands around everything and touches no message."""

    def __init__(self, app: ASGIApp, metrics: Metrics, methods: Mapping[str, frozenset[str]]) -> None:
        self._app = app
        self._metrics = metrics
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        begun = False

        async def counting(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._count(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counting)
        except Exception:
            # what nobody expected is answered further out
            if not begun:
                self._count(scope, 500)
            raise

    def _count(self, scope: Scope, status: int) -> None:
        # a path or method of the client's own making must not make a label
        path = getattr(scope.get("route"), "path", "")
        known = self._methods.get(path)
        method = scope["method"] if known and scope["method"] in known else "other"
        self._metrics.answered(method, path if known else "other", status)
