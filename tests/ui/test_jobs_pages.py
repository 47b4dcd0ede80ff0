"""Jobs and explanations as they come from the server."""

import html
import re
import shlex

import pytest

from scheduler.domain.ids import JobId
from scheduler.domain.job import JobState
from scheduler.domain.views import JobView
from tests.integration.http.conftest import Speaker
from tests.sharded import Shards

ATTACK = "</pre><script>alert(1)</script>"
JOB = {"requires": ["asr:zh"]}


def text(page: str) -> str:
    """What a person reads."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


@pytest.mark.one_shard("jobs of one demand wait in a queue of each shard")
async def test_jobs_that_wait_that_run_and_that_ended_are_told_apart(speak: Speaker) -> None:
    await speak.register("n1", slots=1)
    done = (await speak("POST", "/v1/jobs", JOB)).body["job"]
    await speak("POST", f"/v1/jobs/{done['id']}/finish", {"fence": done["fence"], "outcome": "succeeded"})
    runs = (await speak("POST", "/v1/jobs", JOB)).body["job"]["id"]
    for number in range(2):
        body = JOB | {"id": f"w{number}", "wait_ms": 60_000}
        assert (await speak("POST", "/v1/jobs", body, tenant="acme")).status == 202
    page = (await speak.client.get("/ui/jobs")).text
    waiting, slots, heard = re.split(r'<h2 id="(?:slots|heard)"', page)
    assert "acme:w0" in waiting
    assert re.search(r'data-label="jobs">2<', waiting)
    assert "requires=asr%3Azh" in waiting
    assert runs in slots
    assert done["id"] not in slots
    assert done["id"] in heard
    only = (await speak.client.get("/ui/jobs?kind=job_succeeded")).text
    assert "job waiting" not in only
    assert (await speak.client.get("/ui/jobs?kind=node_lost")).status_code == 422
    assert "acme:w0" not in (await speak.client.get("/ui/jobs?tenant=default")).text


@pytest.mark.one_shard("a job that waits moves to where a slot is")
async def test_one_job_tells_its_story_and_stands_still_once_it_has_ended(speak: Speaker, shards: Shards) -> None:
    await speak("POST", "/v1/jobs", JOB | {"id": "j"})
    await speak.register("n1", slots=1)
    assert (await speak("POST", "/v1/jobs", JOB | {"id": "j1"})).status == 201
    assert (await speak("POST", "/v1/jobs", JOB | {"id": "j2", "wait_ms": 60_000})).status == 202
    page = await speak.client.get("/ui/jobs?id=default:j2")
    assert (page.status_code, page.headers["location"]) == (303, "/ui/jobs/default:j2")
    waits = (await speak.client.get("/ui/jobs/default:j2")).text
    assert "It waits for a slot" in waits
    assert "data-live=" in waits
    first = (await speak("GET", "/v1/jobs/default:j1")).body["job"]
    await speak(
        "POST", "/v1/jobs/default:j1/finish", {"fence": first["fence"], "outcome": "succeeded", "result": ATTACK}
    )
    page = await speak.client.get("/ui/jobs/default:j1")
    assert "data-live" not in page.text
    assert "<script>" not in page.text
    assert ATTACK in html.unescape(page.text)
    story = text((await speak.client.get("/ui/jobs/default:j2")).text)
    story = story[story.index("Its story") :]
    assert story.index("created") < story.index("job waiting") < story.index("job placed")
    assert f"redis-cli HGETALL '{shards.job('default:j2')}'" in story


@pytest.mark.parametrize(
    ("path", "status"), [("/ui/jobs/nobody", 404), ("/ui/jobs/nobody/cancel", 404), ("/ui/jobs/-", 422)]
)
async def test_a_job_that_does_not_exist_is_a_page_with_its_status(speak: Speaker, path: str, status: int) -> None:
    page = await speak.client.get(path)
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")


@pytest.mark.one_shard("it writes events that are older than the division")
async def test_the_story_of_a_job_ends_soon_after_its_end(speak: Speaker, shards: Shards) -> None:
    for at in (1_000, 2_000, 9_000_000):
        shards.redis.xadd(f"{shards.of_job('j')}:events", {"kind": "job_retried", "job": "j"}, id=f"{at}-0")
    stories = speak.app.state.engine.parts.stories

    def view(ended_at_ms: int | None) -> JobView:
        return JobView(
            "j", JobState.FAILED, "default", None, None, None, 1, None, 5, "", None, None, 2_000, None, ended_at_ms
        )

    assert [e.at_ms for e in await stories.of_job(JobId("j"), view(3_000))] == [2_000]
    assert [e.at_ms for e in await stories.of_job(JobId("j"), view(None))] == [2_000, 9_000_000]


async def test_explain_says_the_class_the_counts_the_near_miss_and_what_helps(speak: Speaker) -> None:
    await speak.register("n1", slots=1, capabilities=("asr:zh", "tts:en"))
    await speak.register("n2", capabilities=("asr:zh",))
    await speak.followed()
    empty = (await speak.client.get("/ui/explain")).text
    assert 'href="/ui/explain?requires=tts%3Aen"' in empty
    page = text((await speak.client.get("/ui/explain?requires=asr:zh")).text)
    assert "placeable 2 nodes can take it now." in page
    page = (await speak.client.get("/ui/explain?requires=asr:zh+tts:en,llm:x")).text
    assert 'data-class="impossible"' in page
    assert "in pool default: lacks llm:x" in re.sub(r"\s+", " ", text(page))
    await speak("POST", "/v1/jobs", {"requires": ["tts:en"]})
    page = (await speak.client.get("/ui/explain?services=asr&services=tts&src=zh-CN&tgt=en-US")).text
    assert 'data-class="overloaded"' in page
    assert re.search(r'data-reason="full".*?>1<', page, re.DOTALL)
    assert re.search(r'data-reason="missing_capability".*?>1<', page, re.DOTALL)
    assert "let the job wait" in page


async def test_explain_shows_lines_that_ask_the_same_and_they_are_safe_to_paste(speak: Speaker) -> None:
    await speak.register("n1", capabilities=("nmt:zh>en",))
    page = (await speak.client.get("/ui/explain?requires=nmt:zh>en&direct=1&for=acme&pool=default")).text
    lines = [shlex.split(html.unescape(line)) for line in re.findall(r"<dd><code>([^<]*)</code>", page)]
    assert lines[0] == [
        "fleet",
        "explain",
        "--requires",
        "nmt:zh>en",
        "--pool",
        "default",
        "--tenant",
        "acme",
        "--no-fallback",
    ]
    assert lines[1][lines[1].index("-d") + 1] == '{"requires":["nmt:zh>en"],"pool":"default","fallback":false}'
    assert lines[2] == ["redis-cli", "SINTER", "fleet:{0}:free", "fleet:{0}:pool:default", "fleet:{0}:cap:nmt:zh>en"]


@pytest.mark.parametrize(
    "query",
    ["requires=a%20%3Cscript%3E", "services=asr", "requires=a&for=b%20c", "services=odd", "requires=a&exclude=-"],
)
async def test_a_demand_that_is_wrong_is_told_so_beside_the_form(speak: Speaker, query: str) -> None:
    page = await speak.client.get(f"/ui/explain?{query}")
    assert page.status_code == 422
    assert 'role="alert"' in page.text
    assert "<form" in page.text
    assert "<script>" not in page.text


async def test_a_pool_that_does_not_serve_the_tenant_is_denied(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", {"selector": {"all": True}, "tenants": ["gold"]})
    page = (await speak.client.get("/ui/explain?requires=a&pool=gold&for=other")).text
    assert 'data-class="denied"' in page
