"""rq: Queue.enqueue, its call for one job."""

from measuring import PAYLOAD, asked, measure
from redis import Redis
from rq import Queue

url, seconds = asked()
queue = Queue(connection=Redis.from_url(url))
measure(lambda: queue.enqueue("tasks.work", **PAYLOAD), seconds)
