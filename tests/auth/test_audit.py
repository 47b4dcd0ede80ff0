"""GET /v1/audit: what operators and admins changed, with the key by which they did it."""

from typing import Any

import msgspec

from tests.auth.conftest import Fleet


async def audit(fleet: Fleet, query: str = "") -> tuple[list[dict[str, Any]], str | None]:
    told = await fleet.ask("GET", f"/v1/audit{query}", fleet.admin)
    assert told.status_code == 200, told.text
    return told.json()["audit"], told.json()["cursor"]


async def test_it_tells_what_was_done_by_which_key_the_newest_first(two_tenants: Fleet) -> None:
    fleet = two_tenants
    id_, operator = await fleet.keys.make("acme", "operator")
    submit = await fleet.keys.text("acme", "submit")
    job, own = await fleet.place(submit), await fleet.place(submit)
    assert (await fleet.ask("POST", "/v1/nodes/acme-1/drain", operator, {"drain_ms": 5_000})).status_code == 200
    assert (await fleet.ask("POST", f"/v1/jobs/{job['id']}/cancel", operator)).status_code == 200
    # a program that minds its own jobs is none of the audit's business
    assert (await fleet.ask("POST", f"/v1/jobs/{own['id']}/cancel", submit)).status_code == 200
    assert (await fleet.ask("PUT", "/v1/tenants/acme", fleet.admin, {"waiting_jobs": 3})).status_code == 200

    entries, _ = await audit(fleet)
    by = f"key:{fleet.admin.split('_')[1]}"
    told = [{name: value for name, value in entry.items() if name not in {"id", "at_ms"}} for entry in entries]
    # jobs and nodes lie in shards of their own, whose entries of one millisecond have no order among them
    assert sorted(told[:3], key=str) == [
        {"kind": "job_cancelled", "by": f"key:{id_}", "job": job["id"], "tenant": "acme"},
        {"kind": "node_draining", "by": f"key:{id_}", "node": "acme-1"},
        {"kind": "tenant_stored", "by": by, "tenant": "acme"},
    ]
    assert {(entry["kind"], entry["by"]) for entry in told[3:]} == {("pool_stored", by)}
    assert own["id"] not in msgspec.json.encode(told).decode()
    assert [entry["at_ms"] for entry in entries] == sorted((e["at_ms"] for e in entries), reverse=True)


async def test_pages_hold_everything_once(two_tenants: Fleet) -> None:
    fleet = two_tenants
    for number in range(10):
        node = ("acme-1", "globex-1", "shared-1")[number % 3]
        assert (await fleet.ask("POST", f"/v1/nodes/{node}/drain", fleet.admin)).status_code == 200
    whole, cursor = await audit(fleet)
    assert (len(whole), cursor) == (13, None)
    found: list[dict[str, Any]] = []
    query = "?limit=2"
    while query:
        page, cursor = await audit(fleet, query)
        found += page
        query = f"?limit=2&before={cursor}" if cursor else ""
    assert found == whole


async def test_odd_questions_are_told_what_is_wrong(two_tenants: Fleet) -> None:
    fleet = two_tenants
    for query, field in (
        ("before=x", "before"),
        ("before=1-2-3", "before"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
    ):
        told = await fleet.ask("GET", f"/v1/audit?{query}", fleet.admin)
        assert (told.status_code, told.json()["field"]) == (422, field)
