"""Two slips of redis-py, mended around each call."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ConnectionError as NotConnected


@contextmanager
def heeding_cancel() -> Iterator[None]:
    """Raise CancelledError at the end if the task was cancelled meanwhile and nobody told it.

    redis-py sends under asyncio.wait_for, and Python 3.11's swallows a cancel that comes as the send ends: a task
    that asks Redis in a loop would then outlive its cancel.

    After a failure or a failover it closes idle connections, and one that a call has just taken with them: that call
    would write to None, and gets a ConnectionError instead.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except AttributeError as error:
        if error.obj is not None:
            raise
        raise NotConnected("the connection was closed when another call failed") from error
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
