"""`fleet audit`: who changed what by the command line, in one order over all shards."""

import getpass
import json
import platform
import re

from tests.e2e.conftest import P, Run, register
from tests.sharded import Shards

ME = re.sub(r"[^A-Za-z0-9._:@/-]", "-", f"cli:{getpass.getuser()}@{platform.node()}")[:128]


def test_it_tells_who_did_what_and_when(fleet: Run, shards: Shards) -> None:
    register(shards, "n1", "asr:zh")
    assert fleet("node", "cordon", "n1").stdout == "n1 is cordoned\n"
    told = json.loads(fleet("node", "drain", "n1", "n2", "--drain-ms", "5000", "--json", status=1).stdout)
    assert told == {"nodes": [{"id": "n1", "state": "draining"}, {"id": "n2", "state": None}]}
    fleet("pools", "remove", "gold", status=1)
    lines = fleet("audit").stdout.splitlines()
    assert [line.split("  ", 1)[1].split() for line in lines] == [
        ["node_cordoned", "by", ME, "node", "n1"],
        ["node_draining", "by", ME, "node", "n1"],
    ]
    shards.redis.fcall("fleet1_pool_put", 1, P, "gold", '{"selector": {"all": true}}', "key:k1")
    lines_told = [json.loads(line) for line in fleet("audit", "--json", "--by", "key:k1").stdout.splitlines()]
    assert [(entry["kind"], entry["by"], entry["pool"]) for entry in lines_told] == [
        ("pool_stored", "key:k1", "gold")
    ]
    assert [
        entry.split()[2] for entry in fleet("audit", "--kind", "node_draining,pool_stored").stdout.splitlines()
    ] == [
        "node_draining",
        "pool_stored",
    ]
    assert len(fleet("audit", "--count", "1").stdout.splitlines()) == 1


def test_reading_is_not_told(fleet: Run, shards: Shards) -> None:
    register(shards, "n1", "asr:zh")
    for command in (["nodes"], ["pools"], ["explain", "--requires", "asr:zh"], ["events"]):
        fleet(*command)
    assert fleet("audit").stdout == ""
