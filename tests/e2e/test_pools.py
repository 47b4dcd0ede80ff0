"""`fleet pools` for real: shows first, asks, applies in one step, and needs no replica."""

import contextlib
import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.cli.main import main
from tests.e2e.conftest import FLEET, P, Replicas, fcall, place, register
from tests.sharded import Shards

ROOT = Path(__file__).parents[2]
GOLD = '[pools.gold]\nselector = {labels = {tier = "gold"}}\ntenants = ["acme"]\nfallback = ["rest"]\npriority = 5\n'
REST = "[pools.rest]\nselector = {all = true}\n"


class Shell:
    """Runs the command against the test's server."""

    def __init__(self, url: str, folder: Path) -> None:
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
        self.environ |= {"REDIS_URL": url, "COLUMNS": "200"}
        self.file = folder / "pools.toml"

    def __call__(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [FLEET, "pools", *words],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        return done

    def apply(self, text: str, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        self.file.write_text(text, "utf-8")
        return self("apply", "-f", str(self.file), *words, status=status)

    @contextlib.contextmanager
    def asking(self, text: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
        """An apply with a terminal for its stdin, which has asked by now: the process, the terminal, what it said."""
        self.file.write_text(text, "utf-8")
        terminal, stdin = pty.openpty()
        argv = [str(FLEET), "pools", "apply", "-f", str(self.file), *words]
        with subprocess.Popen(
            argv, env=self.environ, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            os.close(stdin)
            said = ""
            assert process.stderr
            while "[y/N]:" not in said and (letter := process.stderr.read(1)):
                said += letter
            assert "[y/N]:" in said
            try:
                yield process, terminal, said
            finally:
                process.kill()
                os.close(terminal)


@pytest.fixture
def shell(redis_url: str, tmp_path: Path) -> Shell:
    return Shell(redis_url, tmp_path)


def configuration(shards: Shards) -> dict[str, Any]:
    """All that an apply may change."""
    meta: Any = shards.redis.hmget(P, "config_version", "cpu_max", "gpu_max", "mem_max", "language_pools")
    return {"pools": shards.redis.hgetall(f"{P}:pools"), "meta": meta}


def test_the_list_is_a_table_of_what_redis_holds(shell: Shell, shards: Shards) -> None:
    shell.apply(GOLD + REST + "[language_pools]\n", "--yes")
    register(shards, "n1", "gpu semantic:de semantic:en")
    fcall(shards, "node_mark", "n1", "cordon")
    register(shards, "n2", "gpu")
    head, *rows = [line.split() for line in shell().stdout.splitlines()]
    assert head == ["name", "members", "free", "tenants", "strategy", "priority", "fallback", "selects"]
    assert rows == [
        ["de-en", "1", "0", "*", "spread", "0", "-", "automatic:", "de", "en"],
        ["gold", "0", "0", "acme", "spread", "5", "rest", "tier=gold"],
        ["rest", "2", "1", "*", "spread", "0", "-", "all"],
    ]
    assert shell("list").stdout == shell().stdout
    document = json.loads(shell("list", "--json").stdout)  # JSON alone
    assert json.loads(shell("--json").stdout) == document
    assert document["config_version"] == int(shards.redis.hget(P, "config_version") or 0)
    assert [(p["name"], p["members"], p["free"], p["languages"]) for p in document["pools"]] == [
        ("de-en", 1, 0, ["de", "en"]),
        ("gold", 0, 0, []),
        ("rest", 2, 1, []),
    ]


def test_the_built_in_pool_is_listed_until_pools_are_configured(shell: Shell, shards: Shards) -> None:
    register(shards, "n1", "gpu")
    assert shell().stdout.splitlines()[1].split()[:3] == ["default", "1", "1"]
    shell.apply("", "--yes")
    assert "no pool is left" in shell().stdout


def test_a_difference_is_shown_before_it_is_applied_in_one_step(shell: Shell, shards: Shards) -> None:
    shell.apply(GOLD + REST, "--yes")
    old = shards.redis.hget(P, "config_version")
    changed = GOLD.replace("priority = 5", 'strategy = "pack"').replace('"acme"', '"acme", "b"').replace('"rest"', "")
    done = shell.apply(
        changed + "[pools.new]\nselector = {capabilities = ['gpu']}\n[limits]\ncpu_max = 70\n", "--yes"
    )
    assert done.stdout.splitlines() == [
        '~ pools.gold.tenants  ["acme"] -> ["acme", "b"]',
        '~ pools.gold.fallback  ["rest"] -> []',
        '~ pools.gold.strategy  "spread" -> "pack"',
        "~ pools.gold.priority  5 -> 0",
        '+ pools.new  selector {"capabilities": ["gpu"]}',
        "- pools.rest",
        "~ limits.cpu_max  85.0 -> 70.0",
        "applied; nodes follow with their next heartbeats or the claims that meet them first",
    ]
    held = configuration(shards)
    assert held["pools"].keys() == {b"gold", b"new"}
    assert held["meta"][0] != old
    assert held["meta"][1:] == [b"70", None, None, None]


def test_nothing_to_change_is_said_and_changes_nothing(shell: Shell, shards: Shards) -> None:
    text = GOLD + REST + "[limits]\nmem_max = 85.1\n[language_pools]\nmax = 7\nfallback = []\n"
    shell.apply(text, "--yes")
    register(shards, "n1", "semantic:de")
    before = configuration(shards)
    listed = [line.split()[0] for line in shell().stdout.splitlines()]
    assert "de" in listed, "an automatic pool is no part of the difference"
    assert shell.apply(text).stdout == "nothing to change\n"
    document = json.loads(shell.apply(text, "--json").stdout)
    assert document == {"changes": [], "applied": False, "config_version": int(before["meta"][0])}
    assert configuration(shards) == before


def test_a_file_that_keeps_the_built_in_pool_is_stored(shell: Shell, shards: Shards) -> None:
    """Else the next pool, put by somebody else, would end it."""
    shown = shell.apply("[pools.default]\nselector.all = true\n", "--yes").stdout
    assert shown.startswith('+ pools.default  selector {"all": true}\n')
    fcall(shards, "pool_put", "gold", '{"selector":{"labels":{"tier":"gold"}}}')
    assert shards.redis.hexists(f"{P}:pools", "default")


def test_a_dry_run_shows_and_changes_nothing(shell: Shell, shards: Shards) -> None:
    before = shards.everything()
    said = shell.apply(REST, "--dry-run").stdout
    assert said.splitlines() == ["- pools.default", '+ pools.rest  selector {"all": true}']
    document = json.loads(shell.apply(REST, "--dry-run", "--json").stdout)
    assert [change["at"] for change in document["changes"]] == ["pools.default", "pools.rest"]
    assert (document["applied"], document["config_version"]) == (False, 0)
    assert shards.everything() == before


def test_an_apply_in_json_is_json_alone(shell: Shell, shards: Shards) -> None:
    done = shell.apply(REST, "--yes", "--json")
    document = json.loads(done.stdout)
    assert done.stderr == ""
    assert document["applied"] is True
    assert document["config_version"] == int(shards.redis.hget(P, "config_version") or 0)
    assert {"kind": "added", "at": "pools.rest", "old": None, "new": {"selector": {"all": True}}} in document[
        "changes"
    ]


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_without_a_terminal_and_without_yes_it_is_refused(
    shell: Shell, shards: Shards, words: tuple[str, ...]
) -> None:
    before = shards.everything()
    done = shell.apply(REST, *words, status=2)
    assert "fleet: Bad input: --yes must be given" in done.stderr
    assert shards.everything() == before


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_at_a_terminal_it_asks(shell: Shell, shards: Shards, answer: str, status: int) -> None:
    before = shards.everything()
    with shell.asking(REST) as (process, terminal, _):
        assert shards.everything() == before
        os.write(terminal, answer.encode())
        out, error = process.communicate(timeout=20)
    assert process.returncode == status
    assert "+ pools.rest" in out
    assert (shards.redis.hexists(f"{P}:pools", "rest"), "nothing was applied" in error) == (status == 0, status == 1)


def test_it_asks_on_stderr_where_stdout_is_for_json(shell: Shell, shards: Shards) -> None:
    with shell.asking(REST, "--json") as (process, terminal, said):
        assert "+ pools.rest" in said
        os.write(terminal, b"y\n")
        out, _ = process.communicate(timeout=20)
    assert json.loads(out)["applied"] is True
    assert shards.redis.hexists(f"{P}:pools", "rest")


def test_a_change_of_somebody_else_in_between_stops_it(shell: Shell, shards: Shards) -> None:
    with shell.asking(REST) as (process, terminal, _):
        fcall(shards, "pool_put", "other", '{"selector":{"all":true}}')
        before = configuration(shards)
        os.write(terminal, b"y\n")
        _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "changed meanwhile: nothing was applied" in error
    assert configuration(shards) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pools.gold\n", " cannot be read: "),
        ("colour = 1\n", ": colour is not known here"),
        ("pools = 7\n", ": pools must be an object"),
        ("pools = []\n", ": pools must be otherwise: Expected `object`, got `array`"),
        ("[pools.gold]\n", ": pools.gold.selector would select every node"),
        (GOLD, ": pools.gold.fallback names the unknown pool rest"),
        (GOLD + REST + 'fallback = ["gold"]\n', ".fallback makes a cycle: "),
        (GOLD.replace("tier =", "tier.x ="), ": pools.gold.selector.labels must be at most 64 names"),
        ("[pools.a]\nselector.all = true\nfallback = ['a']\n", ": pools.a.fallback makes a cycle: a > a"),
        ("[pools.a]\nselector.all = true\nd = 1.5\n", ": pools.a.d must be a whole number"),
        (
            "[pools.a]\nselector.all = true\nd = 5.0\n",
            ": pools.a.d must be otherwise: Expected `int | null`, got `float`",
        ),
        (
            "[pools.a]\nselector = {capabilities = ['g'], labels = []}\n",
            ": pools.a.selector.labels must be otherwise: Expected `object`",
        ),
        ("[pools.a]\nselector.all = true\npriority = nan\n", ": pools.a.priority must be a number, not nan"),
        ("[pools.a]\nselector.all = true\ntenants = [2020-01-01]\n", ": pools.a.tenants must not be a date"),
        ("[pools.a]\nselector.all = true\nlanguages = ['de']\n", ": pools.a.languages is not known here"),
        ("[limits]\ncpu_max = 101\n", ": limits.cpu_max must be a number from 0 to 100"),
        ("[language_pools]\nmax = 51\n", ": language_pools.max must be a whole number from 1 to 50"),
        ("".join(f"[pools.p{n}]\nselector.all = true\n" for n in range(201)), ": pools must be at most 200"),
    ],
)
@pytest.mark.parametrize("word", ["--yes", "--dry-run"])
def test_a_bad_file_is_told_by_name_and_field_and_changes_nothing(
    shell: Shell, shards: Shards, capsys: pytest.CaptureFixture[str], text: str, said: str, word: str
) -> None:
    before = shards.everything()
    shell.file.write_text(text, "utf-8")
    with pytest.raises(SystemExit) as ending:
        main(["pools", "apply", "-f", str(shell.file), "--redis-url", shell.environ["REDIS_URL"], word])
    told = capsys.readouterr()
    assert (ending.value.code, told.out) == (2, "")
    assert told.err.startswith(f"fleet: Bad input: {shell.file}")
    assert said in told.err
    assert shards.everything() == before


def test_a_missing_file_is_named(shell: Shell) -> None:
    said = shell("apply", "-f", str(shell.file), "--yes", status=2).stderr
    assert said.startswith(f"fleet: Bad input: {shell.file} cannot be read: ")


def test_a_pool_is_removed_unless_it_is_a_fallback_or_unknown(shell: Shell, shards: Shards) -> None:
    shell.apply(GOLD + REST, "--yes")
    assert "pool is a fallback of gold" in shell("remove", "rest", status=2).stderr
    assert shell("remove", "gold").stdout == "removed gold\n"
    assert "no pool gold is configured" in shell("remove", "gold", status=1).stderr
    assert "NAME must be" in shell("remove", "a b", status=2).stderr
    assert shards.redis.hkeys(f"{P}:pools") == [b"rest"]


def test_options_stand_after_the_command(shell: Shell) -> None:
    assert "after the command list" in shell("--json", "list", status=2).stderr


def test_colours_end_with_no_color(shell: Shell) -> None:
    shell.environ |= {"FORCE_COLOR": "1"}
    assert "\x1b[3" in shell.apply(REST, "--dry-run").stdout
    shell.environ |= {"NO_COLOR": "1"}
    assert "\x1b[3" not in shell.apply(REST, "--dry-run").stdout
    assert "\x1b[3" not in shell("list").stdout


def test_a_server_without_the_library_is_told_what_to_do(shell: Shell, shards: Shards) -> None:
    shards.everywhere("FUNCTION", "FLUSH")
    assert "fleet library load" in shell.apply(REST, "--yes", status=1).stderr


def test_the_example_of_the_page_is_applied_and_does_what_it_says(
    shell: Shell, shards: Shards, replicas: Replicas
) -> None:
    page = (ROOT / "docs" / "pools.md").read_text("utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    shell.apply(example, "--yes")
    assert shell.apply(example).stdout == "nothing to change\n"
    for node, tier in (("g1", "gold"), ("s1", "standard")):
        fields = f"endpoint http://{node} slots 1 capabilities gpu ttl_ms 60000 labels tier={tier}"
        fcall(shards, "node_register", node, *fields.split())
    with httpx.Client(base_url=replicas(1)[0], timeout=10) as http:
        told = [place(http, "gpu").json(), place(http, "gpu").json()]
        assert told[0]["job"]["pool"] == "standard"
        assert told[1]["class"] == "overloaded", "the default tenant has no gold"
        http.headers["x-fleet-tenant"] = "acme"
        assert place(http, "gpu").json()["job"]["pool"] == "gold"
