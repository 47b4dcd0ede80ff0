"""The list of nodes, one node, and the pools, as they come from the server."""

import re
import shlex

import pytest

from tests.integration.http.conftest import Speaker
from tests.sharded import Shards

ATTACK = '"><script>alert(1)</script>'


def rows(page: str) -> list[str]:
    return re.findall(r'<tr data-key="([^"]*)"', page)


def commands(page: str) -> list[list[str]]:
    """The redis-cli lines of the page, as a shell would split them."""
    found = re.findall(r"<dd><code>(redis-cli [^<]*)</code>", page)
    return [shlex.split(line.replace("&#39;", "'").replace("&gt;", ">")) for line in found]


def many(shards: Shards, count: int) -> None:
    fields = ("endpoint", "http://n", "slots", 2, "capabilities", "asr:zh", "ttl_ms", 60_000)
    for number in range(count):
        shards.fcall("node_register", f"n{number:04}", *fields)


async def test_nodes_are_found_by_id_pool_capability_and_state(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/default", {"selector": {"all": True}})
    await speak("PUT", "/v1/pools/gpus", {"selector": {"capabilities": ["gpu"]}, "tenants": ["gold"]})
    await speak.register("alpha", slots=1, capabilities=("asr:zh", "gpu"))
    await speak.register("beta", capabilities=("asr:en",))
    await speak.register("gamma", capabilities=("tts:en",))
    await speak("POST", "/v1/nodes/gamma/cordon")
    assert (await speak("POST", "/v1/jobs", {"requires": ["gpu"], "deliver": "direct"})).status == 201
    await speak.followed()
    expected = {
        "": ["alpha", "beta", "gamma"],
        "q=BET": ["beta"],
        "pool=gpus": ["alpha"],
        "pool=none": [],
        "capability=asr": ["alpha", "beta"],
        "capability=asr:en": ["beta"],
        "standing=cordoned": ["gamma"],
        "standing=full": ["alpha"],
        "standing=ready&capability=asr": ["beta"],
        "tenant=gold": ["alpha", "beta", "gamma"],
        "pool=gpus&tenant=other": [],
    }
    for query, names in expected.items():
        page = await speak.client.get(f"/ui/nodes?{query}")
        assert (page.status_code, rows(page.text)) == (200, names), query
    for query, field in (("standing=odd", "standing"), ("page=0", "page"), ("page=x", "page")):
        page = await speak.client.get(f"/ui/nodes?{query}")
        assert (page.status_code, field in page.text) == (422, True)


async def test_many_nodes_come_a_hundred_at_a_time(speak: Speaker, shards: Shards) -> None:
    many(shards, 250)
    await speak.followed()
    first = (await speak.client.get("/ui/nodes")).text
    assert (len(rows(first)), rows(first)[0]) == (100, "n0000")
    assert "Page 1 of 3" in first
    following = re.search(r'rel="next" href="([^"]*)"', first)
    assert following
    assert rows((await speak.client.get(following[1])).text)[0] == "n0100"
    last = (await speak.client.get("/ui/nodes?page=99")).text
    assert (rows(last)[-1], "Page 3 of 3" in last, 'rel="next"' in last) == ("n0249", True, False)


async def test_a_node_shows_its_leases_its_events_and_the_lines_that_show_the_same(
    speak: Speaker, shards: Shards
) -> None:
    await speak.register("n1", slots=2)
    job = (await speak("POST", "/v1/jobs", {"requires": ["asr:zh"]})).body["job"]["id"]
    await speak("POST", "/v1/nodes/n1/cordon")
    await speak.followed()
    page = (await speak.client.get("/ui/nodes/n1")).text
    assert "1 of 2 used" in page
    assert f'href="/ui/jobs/{job}"' in page
    for kind in ("node registered", "node cordoned"):
        assert f"<b>{kind}</b>" in page
    told = ""
    for line in commands(page):
        told += str(shards.redis.execute_command(*line[1:]))
    assert "cordoned" in told
    assert job in told


async def test_what_a_node_says_of_itself_is_shown_and_never_run(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1", capabilities=("nmt:zh>en",))
    # no door lets this in; a page must not rely on doors
    shards.redis.hset(shards.node("n1"), mapping={"endpoint": ATTACK, "labels": f"zone={ATTACK}", "pools": ATTACK})
    shards.redis.xadd(
        f"{shards.of_node('n1')}:events", {"kind": ATTACK, "node": "n1", "job": ATTACK, "reason": ATTACK}
    )
    for path in ("/ui/nodes", "/ui/nodes/n1", "/ui/nodes/n1/drain", "/", "/ui/pools", "/ui/jobs"):
        page = await speak.client.get(path)
        assert page.status_code == 200, path
        assert "<script>" not in page.text, path
        assert '"><' not in re.sub(r'<[^<>]*"><', "", page.text) or ATTACK not in page.text
    page = await speak.client.get("/ui/nodes/n1")
    assert "&#34;&gt;&lt;script&gt;" in page.text
    assert "nmt:zh&gt;en" in page.text
    for query in (f"q={ATTACK}", f"pool={ATTACK}", f"capability={ATTACK}"):
        page = await speak.client.get(f"/ui/nodes?{query}")
        assert "<script>" not in page.text, query


@pytest.mark.parametrize("path", ["/ui/nodes/nobody", "/ui/nodes/nobody/drain", "/ui/nodes/n1/reboot"])
async def test_what_does_not_exist_is_a_page_with_404(speak: Speaker, path: str) -> None:
    await speak.register("n1")
    page = await speak.client.get(path)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert (await speak.client.get("/ui/nodes/-bad%20id")).status_code == 422


async def test_a_tenant_is_not_shown_nodes_jobs_and_pools_of_others(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", {"selector": {"capabilities": ["gpu"]}, "tenants": ["gold"]})
    await speak("PUT", "/v1/pools/all", {"selector": {"all": True}, "tenants": ["gold", "other"]})
    await speak("PUT", "/v1/pools/rest", {"selector": {"capabilities": ["asr"]}, "tenants": ["third"]})
    await speak.register("n1", capabilities=("gpu",))
    job = (await speak("POST", "/v1/jobs", {"requires": ["gpu"]}, tenant="gold")).body["job"]["id"]
    await speak.followed()
    get = speak.client.get
    assert job in (await get("/ui/nodes/n1", headers={"x-fleet-tenant": "gold"})).text
    page = (await get("/ui/nodes/n1", headers={"x-fleet-tenant": "other"})).text
    assert job not in page
    assert "1 that are not shown here" in page
    assert (await get("/ui/nodes/n1", headers={"x-fleet-tenant": "third"})).status_code == 404
    assert rows((await get("/ui/nodes?tenant=third")).text) == []
    assert re.findall(r'id="pool-(\w+)"', (await get("/ui/pools?tenant=other")).text) == ["all"]
    assert (await get(f"/ui/jobs/{job}")).status_code == 200
    assert (await get(f"/ui/jobs/{job}?tenant=other")).status_code == 404
    assert job in (await get("/ui/jobs")).text
    assert job not in (await get("/ui/jobs?tenant=other")).text


async def test_pools_show_their_members_and_the_way_of_a_request(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/last", {"selector": {"all": True}})
    await speak("PUT", "/v1/pools/spare", {"selector": {"capabilities": ["asr"]}, "fallback": ["last"]})
    await speak(
        "PUT", "/v1/pools/first", {"selector": {"labels": {"tier": "gold"}}, "fallback": ["spare"], "priority": 9}
    )
    await speak.register("n1")
    page = (await speak.client.get("/ui/pools")).text
    assert re.findall(r'id="pool-(\w+)"', page)[0] == "first"
    chain = page[page.index('id="pool-first"') :].partition("</ol>")[0]
    assert re.findall(r'class="box">(\w+)<small>(\d) free of (\d)', chain) == [
        ("first", "0", "0"),
        ("spare", "1", "1"),
        ("last", "1", "1"),
    ]
    assert "tier=gold" in page
