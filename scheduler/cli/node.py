"""`fleet node run`: one node, with the demo handler or a function of yours."""

import asyncio
import importlib
import inspect
import logging
import signal
import sys
from pathlib import Path

import click

from scheduler.agent import Agent, FencedOut, Handler, NodeConfig
from scheduler.agent.config import labels_from
from scheduler.agent.demo import demo_handler
from scheduler.cli.settings import settings_with
from scheduler.domain.ids import NodeId, Token
from scheduler.errors import BadInput


@click.group()
def node() -> None:
    """Nodes of this machine."""


def _handler(name: str) -> Handler:
    # an installed command does not look into the folder it is called from
    sys.path.insert(0, str(Path.cwd()))
    module, _, function = name.partition(":")
    try:
        found: Handler = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput("--handler", f"must be module:function of an async function: {error}") from error
    if not inspect.iscoroutinefunction(found):
        raise BadInput("--handler", "must name an async function")
    return found


@node.command()
@click.option("--id", "node_id", required=True, help="the node's id")
@click.option("--slots", required=True, type=int, help="jobs at once")
@click.option("--capabilities", required=True, help='what it offers: "asr:zh tts:en"')
@click.option("--labels", default="", help='"zone=a tier=gold"')
@click.option("--endpoint", default="", help="where callers of direct jobs reach it")
@click.option("--cpu-max", type=float, help="percent of load above which it takes no more jobs [default: 85]")
@click.option("--gpu-max", type=float, help="the same for its busiest GPU")
@click.option("--mem-max", type=float, help="the same for its memory")
@click.option("--demo", is_flag=True, help="a handler that works for 50 to 200 ms")
@click.option("--handler", help="module:function, async, gets a Job and returns its result as text")
@click.option("--heartbeat-ms", default=1_000, show_default=True)
@click.option("--ttl-ms", default=3_000, show_default=True)
@click.option("--drain-ms", default=30_000, show_default=True, help="on SIGTERM running jobs may take this long")
@click.option("--redis-url", help="Redis address [default: REDIS_URL]")
@click.option("--namespace", help="first part of every key [default: fleet]")
def run(
    node_id: str,
    slots: int,
    capabilities: str,
    labels: str,
    endpoint: str,
    cpu_max: float | None,
    gpu_max: float | None,
    mem_max: float | None,
    handler: str | None,
    heartbeat_ms: int,
    ttl_ms: int,
    drain_ms: int,
    redis_url: str | None,
    namespace: str | None,
    *,
    demo: bool,
) -> None:
    """Run a node until SIGTERM or SIGINT, then drain and leave."""
    if demo == (handler is not None):
        raise BadInput("--handler", "or --demo must be given, one of the two")
    config = NodeConfig(
        id=NodeId(node_id),
        slots=slots,
        capabilities=tuple(map(Token, capabilities.split())),
        endpoint=endpoint,
        labels=labels_from(labels),
        cpu_max=cpu_max,
        gpu_max=gpu_max,
        mem_max=mem_max,
        heartbeat_ms=heartbeat_ms,
        ttl_ms=ttl_ms,
        drain_ms=drain_ms,
    )
    settings = settings_with(redis_url, namespace)
    work = _handler(handler) if handler else demo_handler

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("fleet").setLevel(logging.INFO)

    async def live() -> None:
        agent = Agent(config, work, settings.redis_url, settings.namespace)
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, agent.leave)
        await agent.run()

    try:
        asyncio.run(live())
    except FencedOut as error:
        click.echo(f"fleet: {error}", err=True)
        raise click.exceptions.Exit(3) from error
