"""The load of this machine in percent: CPU and memory by psutil, GPUs by NVML where there is a driver."""

import contextlib
import warnings
from typing import Any

import psutil


def _open_gpus() -> tuple[Any, list[Any]]:
    """The NVML module and a handle for each GPU; none where there is no driver."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pynvml
        pynvml.nvmlInit()
        return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # noqa: BLE001 - no driver, no library, no permission: a node without a GPU
        return None, []


class Meters:
    """Opens what it measures once; `read` is cheap and never raises."""

    def __init__(self) -> None:
        self._nvml, self._gpus = _open_gpus()
        psutil.cpu_percent()  # the first reading only starts the interval

    def read(self) -> dict[str, object]:
        """Cpu and mem, and gpu where there is one: the busiest, by its memory or its time, whichever is fuller."""
        loads: dict[str, object] = {}
        with contextlib.suppress(psutil.Error, OSError):
            loads["cpu"] = f"{min(psutil.cpu_percent(), 100.0):.1f}"
            loads["mem"] = f"{psutil.virtual_memory().percent:.1f}"
        with contextlib.suppress(Exception):
            if self._gpus:
                loads["gpu"] = f"{max(map(self._gpu, self._gpus)):.1f}"
        return loads

    def _gpu(self, handle: Any) -> float:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        busy = float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        return min(max(busy, 100 * float(memory.used) / float(memory.total)), 100.0)
