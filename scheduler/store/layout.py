"""The shards of a fleet: how their tags are chosen, and how a client learns of them."""

from redis.crc import key_slot
from redis.exceptions import RedisError

from scheduler.domain.shards import SHARDS_MAX
from scheduler.errors import BadInput, ServerUnavailable
from scheduler.store.client import Client

FIRST = "0"
HASH_SLOTS = 16_384


def chosen_tags(count: int) -> tuple[str, ...]:
    """Tags for so many shards, an equal number of hash slots from one to the next around the circle.

    Primaries serve neighbouring hash slots, so any number of them has as many shards each, give or take one, where
    each serves as many hash slots. The first tag is always 0, whose key clients ask for the others.
    """
    if not 1 <= count <= SHARDS_MAX:
        raise BadInput("shards", f"must be from 1 to {SHARDS_MAX}")
    width, start = HASH_SLOTS / count, key_slot(FIRST.encode())
    found: dict[int, str] = {}
    number = 0
    while len(found) < count - 1:
        number += 1
        distance = (key_slot(str(number).encode()) - start) % HASH_SLOTS
        part = int(distance / width)
        # the very hash slot in which the part begins: one that is only near may be another primary's
        if part and part not in found and distance - part * width < 1:
            found[part] = str(number)
    return (FIRST, *(found[part] for part in sorted(found)))


async def read_tags(client: Client, first: str) -> tuple[str, ...]:
    """The tags that the first shard names, by its key; none where nobody has named any."""
    try:
        held = await client.execute_command("HGET", first, "tags")
    except (TimeoutError, RedisError, OSError) as error:
        raise ServerUnavailable(f"Redis does not answer: {error}") from error
    return tuple((held or b"").decode().split())
