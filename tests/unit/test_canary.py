"""The error rate of a canary in nginx's log, and when the release is refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet.canary import Mark, Traffic, traffic, watch
from conftest import Clock
from examples import A, B

ID = "0123456789abcdef" * 2


def line(status: int = 200, release: str = A, upstream: str = "0.010", request: str = "GET / HTTP/1.1") -> bytes:
    """A line of nginx's log."""
    return (
        f'10.0.0.9 10.0.0.9 [2026-11-22T17:30:00+00:00] "{request}" {status} 512 0.012 {upstream} {ID} {release} '
        '"-" "curl/8"\n'
    ).encode()


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (line() * 3 + line(503), Traffic(4, 1)),
        (line(499) + line(404), Traffic(2, 0)),
        (line(502, "-"), Traffic(1, 1)),
        (line(release=B), Traffic()),
        (line(upstream="-"), Traffic()),
        (line(upstream="0.001, 0.020"), Traffic(1, 0)),
        (line(request='GET /%22 500 "x" HTTP/1.1'), Traffic()),
        (line()[:60], Traffic()),
        (b"\xff\xfe\n", Traffic()),
    ],
    ids=[
        "one of four fails", "what is the client's doing", "no answer of the app", "another release", "a static file",
        "two upstreams", "a quote within", "half a line", "no text",
    ],
)  # fmt: skip
def test_requests_of_a_release_are_counted(log: bytes, expected: Traffic) -> None:
    assert traffic(log.splitlines(keepends=True), A) == expected


def test_a_log_is_read_from_where_it_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert list(Mark.end(str(log)).since()) == []
    log.write_bytes(b"old\n")
    mark = Mark.end(str(log))
    log.open("ab").write(b"new\n")
    assert list(mark.since()) == [b"new\n"]
    log.rename(tmp_path / "log.1")
    assert list(mark.since()) == []
    log.write_bytes(b"after the rotation\n")
    assert list(mark.since()) == [b"after the rotation\n"]


def test_a_log_of_any_length_takes_little_memory(tmp_path: Path) -> None:
    log = tmp_path / "log"
    mark = Mark.end(str(log))
    log.write_bytes(line(request=f"GET /{'x' * 8000} HTTP/1.1") * 2000)
    tracemalloc.start()
    try:
        assert traffic(mark.since(), A) == Traffic(2000, 0)
        assert tracemalloc.get_traced_memory()[1] < log.stat().st_size / 10
    finally:
        tracemalloc.stop()


def watched(
    clock: Clock, seen: Traffic, problem: str | None = None, seconds: float = 5, requests: int = 20, percent: float = 5
) -> tuple[Traffic, str | None]:
    """The judgement of these requests and this answer of the health path."""
    return watch(lambda: seen, lambda: problem, seconds, requests, percent)


def test_a_good_release_is_watched_for_the_whole_time(clock: Clock) -> None:
    judged, words = watched(clock, Traffic(100, 0))
    assert (words, judged.failed) == (None, 0)
    assert judged.requests > 100, "it is probed, too"
    assert clock.passed >= 5


def test_a_bad_release_is_refused_at_once(clock: Clock) -> None:
    judged, words = watched(clock, Traffic(100, 50))
    assert words == f"50 of {judged.requests} requests failed, more than 5 %"
    assert clock.passed < 1


def test_if_clients_send_too_few_requests_the_health_path_is_asked(clock: Clock) -> None:
    assert watched(clock, Traffic(), seconds=0) == (Traffic(20, 0), None)


def test_the_health_path_is_not_asked_more_often_than_needed(clock: Clock) -> None:
    """Each answer may take as long as the longest request."""
    judged, words = watched(clock, Traffic(5, 0), "/healthz answered 500", seconds=0)
    assert judged == Traffic(7, 2)
    assert words == "2 of 7 requests failed, more than 5 %; the last problem of its health path: /healthz answered 500"


@pytest.mark.parametrize(("failed", "refused"), [(5, False), (6, True)])
def test_the_allowed_percentage_may_fail(clock: Clock, failed: int, refused: bool) -> None:
    _, words = watched(clock, Traffic(100, failed), seconds=0)
    assert bool(words) == refused
