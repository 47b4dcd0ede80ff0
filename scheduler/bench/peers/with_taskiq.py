"""taskiq: a task's kiq, its call for one job, with the broker on a list, the cheapest of its Redis brokers."""

import uvloop
from measuring import PAYLOAD, asked, measure_async
from taskiq_redis import ListQueueBroker


async def work(text: str) -> None:
    """Never run here."""


async def main() -> None:
    url, seconds = asked()
    broker = ListQueueBroker(url)
    task = broker.task(task_name="work")(work)
    await broker.startup()
    await measure_async(lambda: task.kiq(**PAYLOAD), seconds)
    await broker.shutdown()


uvloop.run(main())
