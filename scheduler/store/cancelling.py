"""A cancel that redis-py would lose under Python 3.11."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heeding_cancel() -> Iterator[None]:
    """Raise CancelledError at the end if the task was cancelled meanwhile and nobody told it.

    redis-py sends under asyncio.wait_for, and Python 3.11's swallows a cancel that comes as the send ends: a task
    that asks Redis in a loop would then outlive its cancel.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
