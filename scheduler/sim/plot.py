"""The outcomes as a picture: bars for each policy, or curves over the values that were tried."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.errors import BadInput
from scheduler.sim.outcome import Outcome
from scheduler.sim.sweep import Swept, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS: tuple[tuple[str, Callable[[Outcome], float | None]], ...] = (
    ("first-try conflicts, % of jobs", lambda outcome: outcome.conflicts_percent),
    (
        "refused while a slot was free, % of jobs",
        lambda outcome: 100 * outcome.refused_in_vain / max(outcome.requests, 1),
    ),
    ("hottest ÷ mean load", lambda outcome: outcome.hottest_to_mean),
)


def check_plot(file: Path) -> None:
    """Raises BadInput where no picture could be drawn there; asked before anything is simulated."""
    if file.suffix.lower() != ".png":
        raise BadInput("--plot", f"must name a file that ends in .png, not {str(file)!r}")
    if not file.parent.is_dir():
        raise BadInput("--plot", f"must name a file in a folder that exists, not {str(file)!r}")
    try:
        import matplotlib.figure  # noqa: F401 - whether it is there
    except ImportError as error:
        raise BadInput("--plot", "needs the extra `plot`: pip install 'fleet-scheduler[plot]'") from error


def draw(outcomes: Sequence[Outcome], varied: Sequence[Swept], title: str, file: Path) -> None:
    """Write the PNG. The first varied field is the x axis, each combination of the others a curve."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(1, len(_PANELS))
    for axes, (name, value) in zip(panels, _PANELS, strict=True):
        axes.set_title(name, fontsize=10)
        axes.grid(visible=True, axis="y", alpha=0.3)
        if varied:
            _curves(axes, outcomes, varied, value)
        else:
            axes.bar([outcome.policy for outcome in outcomes], [value(outcome) or 0 for outcome in outcomes])
            axes.tick_params(axis="x", rotation=45, labelsize=8)
    if varied:
        panels[0].legend(fontsize=8)
    try:
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise BadInput("--plot", f"must name a file that can be written: {error}") from error


def _curves(
    axes: "Axes", outcomes: Sequence[Outcome], varied: Sequence[Swept], value: Callable[[Outcome], float | None]
) -> None:
    x, *others = varied
    curves: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        told = label(outcome, others)
        curves.setdefault(f"{outcome.policy}{told and f', {told}'}", []).append(outcome)
    ticks = sorted({getattr(outcome, x) for outcome in outcomes})
    for name, points in curves.items():
        points = sorted(points, key=lambda outcome: int(getattr(outcome, x)))
        shown = [(getattr(o, x), y) for o in points if (y := value(o)) is not None]
        axes.plot([at for at, _ in shown], [y for _, y in shown], marker="o", markersize=3, label=name)
    axes.set_xlabel(x.replace("_", " "))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
