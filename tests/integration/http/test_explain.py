"""POST /v1/explain: a dry run in words; the rules are judged in tests/property/test_oracle.py."""

import pytest

from tests.integration.http.conftest import Speaker


async def configure(speak: Speaker) -> None:
    for name, pool in (
        ("gold", {"selector": {"capabilities": ["gold"]}, "tenants": ["rich"]}),
        ("rest", {"selector": {"capabilities": ["rest"]}}),
    ):
        assert (await speak("PUT", f"/v1/pools/{name}", pool)).status == 200


async def test_class_pools_nodes_and_the_near_miss(speak: Speaker) -> None:
    await speak.register("n1", slots=1, capabilities=("asr:zh", "gpu"))
    await speak.register("n2", capabilities=("asr:zh",))
    placed = await speak("POST", "/v1/jobs", {"requires": ["gpu"]})
    assert placed.status == 201
    told = await speak("POST", "/v1/explain", {"requires": ["asr:zh", "gpu"]})
    assert told.status == 200
    age = told.body.pop("snapshot_age_ms")
    assert 0 <= age < 2_000
    full = {"id": "n1", "pool": "default", "verdict": "full", "conditions": ["full"]}
    assert told.body == {
        "class": "overloaded",
        "reasons": {"full": 1, "missing_capability": 1},
        "pools": [
            {"name": "default", "class": "overloaded", "eligible": 0, "reasons": {"full": 1, "missing_capability": 1}}
        ],
        "near_miss": full,
        "nodes": [
            full,
            {
                "id": "n2",
                "pool": "default",
                "verdict": "missing_capability",
                "conditions": ["missing_capability gpu"],
            },
        ],
        "cursor": None,
    }


async def test_nothing_is_claimed_and_the_body_of_a_refused_job_can_be_pasted(speak: Speaker) -> None:
    await speak.register("n1")
    body = {
        "requires": ["asr:zh"],
        "id": "a",
        "payload": {"x": 1},
        "session": "s",
        "affinity": "sticky",
        "priority": 9,
    }
    for _ in range(3):
        told = await speak("POST", "/v1/explain", body)
        assert (told.status, told.body["class"]) == (200, "placeable")
    assert (await speak("GET", "/v1/nodes/n1")).body["node"]["used"] == 0


async def test_languages_are_understood(speak: Speaker) -> None:
    await speak.register("n1", capabilities=("asr:zh", "nmt.any:zh", "nmt.any:en"))
    told = await speak("POST", "/v1/explain", {"services": ["asr", "nmt"], "src": "zh-CN", "tgt": "en"})
    assert told.body["class"] == "placeable"
    told = await speak("POST", "/v1/explain", {"services": ["asr", "tts"], "src": "zh-CN", "tgt": "en"})
    assert told.body["near_miss"]["conditions"] == ["missing_capability tts:en"]


async def test_a_tenant_is_told_of_its_own_pools_only(speak: Speaker) -> None:
    await configure(speak)
    await speak.register("g", capabilities=("gold",))
    await speak.register("r", capabilities=("rest",))
    told = await speak("POST", "/v1/explain", {"requires": ["gold"]}, tenant="poor")
    assert [node["id"] for node in told.body["nodes"]] == ["r"]
    assert (told.body["class"], told.body["reasons"]) == ("impossible", {"missing_capability": 1})
    told = await speak("POST", "/v1/explain", {"requires": ["gold"]}, tenant="rich")
    assert [node["id"] for node in told.body["nodes"]] == ["g", "r"]
    denied = {"name": "gold", "class": "denied", "eligible": 0, "reasons": {}}
    told = await speak("POST", "/v1/explain", {"requires": ["gold"], "pool": "gold"}, tenant="poor")
    assert (told.body["class"], told.body["pools"], told.body["nodes"]) == ("denied", [denied], [])


async def test_a_refusal_counts_no_node_of_another_tenants_pools(speak: Speaker) -> None:
    await configure(speak)
    await speak.register("g", capabilities=("gold", "x"))
    await speak.register("r", capabilities=("rest",))
    await speak.followed()
    told = await speak("POST", "/v1/jobs", {"requires": ["x"]}, tenant="poor")
    assert told.body["reasons"] == {"missing_capability": 1}


async def test_nodes_come_a_page_at_a_time_and_counts_are_of_all(speak: Speaker) -> None:
    names = [f"n{number}" for number in range(5)]
    for name in names:
        await speak.register(name, capabilities=("gpu",))
    seen: list[str] = []
    after: str | None = ""
    for _ in range(3):
        told = await speak("POST", f"/v1/explain?limit=2&after={after}", {"requires": ["other"]})
        assert told.body["reasons"] == {"missing_capability": 5}
        seen += [node["id"] for node in told.body["nodes"]]
        after = told.body["cursor"]
        if after is None:
            break
    assert (seen, after) == (names, None)


@pytest.mark.parametrize(
    ("query", "body", "field"),
    [
        ("", {}, "requires"),
        ("", {"requires": ["a b"]}, "requires[0]"),
        ("", {"requires": ["gpu"], "pool": "a b"}, "pool"),
        ("", {"requires": ["gpu"], "other": 1}, "other"),
        ("", {"services": ["asr"]}, "src"),
        ("?limit=0", {"requires": ["gpu"]}, "limit"),
        ("?after=a%20b", {"requires": ["gpu"]}, "after"),
    ],
)
async def test_bad_input_names_the_field(speak: Speaker, query: str, body: object, field: str) -> None:
    await speak.refused("POST", f"/v1/explain{query}", body, 422, field)


async def test_right_after_a_change_of_pools_no_node_is_shown_where_it_was(speak: Speaker) -> None:
    await configure(speak)
    await speak.register("r", capabilities=("rest",))
    await speak.followed()
    # no heartbeat has brought the node under this one yet
    changed = {"selector": {"capabilities": ["rest"]}, "tenants": ["rich"]}
    assert (await speak("PUT", "/v1/pools/rest", changed)).status == 200
    told = await speak("POST", "/v1/explain", {"requires": ["rest"]}, tenant="poor")
    assert (told.body["class"], told.body["nodes"]) == ("impossible", [])
    assert (await speak("GET", "/v1/nodes", tenant="poor")).body["nodes"] == []
    await speak.refused("GET", "/v1/nodes/r", None, 404, tenant="poor")
