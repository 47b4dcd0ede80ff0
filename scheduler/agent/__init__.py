"""The node side: registers, heartbeats, takes work, runs handlers, drains. Needs Redis and nothing of a replica."""

from scheduler.agent.agent import Agent, FencedOut
from scheduler.agent.config import NodeConfig
from scheduler.agent.job import Handler, Job
from scheduler.domain.services import Asr, Nmt, Semantic, Tts

__all__ = ["Agent", "Asr", "FencedOut", "Handler", "Job", "Nmt", "NodeConfig", "Semantic", "Tts"]
