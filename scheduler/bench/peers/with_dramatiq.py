"""dramatiq: an actor's send, its call for one job."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from measuring import PAYLOAD, asked, measure


def work(text: str) -> None:
    """Never run here."""


url, seconds = asked()
actor = dramatiq.actor(work, broker=RedisBroker(url=url))
measure(lambda: actor.send(**PAYLOAD), seconds)
