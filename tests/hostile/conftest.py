"""Replicas as the end-to-end tests start them."""

from tests.e2e.conftest import http, replicas

__all__ = ["http", "replicas"]
