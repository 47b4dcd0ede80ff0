import redis

from scheduler.domain.ids import NodeId
from scheduler.store.client import connect_blocking
from scheduler.store.inbox import InboxReader


async def test_entries_that_are_not_understood_are_passed_over_in_order(redis_url: str, client: redis.Redis) -> None:
    inbox = "fleet:{0}:node:n1:inbox"
    client.xadd(inbox, {"kind": "weather", "sky": "blue"})
    client.xadd(inbox, {"kind": "job"})
    client.xadd(inbox, {"kind": "cancel", "job": "j1", "fence": "x"})
    last = client.xadd(inbox, {"kind": "job", "job": "j1", "fence": "7"})
    blocking = connect_blocking(redis_url, block_ms=100)
    reader = InboxReader(blocking, "fleet:{0}", NodeId("n1"))
    found = await reader.after("0", 100)
    assert [delivery.kind for delivery in found] == ["other", "other", "other", "job"]
    assert (found[-1].job, found[-1].fence) == ("j1", 7)
    assert isinstance(last, bytes)
    assert found[-1].position == last.decode()
    assert await reader.after(found[-1].position, 10) == []
    await blocking.aclose()
