"""What /metrics says: the page about it is true, the fleet's numbers are Redis's, and no flood makes many series."""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from scheduler.dev.server import EmbeddedServer
from scheduler.http.fleetwide import POOLS_SHOWN
from scheduler.settings import Settings
from scheduler.store.copying import copy_configuration
from scheduler.store.library import read_library
from tests.integration.http.conftest import Speaker, ready, running
from tests.integration.http.test_probes import samples, total
from tests.sharded import Shards

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")
_ROW = re.compile(r"^\| `(fleet_\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_FLEETWIDE = {
    "fleet_nodes", "fleet_pool_members", "fleet_pool_free_slots", "fleet_pool_used_slots", "fleet_leases",
    "fleet_waiting_jobs", "fleet_waiting_demands", "fleet_waiting_oldest_seconds", "fleet_reaped_total",
    "fleet_reaping_paused", "fleet_library_revision", "fleet_configuration_version",
}  # fmt: skip


@pytest.fixture
def speaker(app_client: tuple[Starlette, httpx.AsyncClient]) -> Speaker:
    app, client = app_client
    return Speaker(client, packed=False, app=app)


async def become(
    plain: httpx.AsyncClient, holds: Callable[[dict[str, float]], object], deadline_s: float = 10
) -> dict[str, float]:
    """The metrics, once that holds of them."""
    end = time.monotonic() + deadline_s
    while not holds(found := await samples(plain)):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.02)
    return found


def names(found: dict[str, float]) -> set[str]:
    return {sample.partition("{")[0] for sample in found}


async def test_the_page_has_each_metric_with_its_type_and_labels_and_no_other(speaker: Speaker) -> None:
    await speaker.register("n1")
    await become(speaker.client, lambda found: names(found) >= _FLEETWIDE)
    text = (await speaker.client.get("/metrics")).text
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels.setdefault(name, set()).update(set(sample.labels) - {"le"})
    live = {name: (kind, labels[name]) for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE)}
    rows = _ROW.findall(PAGE)
    told = {name: (kind, set(re.findall(r"`(\w+)`", held))) for name, kind, held, _, _ in rows}
    assert told == live
    assert len(rows) == len(told), "one row for each"


async def test_each_metric_with_few_values_names_them_all_in_the_page(speaker: Speaker) -> None:
    found = await become(speaker.client, lambda found: names(found) >= _FLEETWIDE)
    rows = {name: text for name, _, _, text, _ in _ROW.findall(PAGE)}
    for name, label in (
        ("fleet_crowded_total", "limit"),
        ("fleet_refusals_total", "class"),
        ("fleet_moves_total", "kind"),
        ("fleet_nodes", "state"),
        ("fleet_reaped_total", "kind"),
    ):
        values = {value for sample in found for value in re.findall(rf"^{name}{{.*?{label}=(\w+)", sample)}
        assert len(values) > 1
        assert values == set(re.findall(r"`(\w+)`", rows[name])), name


async def test_the_fleets_numbers_are_those_of_redis(speaker: Speaker, shards: Shards) -> None:
    await speaker.register("n1", slots=1)
    await speaker.register("n2", 4, ("gpu",))
    await speaker("POST", "/v1/nodes/n2/cordon")
    job = {"requires": ["asr:zh"], "deliver": "direct"}
    assert (await speaker("POST", "/v1/jobs", job)).status == 201
    began = time.monotonic()
    assert (await speaker("POST", "/v1/jobs", job | {"wait_ms": 60_000})).status == 202
    found = await become(speaker.client, lambda found: total(found, "fleet_waiting_jobs") == 1)
    assert total(found, "fleet_waiting_demands") == 1
    assert total(found, "fleet_leases") == 1
    assert 0 <= total(found, "fleet_waiting_oldest_seconds") <= time.monotonic() - began
    assert total(found, "fleet_reaping_paused") == 0
    assert found["fleet_library_revision{shard=0}"] == read_library().revision
    assert (found["fleet_nodes{state=full}"], found["fleet_nodes{state=cordoned}"]) == (1, 1)
    assert (found["fleet_nodes{state=ready}"], found["fleet_nodes{state=lost}"]) == (0, 0)
    assert found["fleet_pool_members{pool=default}"] == 2
    assert (found["fleet_pool_free_slots{pool=default}"], found["fleet_pool_used_slots{pool=default}"]) == (0, 1)
    # now the first one falls silent, and the job that it had fails
    home = shards.of_node("n1")
    shards.redis.zadd(f"{home}:nodes", {"n1": 1})
    shards.reap(home)
    reaped = await become(speaker.client, lambda found: total(found, "fleet_reaped_total") == 3)
    assert reaped[f"fleet_reaped_total{{kind=nodes,shard={home.partition('{')[2][:-1]}}}"] == 1
    assert total(reaped, "fleet_leases") == 0
    await become(speaker.client, lambda found: found["fleet_nodes{state=lost}"] == 1)


