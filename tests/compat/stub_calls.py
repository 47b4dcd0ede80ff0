"""Calls every stub of the release that runs this against a server, and prints what each answered as JSON.

Run by tests/compat under another release than today's, so nothing of `scheduler` is imported by type: what the calls
need is what the release on PYTHONPATH has. What changes from run to run is masked, so that answers can be compared.
"""

import asyncio
import inspect
import json
import re
import sys
from importlib import import_module
from typing import Any

P = "fleet:{0}"
# fences, incarnations and times; epochs and histories
_CHANGING = re.compile(r"\b(?:\d{10,}|[0-9a-f]{16}|[0-9a-f]{40})\b")


def job(name: str, *nodes: str, **fields: Any) -> tuple[Any, Any]:
    """A claim: the request, and the shortlist of a replica whose snapshot is old."""
    ids, codec = import_module("scheduler.domain.ids"), import_module("scheduler.store.codec")
    demand = import_module("scheduler.domain.demand").demand_from_tokens(["gpu"], ids.Tenant("acme"), None)
    request = import_module("scheduler.domain.job").JobRequest(ids.JobId(name), "digest", demand, **fields)
    return request, codec.Shortlist(list(nodes), ["0"] * len(nodes), [1] * len(nodes), 0, 0)


async def calls(functions: Any) -> dict[str, list[object]]:
    """Every stub by name, with all it answered."""
    told: dict[str, list[object]] = {}

    async def call(name: str, *args: Any, **fields: Any) -> Any:
        answer = await getattr(functions, name)(*args, **fields)
        told.setdefault(name, []).append(answer)
        return answer

    node = {"endpoint": "http://n1", "slots": 4, "capabilities": ["gpu", "asr:zh"]}
    registered = await call("node_register", "n1", **node, labels="zone=a", cpu=1.0, ttl_ms=60_000)
    await call("node_heartbeat", "n1", registered.incarnation, cpu=5.0, running="0.none 1")
    await call("node_heartbeat", "n1", 1)
    await call("node_heartbeat", "n9", 1)

    placed = await call("job_claim", [job(f"j{n}", "n1", payload='{"x":1}') for n in range(4)])
    fences = [answer.placement.fence for answer in placed]
    await call("job_claim", [job("j0", "n1"), job("full", "n1"), job("waits", "n1", wait_ms=60_000)])
    await call("job_start", "j0", fences[0])
    await call("job_start", "j0", 1)
    await call("job_start", "none", 1)
    await call("job_finish", "j0", fences[0], "succeeded", "done")
    await call("job_finish", "j0", fences[0], "succeeded")
    await call("job_finish", "j1", fences[1], "failed", "broken")
    await call("job_finish", "j2", fences[2], "released")
    await call("job_cancel", "j3")
    await call("job_cancel", "j3")
    await call("job_cancel", "none")

    await call("pool_put", "gold", '{"selector": {"labels": {"zone": "a"}}, "tenants": ["acme"]}')
    await call("pool_remove", "gold")
    await call("pool_remove", "gold")
    await call("pools_apply", 2, '{"pools": {"all": {"selector": {"all": true}, "tenants": ["*"]}}}')
    await call("pools_apply", 1, '{"pools": {}}')
    await call("node_heartbeat", "n1", registered.incarnation, cpu=99.0)
    await call("explain", '{"requires": ["gpu"], "tenant": "acme"}')
    await call("explain", '{"requires": ["gpu"], "tenant": "acme", "pool": "none"}')
    page = await call("mirror_read", 0, 0, None)
    await call("mirror_read", page.version, page.version, page.config_version)
    await call("reap")
    for mark in ("cordon", "uncordon", "drain"):
        await call("node_mark", "n1", mark)
    await call("node_mark", "none", "cordon")
    await call("node_remove", "n1", 1)
    await call("node_remove", "n1", registered.incarnation)
    await call("node_remove", "n1", registered.incarnation)
    try:
        await call("job_start", "a b", 1)
    except import_module("scheduler.errors").BadInput as error:
        told["job_start"].append(str(error))
    return told


async def main(url: str) -> None:
    functions = import_module("scheduler.store.functions").Functions
    client = import_module("scheduler.store.client").connect(url)
    told = await calls(functions(client, P))
    await import_module("scheduler.store.library").check_library(client, P)
    await client.aclose()
    stubs = {name for name, _ in inspect.getmembers(functions, inspect.iscoroutinefunction) if name[0] != "_"}
    texts = {name: [_CHANGING.sub("<n>", repr(answer)) for answer in answers] for name, answers in told.items()}
    print(
        json.dumps({"from": import_module("scheduler").__file__, "missing": sorted(stubs - set(told)), "told": texts})
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
