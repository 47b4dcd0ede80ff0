"""The `fleet` command: its list of commands and what becomes of errors."""

import importlib
import os
import sys
from collections.abc import Sequence

import click

from scheduler import __version__
from scheduler.errors import BadInput, FleetError, ServerUnavailable

_COMMANDS = {
    "apikeys": "scheduler.cli.apikeys:apikeys",
    "audit": "scheduler.cli.audit:audit",
    "bench": "scheduler.cli.bench:bench",
    "completion": "scheduler.cli.completion:completion",
    "dev": "scheduler.cli.dev:dev",
    "doctor": "scheduler.cli.doctor:doctor",
    "events": "scheduler.cli.events:events",
    "explain": "scheduler.cli.explain:explain",
    "init": "scheduler.cli.init:init",
    "jobs": "scheduler.cli.jobs:jobs",
    "library": "scheduler.cli.library:library",
    "mirror": "scheduler.cli.mirror:mirror",
    "node": "scheduler.cli.node:node",
    "nodes": "scheduler.cli.nodes:nodes",
    "pools": "scheduler.cli.pools:pools",
    "replay": "scheduler.cli.replay:replay",
    "schema": "scheduler.cli.schema:schema",
    "serve": "scheduler.cli.serve:serve",
    "settings": "scheduler.cli.effective:settings",
    "shard": "scheduler.cli.shard:shard",
    "simulate": "scheduler.cli.simulate:simulate",
    "submit": "scheduler.cli.submit:submit",
    "tenants": "scheduler.cli.tenants:tenants",
    "top": "scheduler.cli.top:top",
}


class _Lazy(click.Group):
    """Imports a command when it is asked for, so that `fleet --help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        target = _COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, name = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Lazy, context_settings={"max_content_width": 110})
@click.version_option(__version__, prog_name="fleet")
@click.option("--no-color", is_flag=True, help="no colours; the variable NO_COLOR says the same")
def fleet(*, no_color: bool) -> None:
    """Place real-time work on a live fleet; Redis is the only truth.

    Commands print tables for people, and JSON alone with --json. Redis is found by REDIS_URL.

    \b
    Exit status:
      0    done
      1    failed or refused, or not as it should be
      2    bad input
      3    fenced: another process took the node's id
      130  interrupted
    """  # noqa: D301 - click wants the character
    if no_color:
        # whatever prints later heeds this one
        os.environ["NO_COLOR"] = "1"


def _server_is_a_guess(argv: Sequence[str]) -> bool:
    """Whether nobody has said where Redis is, so that the usual port of this machine was asked."""
    said = any(os.environ.get(name) for name in ("REDIS_URL", "FLEET_REDIS_URL", "FLEET_CONFIG"))
    return not said and not any(word.startswith("--redis-url") for word in argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Ends the process with one of the statuses that `fleet --help` lists."""
    try:
        # click turns Exit into the returned status here; no command returns anything else
        sys.exit(fleet.main(args=argv, prog_name="fleet", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except FleetError as error:
        click.echo(f"fleet: {error}", err=True)
        if isinstance(error, ServerUnavailable) and _server_is_a_guess(sys.argv if argv is None else argv):
            click.echo("fleet: REDIS_URL is not set; `fleet dev` prints the line that sets it", err=True)
        sys.exit(2 if isinstance(error, BadInput) else 1)


if __name__ == "__main__":
    main()
