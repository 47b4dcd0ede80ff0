"""Places every request on a live node, with Redis as the only truth."""

from importlib.metadata import version

__version__ = version("fleet-scheduler")
