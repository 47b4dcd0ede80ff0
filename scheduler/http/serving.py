"""How a replica listens; also what a benchmark's baseline must share with it to be one."""

import uvicorn
from starlette.types import ASGIApp


def listening(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    """One process, one port, the quickest loop and parser there are. Logs go where the process has them go."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        # no request is judged by where it came from
        proxy_headers=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
        backlog=2_048,
    )
