"""The fleet as this replica knows it, for Prometheus: what every replica tells alike, so that one of them is enough.

A shard whose snapshot is too old to pass for the present (`Shard.fresh`) is left out: no old number poses as new.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from scheduler.engine.engine import Engine
from scheduler.engine.shard import Shard
from scheduler.placement.census import STATES, Census, PoolCount, census
from scheduler.store.codec import Truths

# Pools that have series of their own, by name; the rest is summed under OTHER, as is a pool of this name.
POOLS_SHOWN, OTHER = 100, "other"

_GAUGES: tuple[tuple[str, str, Callable[[Truths], float]], ...] = (
    ("fleet_leases", "Slots that are held by jobs", lambda told: told.leases),
    ("fleet_waiting_jobs", "Jobs that wait for a slot", lambda told: told.waiting_jobs),
    ("fleet_waiting_demands", "Different demands that wait, of at most 128", lambda told: told.waiting_demands),
    ("fleet_waiting_oldest_seconds", "How long the oldest of them waits", lambda told: told.oldest_ms / 1000),
    ("fleet_reaping_paused", "1 while too many nodes lapsed at once to be reaped", lambda told: told.paused),
    ("fleet_library_revision", "Revision of the library that serves the shard", lambda told: told.revision),
)  # fmt: skip


class Fleetwide(Collector):
    """Costs Redis nothing: the mirror has asked already."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        library = engine.library
        self._info = (version("fleet-scheduler"), str(library.abi), str(library.revision))

    def collect(self) -> Iterable[Metric]:
        shards = self._engine.shards
        fresh = [shard for shard in shards if shard.fresh]
        told = [(shard.tag, shard.mirror.truths) for shard in fresh if shard.mirror.truths is not None]
        info = GaugeMetricFamily(
            "fleet_replica_info", "What this replica is, always 1", labels=["version", "abi", "revision"]
        )
        info.add_metric(self._info, 1)
        yield info
        moves = CounterMetricFamily("fleet_moves", "Jobs brought into another shard by this replica", labels=["kind"])
        for kind, count in self._engine.moved.items():
            moves.add_metric([kind], count)
        yield moves
        yield from _of_snapshots([shard for shard in shards if shard.mirror.filled])
        yield from _of_shards(told)
        yield from _of_configuration(fresh)
        whole = Census()
        for shard in fresh:
            whole.add(census(shard.mirror.snapshot))
        yield from _of_census(whole, known=bool(fresh))


def _of_snapshots(filled: Sequence[Shard]) -> Iterable[Metric]:
    """These are of the replica and not of the fleet: an old one is told, and how old it is."""
    age = GaugeMetricFamily("fleet_snapshot_age_ms", "Since the snapshot was complete", labels=["shard"])
    nodes = GaugeMetricFamily("fleet_snapshot_nodes", "Nodes in the snapshot", labels=["shard"])
    for shard in filled:
        age.add_metric([shard.tag], shard.mirror.age_ms)
        nodes.add_metric([shard.tag], len(shard.mirror.snapshot.positions))
    return age, nodes


def _of_shards(told: Sequence[tuple[str, Truths]]) -> Iterable[Metric]:
    for name, text, read in _GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=["shard"])
        for tag, truths in told:
            gauge.add_metric([tag], read(truths))
        yield gauge
    reaped = CounterMetricFamily(
        "fleet_reaped",
        "What time has ended: nodes lost, leases ended, jobs ended with them",
        labels=["shard", "kind"],
    )
    for tag, truths in told:
        counts = {"nodes": truths.reaped_nodes, "leases": truths.reaped_leases, "jobs": truths.reaped_jobs}
        for kind, count in counts.items():
            reaped.add_metric([tag, kind], count)
    yield reaped


def _of_configuration(fresh: Sequence[Shard]) -> Iterable[Metric]:
    held = GaugeMetricFamily("fleet_configuration_version", "Version of the pools' configuration", labels=["shard"])
    for shard in fresh:
        # the first shard is no copy of another
        version_ = shard.mirror.config_source or shard.mirror.snapshot.config_version
        held.add_metric([shard.tag], version_)
    yield held


def _of_census(whole: Census, *, known: bool) -> Iterable[Metric]:
    nodes = GaugeMetricFamily("fleet_nodes", "Nodes by what keeps them from taking a job", labels=["state"])
    for state in STATES if known else ():
        nodes.add_metric([state], whole.states[state])
    yield nodes
    members = GaugeMetricFamily("fleet_pool_members", "Nodes of the pool, lost ones included", labels=["pool"])
    free = GaugeMetricFamily("fleet_pool_free_slots", "Slots of the pool that could be claimed now", labels=["pool"])
    used = GaugeMetricFamily("fleet_pool_used_slots", "Slots of the pool that jobs hold", labels=["pool"])
    for name, count in _shown(whole).items():
        members.add_metric([name], count.members)
        free.add_metric([name], count.free)
        used.add_metric([name], count.used)
    yield from (members, free, used)


def _shown(whole: Census) -> dict[str, PoolCount]:
    """By name, so that every replica shows the same ones, and the next scrape too."""
    shown: dict[str, PoolCount] = {}
    for at, name in enumerate(sorted(whole.pools)):
        shown.setdefault(name if at < POOLS_SHOWN else OTHER, PoolCount()).add(whole.pools[name])
    return shown
