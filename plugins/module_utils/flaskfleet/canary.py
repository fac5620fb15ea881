"""The error rate of a release since its switch, and whether the other hosts may switch, too.

Requests are counted in nginx's log, format ``site`` of the role nginx::

    client peer [time] "request" status bytes seconds upstream-seconds id release "referer" "agent"

A line counts for a release if it has that release (the app sends it as ``X-Release``), or none, because the app did
not answer. Files that nginx serves by itself have no upstream and are not counted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(
    rb'^\S+ \S+ \[[^]]+\] "[^"]*" (?P<status>\d{3}) \d+ [\d.]+ '
    rb"(?P<upstream>-|[\d.]+(?:[ ,:]+[\d.-]+)*) [0-9a-f]{32} (?P<release>\S+) "
)
POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Mark:
    """A position in a log, which may be rotated later."""

    path: str
    inode: int = 0
    size: int = 0

    @classmethod
    def end(cls, path: str) -> Mark:
        """The end of a log; its beginning if it does not exist yet."""
        try:
            status = Path(path).stat()
        except FileNotFoundError:
            return cls(path)
        return cls(path, status.st_ino, status.st_size)

    def since(self) -> Iterator[bytes]:
        """The lines after this position that are in the current file; after a rotation, all of its lines.

        An iterator, because the app's user can make the log as long as it likes.
        """
        with suppress(FileNotFoundError), Path(self.path).open("rb") as file:
            file.seek(self.size if self.inode == Path(self.path).stat().st_ino else 0)
            yield from file


@dataclass(frozen=True)
class Traffic:
    """Requests to an app, and how many of them failed with a status of 500 or more."""

    requests: int = 0
    failed: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.requests + other.requests, self.failed + other.failed)


def traffic(lines: Iterable[bytes], release: str) -> Traffic:
    """The requests of a release in lines of a log.

    >>> line = b'192.0.2.7 192.0.2.7 [x] "GET / HTTP/1.1" 502 5 0.1 0.1 ' + b"0" * 32 + b' - "-" "-"'
    >>> traffic([line], "1a2b3c4d5e6f")
    Traffic(requests=1, failed=1)
    """
    requests = failed = 0
    for line in lines:
        match = LINE.match(line)
        if match and match["upstream"] != b"-" and match["release"] in (release.encode(), b"-"):
            requests += 1
            failed += int(match["status"]) >= 500
    return Traffic(requests, failed)


def watch(
    seen: Callable[[], Traffic], probe: Callable[[], str | None], seconds: float, requests: int, failed_percent: float
) -> tuple[Traffic, str | None]:
    """Watch a canary's error rate.

    :param seen: returns the clients' requests so far. ``probe``: asks the health path; returns the problem, or None.
    :param seconds: how long. ``requests``: how many to judge at least; if clients send fewer, the health path is asked.
    :param failed_percent: the highest share of failed requests. Watching ends once it is exceeded.
    :returns: the judged requests, and why the release is refused in words, or None.
    """
    end = time.monotonic() + seconds
    probed, refusal = Traffic(), None

    def check_health() -> None:
        nonlocal probed, refusal
        problem = probe()
        refusal = problem or refusal
        probed += Traffic(1, int(problem is not None))

    def is_too_much(all_: Traffic) -> bool:
        return all_.failed * 100 > failed_percent * max(all_.requests, requests)

    while time.monotonic() < end:
        check_health()
        if is_too_much(seen() + probed):
            break
        time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))
    # Stop as soon as it is too much, because each request may take the whole timeout.
    while (all_ := seen() + probed).requests < requests and not is_too_much(all_):
        check_health()
    judged = seen() + probed
    if not is_too_much(judged):
        return judged, None
    words = f"{judged.failed} of {judged.requests} requests failed, more than {failed_percent:g} %"
    return judged, f"{words}; the last problem of its health path: {refusal}" if refusal else words
