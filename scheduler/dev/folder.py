"""Private temporary folders that do not pile up when their owner is killed: the next one made removes them."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "fleet-server-"
_LOCK = "owner.lock"


class PrivateFolder:
    """A folder of this user's own, locked for as long as this process lives."""

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        _sweep(parent)
        # Locked before it gets the name that a sweep looks for: no sweep ever meets a live folder without its lock.
        made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
        self._lock = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = made.rename(parent / made.name.removeprefix("."))
        self._removed = False

    def remove(self) -> None:
        if not self._removed:
            self._removed = True
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)


def _sweep(parent: Path) -> None:
    """Remove what owners that are gone left behind. A lock, not a pid: pids are reused and differ in containers."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue
        finally:
            os.close(lock)
