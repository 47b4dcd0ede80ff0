"""The shards of a fleet: how their tags are chosen, and how a client learns of them."""

from redis.crc import key_slot
from redis.exceptions import RedisError

from scheduler.domain.shards import SHARDS_MAX
from scheduler.errors import BadInput, ServerUnavailable
from scheduler.store.client import Client

FIRST = "0"
HASH_SLOTS = 16_384


def chosen_tags(count: int) -> tuple[str, ...]:
    """Tags for so many shards, one in the middle of each equal part of the hash slots.

    Primaries serve neighbouring hash slots, so any number of them has as many shards each, give or take one. The
    first tag is always 0, whose key clients ask for the others; it stands for the part in which it lies.
    """
    if not 1 <= count <= SHARDS_MAX:
        raise BadInput("shards", f"must be from 1 to {SHARDS_MAX}")
    width = HASH_SLOTS / count
    taken = int(key_slot(FIRST.encode()) / width)
    missing = {part for part in range(count) if part != taken}
    found: dict[int, str] = {}
    number = 0
    while missing:
        number += 1
        place = key_slot(str(number).encode()) / width
        part = int(place)
        if part in missing and abs(place - part - 0.5) < 0.15:
            found[part] = str(number)
            missing.discard(part)
    return (FIRST, *(found[part] for part in sorted(found)))


async def read_tags(client: Client, first: str) -> tuple[str, ...]:
    """The tags that the first shard names, by its key; none where nobody has named any."""
    try:
        held = await client.execute_command("HGET", first, "tags")
    except (TimeoutError, RedisError, OSError) as error:
        raise ServerUnavailable(f"Redis does not answer: {error}") from error
    return tuple((held or b"").decode().split())
