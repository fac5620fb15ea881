"""Pictures of the latency: over time, and around switches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from figures import Way, curve, during
from load import Result
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

STEP_SECONDS = 0.25
P99_SECONDS = 1.25  # in 0.25 s there are less than 100 requests
AROUND_SECONDS = 3.0  # before and after a switch
AROUND_STEP_SECONDS = 0.1
MARKS = {"deploy": "#0072b2", "rollback": "#d55e00"}
LINES = {"p50": "#222222", "p99": "#009e73"}
DOTS, SHADE = "#b0b0b0", "#ececec"


def draw(ways: Sequence[Way], path: Path) -> None:
    """Draw a row for each way."""
    figure = Figure(figsize=(12, 3.6 * len(ways) + 0.9), dpi=150, layout="constrained")
    rows = figure.subplots(len(ways), 2, sharey=True, sharex="col", width_ratios=(3, 1), squeeze=False)
    for way, (left, right) in zip(ways, rows, strict=True):
        over_time(left, way)
        around(right, way)
        left.set_title(f"{way.name}: the whole run", loc="left", fontsize=11)
        right.set_title(f"around its {len(way.switches)} switches", loc="left", fontsize=11)
        left.set_ylabel("latency, ms")
        for axes in (left, right):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.grid(axis="y", which="major", color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
    rows[-1][0].set_xlabel("seconds")
    rows[-1][1].set_xlabel("seconds from the switch")
    figure.legend(
        handles=[
            Line2D([], [], color=LINES["p50"], label=f"p50 of {STEP_SECONDS:g} s"),
            Line2D([], [], color=LINES["p99"], label=f"p99 of {P99_SECONDS:g} s"),
            Line2D([], [], color=DOTS, marker=".", linestyle="", label=f"max of {STEP_SECONDS:g} s"),
            *(Line2D([], [], color=colour, label=kind) for kind, colour in MARKS.items()),
            Patch(color=SHADE, label="runs that change nothing"),
        ],
        loc="outside upper center", ncols=6, frameon=False,
    )  # fmt: skip
    figure.savefig(path)


def over_time(axes: Axes, way: Way) -> None:
    """The latency of a way's requests since the start."""
    latencies(axes, way.results, STEP_SECONDS, P99_SECONDS)
    for span in way.spans:
        if span.kind == "no change":
            axes.axvspan(span.start, span.end, color=SHADE, zorder=0)
    for switch in way.switches:
        moment = (switch.start + switch.end) / 2
        axes.axvline(moment, color=MARKS[switch.kind], linewidth=0.8, alpha=0.7, zorder=1)
        axes.plot(moment, 1, marker="v", color=MARKS[switch.kind], transform=axes.get_xaxis_transform(), clip_on=False)
    axes.margins(x=0.01)


def around(axes: Axes, way: Way) -> None:
    """The latency of a way's requests since the nearest switch, of all switches together."""
    near: list[Result] = []
    for switch in way.switches:
        start = (switch.start + switch.end) / 2 - AROUND_SECONDS
        span = replace(switch, start=start, end=start + 2 * AROUND_SECONDS)
        near += [replace(one, due=one.due - start) for one in during(way.results, [span])]
    latencies(axes, near, AROUND_STEP_SECONDS, AROUND_STEP_SECONDS, -AROUND_SECONDS)
    axes.axvline(0, color="#888888", linewidth=0.8)


def latencies(axes: Axes, results: list[Result], step: float, p99_width: float, offset: float = 0) -> None:
    """Curves of p50 and p99, and dots for the slowest request of each step."""
    for share, width, style in (
        (1.0, step, {"color": DOTS, "marker": ".", "markersize": 3, "linestyle": "", "alpha": 0.6}),
        (0.99, p99_width, {"color": LINES["p99"], "linewidth": 1.0}),
        (0.5, step, {"color": LINES["p50"], "linewidth": 1.2}),
    ):
        times, values = curve(results, share, step, width)
        axes.plot([time + offset for time in times], [value * 1000 for value in values], **style)
