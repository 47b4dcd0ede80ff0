"""The bare route of row a: what Starlette and uvicorn cost alone, listening as a replica does.

It decodes the same body into the same struct and encodes an answer of the same shape and size; nothing is placed.
`python -m scheduler.bench.bare --port P`.
"""

import click
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scheduler.domain.answers import PlacedJob, PlacementAnswer, PlacementFacts
from scheduler.domain.job import JobState
from scheduler.domain.views import NodeAddress
from scheduler.http.serving import listening
from scheduler.http.wire import JobBody

_decoder = msgspec.json.Decoder(JobBody)
# as long as the ids, fences and instants of a replica's answers
_JOB, _FENCE, _AT_MS = "0.0123456789abcdefghijkl", 1_700_000_000_000_000, 1_700_000_000_000


async def _post(request: Request) -> Response:
    body = _decoder.decode(await request.body())
    node = NodeAddress("n300", "http://10.0.0.1:300")
    job = PlacedJob(_JOB, JobState.CLAIMED, node, body.pool or "default", _FENCE, 1, _AT_MS)
    content = msgspec.json.encode(PlacementAnswer(job, PlacementFacts(3, False, False, 100)))
    return Response(content, 201, {"location": f"/v1/jobs/{_JOB}"}, "application/json")


@click.command()
@click.option("--port", required=True, type=int)
def main(port: int) -> None:
    app = Starlette(routes=[Route("/v1/jobs", _post, methods=["POST"])])
    uvicorn.Server(listening(app, "127.0.0.1", port)).run()


if __name__ == "__main__":
    main()
