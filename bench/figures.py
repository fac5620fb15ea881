"""Figures from the measurements: the switches, the requests around them, and tables of both.

Times are in seconds. Those of a way's requests and of its runs count from the start of its load.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from load import Result, percentile

WINDOW_SECONDS = 1.0  # before and after a switch
SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class Span:
    """A time from ``start`` to ``end``; ``kind`` is steady, no change, deploy or rollback."""

    kind: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """The length."""
        return self.end - self.start

    def since(self, zero: float) -> Span:
        """The same span on a clock that starts at ``zero``."""
        return Span(self.kind, self.start - zero, self.end - zero)


@dataclass(frozen=True)
class Way:
    """A way to the app: its requests, and the runs of the controller meanwhile."""

    name: str
    results: list[Result]
    spans: list[Span]
    twice: int = 0  # requests that the app executed more than once

    @cached_property
    def switches(self) -> list[Span]:
        """The windows around the first answers of another release."""
        return switches(self.results, self.spans)

    def of(self, *kinds: str) -> list[Span]:
        """Its spans of these kinds."""
        return [span for span in self.spans if span.kind in kinds]


def answered(result: Result) -> float:
    """When the answer was complete."""
    return result.due + result.latency


def switches(results: Iterable[Result], spans: Iterable[Span]) -> list[Span]:
    """The window around the first answer of another release in each deploy and rollback that has one.

    Later answers of the old release are no second switch.
    """
    answers = sorted((one for one in results if one.release), key=answered)
    live = answers[0].release if answers else ""
    found = []
    for span in spans:
        if span.kind not in ("deploy", "rollback"):
            continue
        inside = (one for one in answers if span.start <= answered(one) <= span.end)
        first = next((one for one in inside if one.release != live), None)
        if first:
            live = first.release
            found.append(Span(span.kind, answered(first) - WINDOW_SECONDS, answered(first) + WINDOW_SECONDS))
    return found


def during(results: Iterable[Result], spans: Iterable[Span]) -> list[Result]:
    """The requests that were due within one of the spans."""
    bounds = [(span.start, span.end) for span in spans]
    return [one for one in results if any(start <= one.due <= end for start, end in bounds)]


def curve(results: Iterable[Result], share: float, step: float, width: float) -> tuple[list[float], list[float]]:
    """Times, ``step`` apart, and the latency that this share did not exceed ``width / 2`` before and after each."""
    bins: dict[int, list[Result]] = {}
    for one in results:
        bins.setdefault(int(one.due // step), []).append(one)
    reach = max(0, round(width / step - 1) // 2)
    times, values = [], []
    for place in range(max(bins, default=-1) + 1):
        near = [one for number in range(place - reach, place + reach + 1) for one in bins.get(number, [])]
        times.append((place + 0.5) * step)
        values.append(percentile(near, share))
    return times, values


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown that is readable as it is: the first column to the left, the others to the right."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = [
        [cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(pairs)]
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])


def request_table(ways: Iterable[Way]) -> str:
    """How many requests went each way, and what became of them."""
    rows = [
        (
            way.name,
            f"{len(way.results)}",
            f"{sum(one.failed for one in way.results)}",
            f"{way.twice}",
            f"{sum(one.repeated for one in way.results)}",
            f"{len(way.switches)}",
        )
        for way in ways
    ]
    return table(("way", "requests", "failed", "executed twice", "repeated by the client", "switches"), rows)


def latency_table(ways: Iterable[Way]) -> str:
    """Latency in milliseconds without the slow requests: in quiet, in runs that change nothing, around switches."""
    rows = []
    for way in ways:
        quiet = during(way.results, way.of("steady"))
        no_change = during(way.results, way.of("no change"))
        parts = {
            "steady": quiet,
            "no-change runs": no_change,
            "switches ±1 s": during(way.results, way.switches),
            # What is drained and stopped after a switch, is so later than a second.
            "deploys and rollbacks": during(way.results, way.of("deploy", "rollback")),
            "whole": way.results,
        }
        for name, part in parts.items():
            figures = [f"{percentile(part, share) * 1000:.1f}" for share in SHARES.values()]
            ratios = [ratio(percentile(part, 0.99), percentile(base, 0.99)) for base in (quiet, no_change)]
            rows.append((f"{way.name}, {name}", f"{len(part)}", *figures, *ratios))
    return table(("way, when", "requests", "p50 ms", "p99 ms", "max ms", "p99 / steady", "p99 / no-change"), rows)


def ratio(value: float, base: float) -> str:
    """How many times a value is its base, as a table shows it."""
    return f"{value / base:.2f}" if base and not math.isnan(value / base) else "-"


def duration_table(durations: dict[str, Sequence[float]]) -> str:
    """Median, least and most of several measurements of each kind."""
    rows = [
        (name, f"{len(all_)}", f"{statistics.median(all_):.2f}", f"{min(all_):.2f}", f"{max(all_):.2f}")
        for name, all_ in durations.items()
        if all_
    ]
    return table(("", "number", "median s", "min s", "max s"), rows)


def task_seconds(output: str) -> dict[str, float]:
    """Seconds per task, in the order of the run, from what the callback profile_tasks prints at its end."""
    recap = output.rpartition("TASKS RECAP")[2]
    tasks: Counter[str] = Counter()
    for name, seconds in re.findall(r"^(?:.+? : )?(\S.*?) -+ (\d+\.\d+)s$", recap, re.MULTILINE):
        tasks[name] += float(seconds)
    return dict(tasks)


def orphans(processes: str, app: str) -> list[str]:
    """The app's processes that Supervisor does not know, of the lines ``pid ppid user command`` of ps."""
    lines = [line.split(maxsplit=3) for line in processes.splitlines()]
    parents = {pid: parent for pid, parent, _, _ in lines}
    roots = {pid for pid, _, _, command in lines if "supervisord" in command}

    def supervised(pid: str) -> bool:
        return pid in roots or (pid in parents and supervised(parents[pid]))

    return [" ".join(line) for line in lines if line[2] == app and not supervised(line[0])]


def programs(status: str, app: str) -> list[str]:
    """The names of the app's programs in the output of ``supervisorctl status``."""
    return sorted(line.split()[0] for line in status.splitlines() if line.startswith(f"{app}-"))
