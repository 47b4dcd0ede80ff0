"""Backups that are restored, a disk that cannot be written, memory that is full."""

import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import cast

import httpx
import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from tests.e2e.conftest import fcall, place, register, wait_until
from tests.operations.conftest import Open
from tests.operations.runbook import Runbook
from tests.operations.test_daily import AT_EASE, Fresh, is_ready, loaded
from tests.sharded import Shards

# every command of a runbook is a process
pytestmark = pytest.mark.timeout(180)
AOF = ("--appendonly", "yes")


def at(book: Runbook, server: EmbeddedServer, folder: Path) -> None:
    """The folders of the page, and the program and file that start a server on the port of this one."""
    backup, conf = folder / "backup", folder / "redis.conf"
    backup.mkdir()
    conf.write_text(
        f'port {server.port}\nbind 127.0.0.1\ndir {server.folder}\nsave ""\nlogfile {folder}/log\n', "utf-8"
    )
    book.places |= {
        "/var/lib/redis": str(server.folder),
        "/backup": str(backup),
        "redis-server /etc/redis/redis.conf": f"{server.choice.binary} {conf}",
    }


def lose_all(server: EmbeddedServer) -> None:
    server.kill()
    shutil.rmtree(server.folder)
    server.folder.mkdir()


def state(client: redis.Redis, job: str) -> list[str]:
    held = cast("list[bytes | None]", client.hmget(f"fleet:{{0}}:job:default:{job}", ["state", "attempt"]))
    return [(value or b"").decode() for value in held]


@pytest.mark.slow
def test_an_old_snapshot_is_restored_and_means_what_the_page_says(
    open_book: Open, fresh_server: Fresh, tmp_path: Path, replica_port: int
) -> None:
    server = fresh_server(*AOF)
    with (
        loaded(server) as client,
        open_book("## Backup from an RDB", server.port, server.url) as book,
        httpx.Client(base_url=f"http://127.0.0.1:{replica_port}", timeout=10) as http,
    ):
        at(book, server, tmp_path)
        book.also("serve", "--port", str(replica_port))
        wait_until(lambda: is_ready(str(http.base_url)), "the replica is ready", 30)
        register(Shards(client), "by-hand", "hand")
        done = place(http, "hand", id="done", ack_ms=2_000, max_attempts=2, deliver="inbox").json()["job"]
        book.play("redis-cli BGSAVE")
        book.play("until redis-cli INFO")
        book.play("redis-cli INFO persistence | grep rdb_last")
        book.play("cp ")
        # all of this is after the copy
        assert fcall(Shards(client), "job_finish", done["id"], str(done["fence"]), "succeeded") == ["finished"]
        later = place(http, "hand", id="later").json()["job"]
        book.also("node", "run", "--id", "late", "--slots", "1", "--capabilities", "late", "--demo", *AT_EASE)
        wait_until(lambda: client.exists("fleet:{0}:node:late"), "it has registered", 30)
        was = client.hget("fleet:{0}:node:late", "incarnation")
        lose_all(server)

        book.play("cp ")
        restored = book.begin("redis-server")
        book.play("until redis-cli PING")
        book.play("redis-cli CONFIG SET appendonly yes")
        assert "aof_rewrite_in_progress:0" in book.play("until redis-cli INFO")
        book.play(".venv/bin/fleet library status")
        wait_until(lambda: client.hget("fleet:{0}:node:late", "incarnation") not in {None, was}, "it is back", 30)
        assert "late" in book.play(".venv/bin/fleet nodes")
        wait_until(lambda: is_ready(str(http.base_url)), "the replica is ready", 30)
        assert http.get("/v1/jobs/default:later").status_code == 404
        again = place(http, "hand", id="later", ack_ms=60_000)
        assert again.status_code == 201
        assert again.json()["job"]["fence"] > later["fence"]
        # it had ended, and was given out once more; nobody acknowledged that either
        wait_until(lambda: state(client, "done") == ["failed", "2"], "it had another attempt", 30)

        # with the AOF that was switched on nothing is lost any more
        restored.kill()
        restored.wait(10)
        server.start()
        assert state(client, "later") == ["claimed", "1"]


