"""Actions: they ask first, they act once, and nobody else's page can make a browser act."""

import pytest

from tests.integration.http.conftest import Speaker

SAME = {"sec-fetch-site": "same-origin"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


async def state(speak: Speaker, node: str = "n1") -> str:
    return str((await speak("GET", f"/v1/nodes/{node}")).body["node"]["state"])


async def test_a_node_is_cordoned_uncordoned_and_drained_each_after_a_question(speak: Speaker) -> None:
    await speak.register("n1")
    for mark, becomes in (("cordon", "cordoned"), ("uncordon", "ready"), ("drain", "draining")):
        asked = await speak.client.get(f"/ui/nodes/n1/{mark}")
        assert f'method="post" action="/ui/nodes/n1/{mark}"' in asked.text
        before = await state(speak)
        assert before != becomes
        answer = await speak.client.post(f"/ui/nodes/n1/{mark}", headers=SAME | FORM, content="seconds=1")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/ui/nodes/n1?done={mark}")
        assert await state(speak) == becomes
        assert "Done:" in (await speak.client.get(answer.headers["location"])).text
    for seconds in ("x", "-1", "86401", "9999999"):
        answer = await speak.client.post("/ui/nodes/n1/drain", headers=SAME | FORM, content=f"seconds={seconds}")
        assert answer.status_code == 422


async def test_a_job_is_cancelled_after_a_question_and_once(speak: Speaker) -> None:
    await speak.register("n1")
    await speak("POST", "/v1/jobs", {"requires": ["asr:zh"], "id": "j"}, tenant="acme")
    path = "/ui/jobs/acme:j/cancel"
    assert 'method="post"' in (await speak.client.get(path)).text
    answer = await speak.client.post(path, headers=SAME | FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/jobs/acme:j?done=cancelled")
    assert (await speak("GET", "/v1/jobs/acme:j", tenant="acme")).body["job"]["state"] == "cancelled"
    assert (await speak.client.post(path, headers=SAME | FORM)).headers["location"].endswith("done=duplicate")
    assert 'method="post"' not in (await speak.client.get(path)).text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://replica.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": "http://replica"},
    ],
)
async def test_a_form_from_elsewhere_is_refused_and_nothing_happens(speak: Speaker, headers: dict[str, str]) -> None:
    await speak.register("n1")
    job = (await speak("POST", "/v1/jobs", {"requires": ["asr:zh"]})).body["job"]["id"]
    for path in ("/ui/nodes/n1/cordon", f"/ui/jobs/{job}/cancel"):
        answer = await speak.client.post(path, headers=headers | FORM)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert await state(speak) == "ready"
    assert (await speak("GET", f"/v1/jobs/{job}")).body["job"]["state"] == "claimed"


async def test_a_browser_that_names_only_the_origin_may_act(speak: Speaker) -> None:
    await speak.register("n1")
    answer = await speak.client.post("/ui/nodes/n1/cordon", headers={"origin": "http://replica"} | FORM)
    assert answer.status_code == 303
    plain = await speak.client.post("/ui/nodes/n1/uncordon", headers=SAME | {"content-type": "text/plain"})
    assert plain.status_code == 415
    assert await state(speak) == "cordoned"


async def test_a_tenant_acts_on_what_it_may_see_and_on_nothing_else(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", {"selector": {"all": True}, "tenants": ["gold"]})
    await speak.register("n1")
    job = (await speak("POST", "/v1/jobs", {"requires": ["asr:zh"]}, tenant="gold")).body["job"]["id"]
    for path in ("/ui/nodes/n1/cordon", f"/ui/jobs/{job}/cancel"):
        answer = await speak.client.post(path, headers=SAME | FORM | {"x-fleet-tenant": "other"})
        assert answer.status_code == 404
        answer = await speak.client.post(f"{path}?tenant=gold", headers=SAME | FORM)
        assert answer.status_code == 303
        assert answer.headers["location"].endswith("tenant=gold")
