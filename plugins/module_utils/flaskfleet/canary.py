"""What clients get from a release since it was switched to, and whether that is good enough to go on.

Counted in nginx's log, format ``site`` of the role nginx::

    client peer [time] "request" status bytes seconds upstream-seconds id release "referer" "agent"

A line is the release's where the app says so (``X-Release``), or nobody said anything: the app did not answer. What
nginx serves by itself has no upstream and is not counted.
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
    """A place in a log, which may be rotated meanwhile."""

    path: str
    inode: int = 0
    size: int = 0

    @classmethod
    def end(cls, path: str) -> Mark:
        """The end of a log; of one that is not there yet, its beginning."""
        try:
            status = Path(path).stat()
        except FileNotFoundError:
            return cls(path)
        return cls(path, status.st_ino, status.st_size)

    def since(self) -> Iterator[bytes]:
        """The lines since, as far as they are in this file: a rotated one is read from its beginning.

        One by one: an app's user may ask for its own pages, with long paths, as fast as nginx answers.
        """
        with suppress(FileNotFoundError), Path(self.path).open("rb") as file:
            file.seek(self.size if self.inode == Path(self.path).stat().st_ino else 0)
            yield from file


@dataclass(frozen=True)
class Traffic:
    """Requests to an app, and those of them that failed: a status of 500 and more."""

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
    """Watch a release that clients meet for a while.

    :param seen: the clients' requests so far. ``probe``: asks the health path; what is wrong, in words.
    :param seconds: how long. ``requests``: so many at least are judged; where clients send fewer, it is probed.
    :param failed_percent: the share of failed requests that is not too much. What is too much by any count ends it.
    :returns: what was judged, and why the release is not good enough, in words.
    """
    end = time.monotonic() + seconds
    probed, refusal = Traffic(), None

    def ask() -> None:
        nonlocal probed, refusal
        problem = probe()
        refusal = problem or refusal
        probed += Traffic(1, int(problem is not None))

    def is_too_much(all_: Traffic) -> bool:
        return all_.failed * 100 > failed_percent * max(all_.requests, requests)

    while time.monotonic() < end:
        ask()
        if is_too_much(seen() + probed):
            break
        time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))
    while (all_ := seen() + probed).requests < requests and not is_too_much(all_):  # it may hang at each
        ask()
    judged = seen() + probed
    if not is_too_much(judged):
        return judged, None
    words = f"{judged.failed} of {judged.requests} requests failed, more than {failed_percent:g} %"
    return judged, f"{words}; the last problem of its health path: {refusal}" if refusal else words
