import signal
import subprocess
import sys
from pathlib import Path

from scheduler.dev.folder import PrivateFolder

OWNER = """
import pathlib, sys, time
from scheduler.dev.folder import PrivateFolder
folder = PrivateFolder(pathlib.Path(sys.argv[1]))
print(folder.path, flush=True)
time.sleep(60)
"""


def test_a_live_owners_folder_stays_and_a_killed_owners_is_removed_by_the_next(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        left = Path(owner.stdout.readline().decode().strip())
        PrivateFolder(tmp_path).remove()
        assert left.is_dir()
        owner.send_signal(signal.SIGKILL)
    assert left.is_dir()
    mine = PrivateFolder(tmp_path)
    assert list(tmp_path.iterdir()) == [mine.path]
    mine.remove()


def test_a_folder_is_private_and_removed_once(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.remove()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_leaves_alone_what_it_did_not_make(tmp_path: Path) -> None:
    stranger = tmp_path / "fleet-server-notes"
    stranger.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "owner.lock").touch()
    link = tmp_path / "fleet-server-link"
    link.symlink_to(target)
    PrivateFolder(tmp_path).remove()
    assert sorted(tmp_path.iterdir()) == [link, stranger, target]
    assert (target / "owner.lock").exists()
