"""saq: Queue.enqueue, its call for one job."""

import uvloop
from measuring import PAYLOAD, asked, measure_async
from saq import Queue


async def main() -> None:
    url, seconds = asked()
    queue = Queue.from_url(url)
    await measure_async(lambda: queue.enqueue("work", **PAYLOAD), seconds)


uvloop.run(main())
