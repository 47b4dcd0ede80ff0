import sys
from pathlib import Path

import pytest

from scheduler.errors import BadInput
from scheduler.sim.plan import SimPlan
from scheduler.sim.plot import check_plot, draw
from scheduler.sim.sweep import Sweep, Swept

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("values", [{"d": (2,)}, {"d": (1, 2)}, {"d": (1, 2, 3), "refresh_ms": (100, 400)}])
def test_bars_and_curves_are_drawn_without_a_screen(values: dict[Swept, tuple[int, ...]], tmp_path: Path) -> None:
    sweep = Sweep(SimPlan(nodes=10, jobs=50), ("ours", "random"), values)
    file = tmp_path / "p.png"
    check_plot(file)
    draw(list(sweep.run(lambda *_: None)), sweep.varied, "a title", file)
    assert file.read_bytes().startswith(PNG)


def test_a_file_that_is_no_png_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--plot must name a file that ends in \.png"):
        check_plot(tmp_path / "p.svg")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--plot must name a file in a folder that exists"):
        check_plot(tmp_path / "nowhere" / "p.png")


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = tmp_path / "p.png"
    file.mkdir()
    with pytest.raises(BadInput, match="--plot must name a file that can be written"):
        draw([], [], "", file)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadInput, match=r"--plot needs the extra `plot`: pip install 'fleet-scheduler\[plot\]'"):
        check_plot(tmp_path / "p.png")
