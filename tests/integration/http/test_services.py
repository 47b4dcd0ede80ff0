"""Services in languages over HTTP: what a node says of its models decides which requests it gets."""

from typing import Any

import pytest
import redis

from tests.conftest import looking
from tests.integration.http.conftest import Speaker, Told

NODE = {"endpoint": "http://n1:9000", "slots": 8, "ttl_ms": 60_000}
SERVICES: list[dict[str, Any]] = [
    {"service": "asr", "languages": ["zh-CN", "en"]},
    {"service": "nmt", "rule": "any_to_any", "languages": ["zh", "en-US", "ja"], "blocked": ["zh>ja"]},
    {"service": "tts", "languages": ["en", "ja"]},
    {"service": "semantic", "languages": ["zh"], "ready": False},
]


@pytest.fixture
def redis_url(redis_url: str, client: redis.Redis) -> str:
    """A fleet that was in use before the replica came: in a new one nothing is impossible for a while."""
    fields = ("endpoint", "http://n0", "slots", 1, "capabilities", "work")
    with looking(client) as shards:
        _, incarnation, *_ = shards.fcall("node_register", "n0", *fields)
        shards.fcall("node_remove", "n0", incarnation)
    return redis_url


def job(services: str, src: str | None = None, tgt: str | None = None, **more: object) -> dict[str, object]:
    return {"services": services.split(), "src": src, "tgt": tgt, **more}


async def registered(speak: Speaker, services: list[dict[str, Any]], **more: object) -> int:
    told = await speak("PUT", "/v1/nodes/n1", NODE | {"services": services} | more)
    assert told.status == 201, told
    await speak.followed()
    return int(told.body["incarnation"])


async def offer(speak: Speaker) -> list[str]:
    return sorted((await speak("GET", "/v1/nodes/n1")).body["node"]["capabilities"])


async def placed(speak: Speaker, body: object) -> Told:
    told = await speak("POST", "/v1/jobs", body)
    assert told.status == 201, told
    assert told.body["job"]["node"]["id"] == "n1"
    return told


async def impossible(speak: Speaker, body: object) -> None:
    told = await speak.refused("POST", "/v1/jobs", body, 422)
    assert (told.body["class"], told.body["reasons"]) == ("impossible", {"missing_capability": 1})


async def test_a_registration_turns_services_into_tokens_beside_the_capabilities(speak: Speaker) -> None:
    await registered(speak, SERVICES, capabilities=["gpu", "asr:zh"])
    expected = (
        "asr:en asr:zh gpu nmt.auto:en nmt.auto:ja nmt.auto:zh nmt:en>ja nmt:en>zh nmt:ja>en nmt:ja>zh nmt:zh>en"
    )
    assert await offer(speak) == [*expected.split(), "tts:en", "tts:ja"]


@pytest.mark.parametrize(
    "body",
    [
        job("asr", "zh"),
        job("asr nmt tts", "cmn-Hans", "EN_gb"),
        job("nmt", "ja-JP", "zh-CN"),
        job("asr nmt", "auto", "ja"),
        job("asr", "auto"),
        job("tts", None, "ja"),
        job("asr", "en", requires=["gpu"]),
    ],
)
async def test_a_request_is_placed_where_the_rules_allow_it_however_it_spells_the_languages(
    speak: Speaker, body: dict[str, object]
) -> None:
    await registered(speak, SERVICES, capabilities=["gpu"])
    await placed(speak, body)


@pytest.mark.parametrize(
    "body",
    [
        job("nmt", "zh", "ja"),
        job("asr nmt tts", "zh-CN", "ja-JP"),
        job("asr", "zh-TW"),
        job("semantic", "zh"),
        job("semantic", "auto"),
        job("tts", None, "zh"),
        job("asr", "zh", requires=["fpga"]),
    ],
)
async def test_what_the_rules_do_not_allow_is_impossible(speak: Speaker, body: dict[str, object]) -> None:
    await registered(speak, SERVICES, capabilities=["gpu"])
    await impossible(speak, body)


async def test_two_models_of_one_kind_add_up(speak: Speaker) -> None:
    await registered(speak, [*SERVICES, {"service": "nmt", "rule": "pairs", "pairs": ["zh>ja"]}])
    await placed(speak, job("nmt", "zh", "ja"))


async def test_200_languages_of_every_service_fit_on_one_node(speak: Speaker) -> None:
    codes = [f"{a}{b}x" for a in "abcdefgh" for b in "abcdefghijklmnopqrstuvwxy"]
    kinds: list[dict[str, Any]] = [{"service": name, "languages": codes} for name in ("asr", "tts", "semantic")]
    await registered(speak, [*kinds, {"service": "nmt", "rule": "any_to_any", "languages": codes}])
    assert len(await offer(speak)) == 1_000
    await placed(speak, job("asr nmt tts semantic", "aax", "hyx"))
    await placed(speak, job("nmt", "auto", "cex"))
    await impossible(speak, job("nmt", "aax", "zh"))


async def test_a_heartbeat_replaces_the_whole_offer_by_what_it_gives_of_it(speak: Speaker) -> None:
    incarnation = await registered(speak, SERVICES, capabilities=["gpu"])
    path, ready = "/v1/nodes/n1/heartbeat", [{"service": "semantic", "languages": ["zh"], "ready": True}]
    assert (await speak("POST", path, {"incarnation": incarnation})).status == 200
    assert "gpu" in await offer(speak)
    for change, left in (
        ({"services": ready}, ["semantic:zh"]),
        ({"capabilities": ["gpu"]}, ["gpu"]),
        ({"services": ready, "capabilities": ["gpu"]}, ["gpu", "semantic:zh"]),
    ):
        assert (await speak("POST", path, {"incarnation": incarnation} | change)).status == 200
        assert await offer(speak) == left


async def test_a_model_that_becomes_ready_gets_jobs_from_then_on(speak: Speaker) -> None:
    incarnation = await registered(speak, SERVICES)
    await impossible(speak, job("semantic", "zh"))
    beat = {"incarnation": incarnation, "services": [*SERVICES[:3], SERVICES[3] | {"ready": True}]}
    assert (await speak("POST", "/v1/nodes/n1/heartbeat", beat)).status == 200
    await placed(speak, job("semantic", "zh"))


async def test_the_same_job_in_another_spelling_is_the_same_job(speak: Speaker) -> None:
    await registered(speak, SERVICES)
    first = await placed(speak, job("asr nmt", "zh", "en", id="a"))
    again = await speak("POST", "/v1/jobs", job("nmt asr asr", "zh_CN", "eng", id="a"))
    assert (again.status, again.body["job"]["fence"]) == (200, first.body["job"]["fence"])
    await speak.refused("POST", "/v1/jobs", job("asr nmt", "ja", "en", id="a"), 409, "id")


async def test_jobs_of_a_batch_may_name_services(speak: Speaker) -> None:
    await registered(speak, SERVICES)
    told = await speak(
        "POST", "/v1/jobs:batch", {"jobs": [job("asr", "zh"), job("nmt", "zh", "ja"), job("nmt", "zh")]}
    )
    outcomes = told.body["jobs"]
    assert [outcome["status"] for outcome in outcomes] == [201, 422, 422]
    assert [outcome.get("problem", {}).get("field") for outcome in outcomes] == [None, None, "tgt"]
