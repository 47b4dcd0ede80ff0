"""`fleet node`: one node with the demo handler or a function of yours, and the words of an operator."""

import asyncio
import importlib
import inspect
import signal
import sys
import tomllib
from pathlib import Path

import click
import msgspec

from scheduler.agent import Agent, FencedOut, Handler, NodeConfig
from scheduler.agent.config import labels_from
from scheduler.agent.demo import demo_handler
from scheduler.cli.marking import cordon, drain, uncordon
from scheduler.cli.observed import observed
from scheduler.cli.settings import settings_with
from scheduler.domain.ids import NodeId, Token
from scheduler.domain.services import Service, tokens_offered
from scheduler.errors import BadInput


@click.group()
def node() -> None:
    """Run a node here, or say of any node whether it takes jobs."""


node.add_command(cordon)
node.add_command(uncordon)
node.add_command(drain)


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


class ServicesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """TOML with a table [[services]] for each model of the node."""

    services: tuple[Service, ...]


def _services(path: Path) -> tuple[Service, ...]:
    try:
        found = msgspec.convert(tomllib.loads(path.read_text("utf-8")), ServicesFile).services
        tokens_offered(found)
    except msgspec.ValidationError as error:
        raise BadInput("--services", f"{path}: {str(error).replace('`$.', '`')}") from error
    except BadInput as error:
        raise BadInput("--services", f"{path}: {error.field} {error.what}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput("--services", f"{path} cannot be read: {error}") from error
    return found


@node.command()
@click.option("--id", "node_id", required=True, help="the node's id")
@click.option("--slots", required=True, type=int, help="jobs at once")
@click.option("--capabilities", default="", help='what it offers: "asr:zh gpu"')
@click.option(
    "--services", type=click.Path(path_type=Path), help="TOML file of the models in languages that it offers"
)
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
    services: Path | None,
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
        services=() if services is None else _services(services),
    )
    settings = settings_with(redis_url, namespace)
    work = _handler(handler) if handler else demo_handler
    end_tracing = observed(settings, "fleet-node")

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
    finally:
        end_tracing()