def test_an_aof_that_was_copied_is_restored(open_book: Open, fresh_server: Fresh, tmp_path: Path) -> None:
    server = fresh_server(*AOF)
    with (
        loaded(server) as client,
        open_book("## Backup from the AOF", server.port, server.url) as book,
    ):
        at(book, server, tmp_path)
        was = register(Shards(client), "by-hand", "hand")
        book.play("redis-cli CONFIG SET auto-aof-rewrite-percentage 0")
        book.play("redis-cli BGREWRITEAOF")
        book.play("until redis-cli INFO")
        wait_until(lambda: client.info("persistence")["aof_rewrite_scheduled"] == 0, "nothing is to come")
        book.play("redis-cli INFO persistence")
        book.play("cp -r")
        book.play("redis-cli CONFIG SET auto-aof-rewrite-percentage 100")
        register(Shards(client), "after", "hand")
        lose_all(server)

        book.play("cp -r")
        book.begin("redis-server")
        book.play("until redis-cli PING")
        book.play(".venv/bin/fleet library status")
        assert client.hget("fleet:{0}:node:by-hand", "incarnation") == was.encode()
        assert not client.exists("fleet:{0}:node:after")


def test_a_server_that_cannot_save_goes_on_when_it_can_or_is_told_to(
    open_book: Open, fresh_server: Fresh, replica_port: int
) -> None:
    server = fresh_server("--save", "3600 1000000")
    with (
        loaded(server) as client,
        open_book("## A full disk", server.port, server.url) as book,
        httpx.Client(base_url=f"http://127.0.0.1:{replica_port}", timeout=10) as http,
    ):
        book.places["/var/lib/redis"] = str(server.folder)
        book.also("serve", "--port", str(replica_port))
        wait_until(lambda: is_ready(str(http.base_url)), "the replica is ready", 30)
        register(Shards(client), "n1", "work")
        # a folder under the snapshot's name: saving fails as on a full disk
        blocker = server.folder / "dump.rdb"
        blocker.mkdir()
        with suppress(redis.ResponseError):
            client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "saving has failed")
        refused = place(http, "work")
        assert refused.status_code == 503
        assert "MISCONF" in refused.json()["detail"]
        assert "rdb_last_bgsave_status:err" in book.play("redis-cli INFO persistence")
        assert "%" in book.play("df -h")
        assert client.info("errorstats")["errorstat_MISCONF"]["count"] > 0
        book.play("redis-cli CONFIG SET stop-writes-on-bgsave-error no")
        wait_until(lambda: place(http, "work").status_code == 201, "it goes on without")
        client.config_set("stop-writes-on-bgsave-error", "yes")
        assert place(http, "work").status_code == 503
        blocker.rmdir()
        book.play("redis-cli BGSAVE")
        book.play("until redis-cli INFO")
        wait_until(lambda: place(http, "work").status_code == 201, "it goes on")


def test_over_maxmemory_running_work_ends_and_more_memory_helps(
    open_book: Open, fresh_server: Fresh, replica_port: int
) -> None:
    server = fresh_server()
    with (
        loaded(server) as client,
        open_book("## Over maxmemory", server.port, server.url) as book,
        httpx.Client(base_url=f"http://127.0.0.1:{replica_port}", timeout=10) as http,
    ):
        book.also("serve", "--port", str(replica_port))
        wait_until(lambda: is_ready(str(http.base_url)), "the replica is ready", 30)
        register(Shards(client), "n1", "work")
        job = place(http, "work").json()["job"]
        client.config_set("maxmemory", 1)
        refused = place(http, "work")
        assert refused.status_code == 503
        assert "maxmemory" in refused.json()["detail"]
        told = book.play("redis-cli INFO memory")
        assert re.search(r"maxmemory_human:1B", told)
        assert "maxmemory_policy:noeviction" in told
        assert "errorstat_OOM" in book.play("redis-cli INFO errorstats")
        assert fcall(Shards(client), "job_finish", job["id"], str(job["fence"]), "succeeded") == ["finished"]
        book.play(".venv/bin/fleet jobs")
        book.play("redis-cli CONFIG SET maxmemory")
        wait_until(lambda: place(http, "work").status_code == 201, "jobs are placed again")
