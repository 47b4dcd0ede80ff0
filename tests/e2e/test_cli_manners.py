"""What holds for the whole command: JSON everywhere, colours where they are wanted, completion, exit statuses."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import click
import pytest
import redis
from rich.console import Console

from scheduler.bench.figures import Figure
from scheduler.bench.stage import Plan
from scheduler.cli import bench
from scheduler.cli.main import fleet as command
from scheduler.dev.server import ServerChoice
from tests.e2e.conftest import FLEET, Run, environ, free_ports_in_a_row, register
from tests.sharded import Shards

# These run until they are stopped, or print a script: there is nothing to put into JSON.
NO_JSON = {"serve", "dev", "node run", "completion"}
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)[0-7](?:;\d+)*m")


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from leaves(found, (*path, name))
            if not found.invoke_without_command:
                continue
        yield " ".join((*path, name)), found


def test_every_command_has_json_or_a_reason_not_to() -> None:
    without = {name for name, found in leaves(command) if not any("--json" in option.opts for option in found.params)}
    assert without == NO_JSON


def test_every_command_says_in_one_sentence_what_it_does() -> None:
    assert [name for name, found in leaves(command) if not (found.help or "").strip()] == []


def test_short_answers_are_json_on_demand(fleet: Run, client: redis.Redis) -> None:
    assert json.loads(fleet("init", "--json").stdout)["shards"][0] == "0"
    assert "is there already" in json.loads(fleet("library", "load", "--json").stdout)["library"]
    assert json.loads(fleet("library", "status", "--json").stdout)["fits"] is True
    assert json.loads(fleet("shard", "freeze", "0", "--json").stdout) == {"shards": {"0": "frozen"}}
    assert json.loads(fleet("shard", "thaw", "0", "--json").stdout) == {"shards": {"0": "thawed"}}
    assert client.ping()


def test_colours_are_for_terminals_that_want_them(fleet: Run, shards: Shards) -> None:
    register(shards, "n1", "gpu")
    forced = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert COLOUR.search(fleet("doctor", **forced).stdout)
    assert not COLOUR.search(fleet("doctor", **forced, NO_COLOR="1").stdout)
    assert not COLOUR.search(fleet("--no-color", "doctor", **forced).stdout)
    assert "\x1b" not in fleet("doctor").stdout
    assert "\x1b" not in fleet("nodes", "--json", **forced).stdout


def test_the_help_lists_the_exit_statuses_and_they_are_kept(fleet: Run, client: redis.Redis) -> None:
    told = fleet("--help").stdout
    assert [int(status) for status in re.findall(r"^ {4}(\d+) {2,}\w", told, re.MULTILINE)] == [0, 1, 2, 3, 130]
    assert client.ping()
    fleet("nodes")
    fleet("nodes", "nobody", status=1)
    fleet("nodes", "a b", status=2)
    fleet("nowhere", status=2)
    fleet("nodes", "--redis-url", f"redis://127.0.0.1:{free_ports_in_a_row(1)}", status=1)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(fleet: Run, shell: str) -> None:
    script = fleet("completion", shell).stdout
    assert f"_FLEET_COMPLETE={shell}_complete" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"] if shell != "fish" else [program, "--no-execute"], input=script, text=True,
                       check=True, timeout=20)  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on PATH")
def test_bash_completes_commands_and_options(redis_url: str) -> None:
    ask = (
        'eval "$(fleet completion bash)"\n'
        "complete -p fleet\n"
        'COMP_WORDS=(fleet no); COMP_CWORD=1; _fleet_completion fleet; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(fleet nodes --js); COMP_CWORD=2; COMPREPLY=(); _fleet_completion fleet; echo "${COMPREPLY[@]}"\n'
    )
    given = environ(redis_url) | {"PATH": f"{FLEET.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", ask], env=given, capture_output=True, text=True, timeout=60, check=True)
    completed, commands, options = done.stdout.splitlines()
    assert completed.endswith(" fleet")
    assert commands.split() == ["node", "nodes"]
    assert options == "--json"


def test_a_benchmark_says_what_it_measures_also_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "row", lambda key: lambda _plan: [Figure(row=key, what="x", unit="", value=1.0)])
    plan = Plan(ServerChoice(None, None, ""), 1, 0.2)  # type: ignore[arg-type]
    told = list(bench._measured(["a", "b"], plan, Console(stderr=True)))
    assert [figure.row for figure in told] == ["a", "b"]
    assert [line[:3] for line in capsys.readouterr().err.splitlines()] == ["a: ", "b: "]


def test_who_has_not_said_where_redis_is_is_told_so(fleet: Run) -> None:
    port = free_ports_in_a_row(1)
    nowhere = f"redis://127.0.0.1:{port}"
    hint = "fleet: REDIS_URL is not set; `fleet dev` prints the line that sets it\n"
    assert hint not in fleet("nodes", status=1, REDIS_URL=nowhere).stderr
    assert hint not in fleet("nodes", "--redis-url", nowhere, status=1, REDIS_URL="").stderr
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 6379)) == 0:
            pytest.skip("there is a server at the usual port")
    assert fleet("nodes", status=1, REDIS_URL="").stderr.endswith(hint)