async def test_a_job_that_too_many_wait_before_is_counted_by_the_limit(speaker: Speaker, shards: Shards) -> None:
    await speaker.register("n1", 1, tuple(f"t{number}" for number in range(200)))
    body = {"deliver": "direct", "wait_ms": 60_000}
    told = [
        (
            await speaker(
                "POST",
                "/v1/jobs",
                body | {"requires": [f"t{n}"], "id": shards.beside("n1", f"j{n}-", f"of{n}")},
                # one alone may not have them all
                tenant=f"of{n}",
            )
        ).status
        for n in range(130)
    ]
    assert told == [201, *[202] * 128, 503]
    found = await become(speaker.client, lambda found: total(found, "fleet_waiting_demands") == 128)
    assert found["fleet_crowded_total{limit=demands}"] == 1
    assert found["fleet_crowded_total{limit=other}"] == 0


@pytest.mark.slow
async def test_without_redis_no_old_number_of_the_fleet_is_told(fresh_server: Callable[..., EmbeddedServer]) -> None:
    server = fresh_server()

    def load() -> None:
        with redis.Redis(port=server.port) as client:
            client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)

    load()
    async with running(Settings(redis_url=server.url, redis_timeout_ms=500)) as (app, plain):
        await ready(app)
        speaker = Speaker(plain, packed=False, app=app)
        await speaker.register("n1")
        await become(plain, lambda found: found.get("fleet_nodes{state=ready}") == 1)
        server.stop()
        stopped = time.monotonic()
        gone = await become(plain, lambda found: not names(found) & _FLEETWIDE)
        assert time.monotonic() - stopped < 4
        assert gone["fleet_snapshot_age_ms{shard=0}"] >= 2_000
        assert gone["fleet_snapshot_nodes{shard=0}"] == 1, "that is of the replica, with its age beside it"
        assert gone["fleet_ready{}"] == 0
        server.start()
        load()
        await become(plain, lambda found: names(found) >= _FLEETWIDE, 20)


async def test_floods_of_tenants_pools_nodes_and_paths_make_no_more_series_than_the_page_says(
    speaker: Speaker, shards: Shards
) -> None:
    numbers = re.search(r"at most ([\d,]+) series with one shard and (\d+) more for each", PAGE)
    assert numbers
    most = int(numbers[1].replace(",", "")) + int(numbers[2]) * (len(shards.keys) - 1)
    assert f"The first {POOLS_SHOWN} pools" in PAGE
    engine = speaker.app.state.engine
    pools = {f"p{n:03}": {"selector": {"labels": {"pool": f"p{n:03}"}}} for n in range(199)} | {
        "other": {"selector": {"all": True}}
    }
    text = httpx.Request("POST", "http://x", json={"pools": pools}).content.decode()
    assert (await engine.first.functions.pools_apply(0, text)).done
    first, *others = engine.shards
    await copy_configuration(first.views, [shard.functions for shard in others])
    for number in range(300):
        shards.fcall(
            "node_register", f"node-{number}", "endpoint", "http://n", "slots", 2, "ttl_ms", 60_000,
            "capabilities", f"cap-{number}", "labels", f"pool=p{number % 200:03}",
        )  # fmt: skip
    await speaker.followed()
    for number in range(300):
        job = {
            "requires": [f"cap-{number}"],
            "session": f"session-{number}",
            "affinity": "sticky",
            "id": f"job-{number}",
        }
        await speaker("POST", "/v1/jobs", job, tenant=f"tenant-{number}")
        await speaker("GET", f"/v1/jobs/job-{number}", tenant=f"tenant-{number}")
        await speaker("GET", f"/v1/nodes/node-{number}")
        await speaker("GET", f"/made/up/{number}")
        await speaker(f"BREW{number}", "/v1/jobs")
    found = await become(speaker.client, lambda found: len(names(found) & _FLEETWIDE) == len(_FLEETWIDE))
    assert len(found) <= most
    assert not [sample for sample in found if re.search(r"tenant-|node-|job-|session-|cap-|made|BREW", sample)]
    shown = {sample.partition("=")[2][:-1] for sample in found if sample.startswith("fleet_pool_members{")}
    assert shown == {f"p{number:03}" for number in range(POOLS_SHOWN - 1)} | {"other"}
    assert found["fleet_pool_members{pool=p000}"] == 2
    # every node by the pool of that name, and those of the pools from p099 on
    assert found["fleet_pool_members{pool=other}"] == 300 + 101
