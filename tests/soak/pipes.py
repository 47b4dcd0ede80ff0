"""Many calls to the library in one write, repeated whole until every reply has come."""

from collections import Counter
from typing import Any, TypeAlias

from redis.exceptions import RedisError, ResponseError

from scheduler.agent.retrying import insist
from scheduler.errors import ServerUnavailable
from scheduler.store.functions import Functions

Call: TypeAlias = tuple[Any, ...]


async def called(functions: Functions, calls: list[Call], seen: Counter[str]) -> list[str]:
    """The first word of each reply. Calls that were done before a reply was lost answer as calls done twice."""

    async def once() -> list[str]:
        try:
            async with functions.client.pipeline(transaction=False) as pipe:
                for name, *args in calls:
                    pipe.execute_command("FCALL", f"fleet1_{name}", 1, functions.shard, *args)
                return [answer[0].decode() for answer in await pipe.execute()]
        except ResponseError as error:
            seen[f"bad: a function raised: {error}"] += 1
            raise ServerUnavailable(str(error)) from error
        except (TimeoutError, RedisError, OSError) as error:
            seen["ends without a reply"] += 1
            raise ServerUnavailable(str(error)) from error

    return await insist(once)
