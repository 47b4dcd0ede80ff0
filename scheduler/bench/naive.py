"""The naive variant of row b: a replica that makes one redis-py call for each request.

`python -m scheduler.bench.naive --port P --redis-url URL`.
"""

import click
import uvicorn

from scheduler.app import create_app
from scheduler.domain.job import JobRequest
from scheduler.engine.engine import Engine
from scheduler.http.serving import listening
from scheduler.settings import Settings
from scheduler.store.codec import Answer, Shortlist

# one for each of the connections that row b drives, and some for what goes on besides: nobody waits for one
REDIS_CONNECTIONS = 64


@click.command()
@click.option("--port", required=True, type=int)
@click.option("--redis-url", required=True)
def main(port: int, redis_url: str) -> None:
    app = create_app(Settings(redis_url=redis_url, redis_connections=REDIS_CONNECTIONS))
    engine: Engine = app.state.engine

    async def claim(request: JobRequest, shortlist: Shortlist) -> Answer:
        return (await engine.first.functions.job_claim([(request, shortlist)]))[0]

    # the one thing in which it differs; all else stays the replica's own code
    engine.first._batcher.claim = claim  # type: ignore[method-assign]  # noqa: SLF001
    uvicorn.Server(listening(app, "127.0.0.1", port)).run()


if __name__ == "__main__":
    main()
