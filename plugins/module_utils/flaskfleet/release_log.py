"""The log of a release, shortened for messages."""

from __future__ import annotations

import re

from .files import read_ends
from .paths import AppPaths

# The lines that uWSGI logs at each start before it loads the app.
FIRST = r"\[uWSGI\] getting INI configuration"
BANNER = re.compile(rf"{FIRST}(?:(?!{FIRST}).)*?\*\*\* Operational MODE: [^\n]*\n", re.DOTALL)
LINE = 2_000  # characters of a log line in a message


def size(paths: AppPaths, release: str) -> int:
    """The size of a release's log in bytes."""
    log = paths.logs / f"{release}.log"
    return log.stat().st_size if log.exists() else 0


def excerpt(paths: AppPaths, release: str, skip: int = 0, first: int = 20, last: int = 40) -> str:
    """The beginning and the end of a release's log, after ``skip`` bytes and without uWSGI's own start messages."""
    try:
        with (paths.logs / f"{release}.log").open("rb") as file:
            head, tail = (part.decode(errors="replace") for part in read_ends(file, skip))
    except FileNotFoundError:
        return "(it wrote nothing)"
    lines, end = ([line[:LINE] for line in BANNER.sub("", part).strip().splitlines()] for part in (head, tail))
    if end or len(lines) > first + last:  # if workers crash in turn, the reason is not at the end
        left_out = "…" if end else f"… {len(lines) - first - last} lines …"
        lines = [*lines[:first], left_out, *(lines[first:] + end)[-last:]]
    return "\n".join(lines) or "(it wrote nothing)"
