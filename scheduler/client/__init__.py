"""The HTTP SDK, sync and async: places jobs at any of several replicas, follows them, and hears what happens."""

from scheduler.client.asynchronous import AsyncClient
from scheduler.client.blocking import Client
from scheduler.client.events import Event, Gap
from scheduler.client.newjob import NewJob
from scheduler.client.refusals import Conflict, Crowded, Denied, Failed, Fenced, NoReplica, Refused, Unknown
from scheduler.domain.answers import ExplainAnswer, PlacementAnswer, StartAnswer
from scheduler.domain.job import JobState
from scheduler.domain.pool import Pool, Selector
from scheduler.domain.views import JobView, NodeView, PoolView
from scheduler.errors import BadInput, FleetError, Overrun

__all__ = [
    "AsyncClient",
    "BadInput",
    "Client",
    "Conflict",
    "Crowded",
    "Denied",
    "Event",
    "ExplainAnswer",
    "Failed",
    "Fenced",
    "FleetError",
    "Gap",
    "JobState",
    "JobView",
    "NewJob",
    "NoReplica",
    "NodeView",
    "Overrun",
    "PlacementAnswer",
    "Pool",
    "PoolView",
    "Refused",
    "Selector",
    "StartAnswer",
    "Unknown",
]
