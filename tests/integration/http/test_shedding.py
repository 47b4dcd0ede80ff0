"""A replica that has as much under way as it can decide in time refuses further placements at once."""

from tests.integration.http.conftest import Speaker

BODY = {"requires": ["asr:zh"]}


async def test_a_shut_door_answers_503_with_a_time_to_come_again_and_claims_nothing(speak: Speaker) -> None:
    await speak.register("n1")
    engine = speak.app.state.engine
    engine.door.under_way += 1_000_000
    for path, body in (("/v1/jobs", BODY), ("/v1/jobs:batch", {"jobs": [BODY]})):
        told = await speak.refused("POST", path, body, 503)
        assert told.headers["retry-after"] == "1"
        assert told.body["code"] == "overrun"
    assert (await speak("GET", "/v1/cluster")).body["leases"] == 0
    engine.door.under_way -= 1_000_000
    assert (await speak("POST", "/v1/jobs", BODY)).status == 201


async def test_a_shut_door_keeps_no_other_request_out(speak: Speaker) -> None:
    await speak.register("n1")
    speak.app.state.engine.door.under_way += 1_000_000
    assert (await speak("POST", "/v1/explain", BODY)).status == 200
    assert (await speak("GET", "/v1/nodes")).status == 200
    assert (await speak("GET", "/readyz")).status == 200
    assert "fleet_sheds_total 0.0" in (await speak("GET", "/metrics")).body


async def test_placements_are_counted_while_they_are_under_way(speak: Speaker) -> None:
    await speak.register("n1")
    engine = speak.app.state.engine
    counted = []
    place = engine.parts.spreader.place

    async def placed(request: object) -> object:
        counted.append(engine.door.under_way)
        return await place(request)

    engine.parts.spreader.place = placed
    assert (await speak("POST", "/v1/jobs:batch", {"jobs": [BODY] * 3})).status == 200
    assert (sorted(counted), engine.door.under_way) == ([1, 2, 3], 0)
