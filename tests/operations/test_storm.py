"""Nodes that all come back at the same moment."""

import asyncio

import pytest

from tests.bench.node_storm import OLD, measured
from tests.operations.conftest import Open
from tests.operations.test_daily import Fresh

NODES = 400
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_all_nodes_are_back_and_placements_go_on_meanwhile(open_book: Open, fresh_server: Fresh) -> None:
    server = fresh_server()
    with open_book("## A node storm", server.port, server.url) as book:
        phases = {phase.name: phase for phase in asyncio.run(measured(server, NODES, 30))}
        assert len(phases) == 5
        assert all(phase.placed_ms and phase.failed == 0 for phase in phases.values())
        registering = phases[f"{NODES} registrations at once"]
        assert 0 < registering.took_s < 20
        # the snapshot follows within refreshes of 200 ms, and the look at it
        assert registering.seen_s is not None
        assert registering.seen_s < registering.took_s + 3
        assert "connected_clients" in book.play("redis-cli INFO clients")
        book.play("redis-cli CONFIG GET maxclients")
        assert str(NODES + OLD) in book.play(".venv/bin/fleet shard list")
        assert "node_lost" not in book.play(".venv/bin/fleet events")
