"""Pages to be tried on a fleet that runs: every block in order in one shell, each answer as the page says it."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from tests.conftest import Topology, divide, looking
from tests.e2e.conftest import Replicas, register
from tests.e2e.page import Step, Terminal, plain_environ, shown, steps

ROOT = Path(__file__).parents[2]
MISSING = [tool for tool in ("curl", "redis-cli", "sh") if shutil.which(tool) is None]
SHARDS = "\n## Several shards\n"
_ANY_ORDER = re.compile(r"^redis-cli (SMEMBERS|SINTER|SDIFF|HKEYS) ")

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)}"),
    pytest.mark.timeout(180),
    pytest.mark.one_shard("types the keys of the page, which are those of one shard"),
]

Play = Callable[[list[Step]], None]


@pytest.fixture
def play(topology: Topology, redis_url: str, replicas: Replicas, tmp_path: Path) -> Iterator[Play]:
    """Follow these steps in a shell like that of the quick start: with a replica, and redis-cli finds the server."""
    if not isinstance(topology, EmbeddedServer):
        pytest.skip("redis-cli speaks to one server here")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    with Terminal(tmp_path, plain_environ(REDIS_URL=redis_url)) as terminal:
        terminal.play('alias redis-cli="redis-cli -e --raw -u $REDIS_URL"')
        # as `fleet dev` does, before its replicas look
        assert terminal.play(".venv/bin/fleet init")[1] == 0
        (url,) = replicas(1)

        def follow(found: list[Step]) -> None:
            for step in found:
                if step.file:
                    (tmp_path / step.file).write_text(step.text, "utf-8")
                    continue
                block = step.text.replace("http://127.0.0.1:8080", url)
                block = block.replace("fleet submit", f"fleet submit --url {url}")
                said, _ = terminal.play(block, 60)
                print(step.text, said, sep="")
                assert "BADARG" not in said, step.text
                told = step.told
                if _ANY_ORDER.match(step.text):
                    told, said = ("\n".join(sorted(text.splitlines())) for text in (told, said))
                if told:
                    shown(told, said, exact=True)

        yield follow


def of_section(page: str, heading: str) -> list[Step]:
    """The steps of the page from this heading on."""
    found = steps(page)
    first = next(at for at, step in enumerate(found) if heading in step.said_before)
    return found[first:]


def test_the_tour_has_many_questions_and_each_says_what_it_prints() -> None:
    seed, *questions = steps("redis-cli.md")
    assert not seed.told
    assert len(questions) >= 25
    for step in questions:
        assert step.told, step.text
        assert re.search(r"\*\*[^*]+[?.:]?\*\*", step.said_before), step.text
        assert "redis-cli " in step.text
        assert step.told.strip() != "…"


def test_each_line_of_the_tour_prints_what_the_page_says(play: Play) -> None:
    shards = of_section("redis-cli.md", SHARDS)
    found = steps("redis-cli.md")
    assert len(shards) == 4
    play(found[: -len(shards)])


def test_the_lines_for_several_shards_answer_on_a_divided_fleet(play: Play, client: redis.Redis) -> None:
    tags = divide(client, 3)
    with looking(client) as shards:
        for number in range(1, 7):
            register(shards, f"speech-{number}", "asr:zh")
    assert all(client.zcard(f"fleet:{{{tag}}}:nodes") for tag in tags)
    found = of_section("redis-cli.md", SHARDS)
    play(found)
    # the same loops where there is one shard
    client.hdel("fleet:{0}", "tags")
    play(found[-2:-1])


@pytest.mark.slow
@pytest.mark.parametrize("page", ["affinity.md", "pools.md"])
def test_each_block_of_the_page_prints_what_it_says(play: Play, page: str) -> None:
    found = steps(page)
    assert [step.text for step in found if not step.told and not step.file] == []
    play(found)
