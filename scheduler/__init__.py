"""Places real-time work on a live fleet."""

from importlib.metadata import version

__version__ = version("fleet-scheduler")
