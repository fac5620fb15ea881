"""The load client over HTTP/2, against a server that ends connections and streams on demand."""

from __future__ import annotations

import itertools
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import load
import load_http2
import pytest
import trustme
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from load import Result
from load_http2 import Load, Options, Run
from scripted import Request, content
from scripted_http2 import UP_TO_ALL, Handler, Server, fine, serving

PATIENCE = 20  # seconds until a test gives up waiting


def options(server: Server, **other: object) -> Options:
    """A hundred requests on one connection, of which some are POSTs and none is slow."""
    values = {"seconds": 0.25, "rate": 400, "connections": 1, "slow": 0, "timeout_seconds": PATIENCE}
    return Options(**{"url": server.url} | values | other)


def run_load(server: Server, **other: object) -> list[Result]:
    """Run a load to its end; its results by their number."""
    return sorted(load.run_load(options(server, **other), Run), key=lambda result: result.number)


def closed_loop(server: Server, streams: int, **other: object) -> list[Result]:
    """Run a load for a second that keeps so many requests under way; its results by their number."""
    return run_load(server, rate=0, seconds=1, streams=streams, **other)


def reasons(results: list[Result]) -> dict[int, str]:
    """Why requests failed, by number."""
    return {result.number: result.reason for result in results if result.failed}


def asked(server: Server) -> list[int]:
    """The numbers that the server was asked, in order."""
    return [request.number for request in server.requests]


class Batch:
    """A server that holds the first requests until they are ``size``, and does something with their connection then."""

    def __init__(self, size: int, then: Callable[[Handler], None]) -> None:
        self.size, self.then = size, then

    def __call__(self, handler: Handler, stream: int, request: Request) -> None:
        if handler.connection or len(handler.held) == self.size:
            fine(handler, stream, request)
            return
        handler.held.append((stream, request))
        if len(handler.held) == self.size:
            self.then(handler)


def answer(handler: Handler, held: list[tuple[int, Request]]) -> None:
    """Answer what was held, the last one first."""
    for stream, request in reversed(held):
        fine(handler, stream, request)


def test_all_is_fine() -> None:
    with serving() as server:
        results = run_load(server, connections=2, slow=0.1, slow_seconds=0, first_number=1000)
    assert [result.number for result in results] == list(range(1000, 1100))
    assert reasons(results) == {}
    assert {(r.status, r.release, r.repeated, r.resent) for r in results} == {(200, "r1", False, False)}
    assert {r.number: r.kind for r in results} == {r.number: r.kind for r in server.requests}
    assert {r.kind for r in results} == {"get", "post", "slow"}
    assert all(r.body == load.body(r.number) for r in server.requests if r.kind == "post")
    assert {r.host for r in server.requests} == {server.url.removeprefix("http://")}
    assert {r.connection for r in results} <= {1, 2}


def test_requests_share_a_connection() -> None:
    with serving(Batch(50, lambda handler: answer(handler, handler.held))) as server:
        results = run_load(server)
    assert reasons(results) == {}
    assert {r.connection for r in results} == {1}


@pytest.mark.parametrize(("streams", "allowed"), [(3, 100), (100, 3)])
def test_no_more_requests_at_a_time_than_both_sides_allow(streams: int, allowed: int) -> None:
    most = []

    def behave(handler: Handler, stream: int, request: Request) -> None:
        most.append(handler.http.open_inbound_streams)
        handler.held.append((stream, request))
        if len(handler.held) == 3 or request.number in (0, 99):
            answer(handler, handler.held)
            handler.held = []

    with serving(behave, settings={SettingCodes.MAX_CONCURRENT_STREAMS: allowed}) as server:
        results = run_load(server, streams=streams)
    assert reasons(results) == {}
    assert max(most) == 3
    assert {r.connection for r in results} == {1}


@pytest.mark.parametrize("last", [0, 39, 79, UP_TO_ALL])
def test_goaway_names_what_is_awaited_and_what_is_sent_again(last: int) -> None:
    """Of the first 40 requests; POSTs are among both kinds. Answers come after the GOAWAY."""

    def leave(handler: Handler) -> None:
        handler.go_away(last)
        answer(handler, [(stream, request) for stream, request in handler.held if stream <= last])

    with serving(Batch(40, leave)) as server:
        results = closed_loop(server, streams=40)
    again = list(range((min(last, 79) + 1) // 2, 40))
    first = results[:40]
    assert reasons(results) == {}
    assert [r.number for r in first if r.resent] == again
    assert not any(r.repeated for r in results)
    assert {r.connection for r in first if not r.resent} == ({1} if last else set())
    assert {r.connection for r in results if r.resent or r.number >= 40} == {2}
    assert {r.kind for r in first if r.resent} == ({"get", "post"} if again else set())


def test_connection_that_is_left_is_closed_by_the_client() -> None:
    def behave(handler: Handler, stream: int, request: Request) -> None:
        if request.number == 5:
            handler.go_away(UP_TO_ALL)
        if request.number != 90 or handler.server.closed.acquire(timeout=PATIENCE / 2):
            fine(handler, stream, request)
        else:
            handler.answer(stream, b"", 504)

    with serving(behave) as server:
        results = closed_loop(server, streams=5)
    assert reasons(results) == {}
    assert len(results) > 90
    assert load.connections(results) == 2


def test_refused_stream_is_sent_again() -> None:
    seen = itertools.count()

    def behave(handler: Handler, stream: int, request: Request) -> None:
        if request.kind == "post" and not next(seen):
            handler.reset(stream, ErrorCodes.REFUSED_STREAM)
        else:
            fine(handler, stream, request)

    with serving(behave) as server:
        results = run_load(server)
    (again,) = (r for r in results if r.resent)
    assert reasons(results) == {}
    assert (again.kind, again.connection, asked(server).count(again.number)) == ("post", 1, 2)


def test_stream_that_is_reset_otherwise_fails() -> None:
    def behave(handler: Handler, stream: int, request: Request) -> None:
        if request.number == 7:
            handler.reset(stream, ErrorCodes.INTERNAL_ERROR)
        else:
            fine(handler, stream, request)

    with serving(behave) as server:
        results = run_load(server)
    assert reasons(results) == {7: "stream reset with error 2"}
    assert asked(server).count(7) == 1


def test_connection_closed_without_a_word_repeats_gets_and_fails_posts() -> None:
    def behave(handler: Handler, stream: int, request: Request) -> None:
        if handler.connection or request.number < 10:
            fine(handler, stream, request)
        elif request.number == 40:
            handler.close()

    with serving(behave) as server:
        results = closed_loop(server, streams=40)
    kinds = {r.number: r.kind for r in results}
    lost = {r.number for r in server.requests if not r.connection and r.number >= 10}
    posts = {number for number in lost if kinds[number] == "post"}
    assert posts
    failed = reasons(results)
    assert posts <= failed.keys()
    assert set(failed.values()) == {"reused connection closed before an answer; a POST is not repeated"}
    assert lost - posts <= {r.number for r in results if r.repeated}
    assert not any(r.resent for r in results)


def test_connection_closed_before_any_answer_fails_all() -> None:
    with serving(Batch(5, lambda handler: handler.close())) as server:
        results = run_load(server)
    assert {*range(5)} <= reasons(results).keys()
    assert set(reasons(results).values()) == {"new connection closed before an answer"}
    assert not any(r.repeated for r in results)


def test_get_is_repeated_once() -> None:
    def behave(handler: Handler, stream: int, request: Request) -> None:
        if request.number == 20:
            handler.close()
        else:
            fine(handler, stream, request)

    with serving(behave) as server:
        results = closed_loop(server, streams=1, post=0)
    assert asked(server).count(20) == 2
    assert reasons(results) == {20: "connection closed before an answer, for the second time"}


@pytest.mark.parametrize(
    ("status", "number", "reason"), [(500, 7, "status 500"), (200, 8, "wrong body: it answers number 8")]
)
def test_wrong_answer_fails(status: int, number: int, reason: str) -> None:
    def behave(handler: Handler, stream: int, request: Request) -> None:
        if request.number == 7:
            handler.answer(stream, content(request, number=number), status)
        else:
            fine(handler, stream, request)

    with serving(behave) as server:
        assert reasons(run_load(server, post=0)) == {7: reason}


def test_no_answer_fails_in_time_and_leaves_the_others_alone() -> None:
    def behave(handler: Handler, stream: int, request: Request) -> None:
        if request.number != 7:
            fine(handler, stream, request)

    with serving(behave) as server:
        results = run_load(server, timeout_seconds=2)
    assert reasons(results) == {7: "no complete answer in 2 s"}
    assert {r.connection for r in results} == {1}


def test_body_waits_for_the_server_to_take_it() -> None:
    with serving(settings={SettingCodes.INITIAL_WINDOW_SIZE: 50}) as server:
        results = run_load(server, post=0.5)
    assert (results[0].kind, reasons(results)) == ("get", {})  # the first request comes before the server's word
    bodies = {r.number: r.body for r in server.requests if r.kind == "post"}
    assert len(bodies) > 30
    assert bodies == {number: load.body(number) for number in bodies}


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_https_insists_on_http_2(tmp_path: Path, protocol: str) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols([protocol])
    ca.issue_cert("counter.bench").configure_cert(context)
    with serving(context=context) as server:
        url = server.url.replace("http:", "https:")
        results = run_load(server, url=url, host_header="counter.bench", ca=str(tmp_path / "ca.pem"))
    assert len(results) == 100
    if protocol == "h2":
        assert (reasons(results), {request.host for request in server.requests}) == ({}, {"counter.bench"})
    else:
        assert reasons(results) == dict.fromkeys(range(100), "the server does not speak HTTP/2")


def test_server_without_http_2_fails_all() -> None:
    def behave(handler: Handler, stream: int, request: Request) -> None:
        handler.request.sendall(b"\x00\x00\x00\x00\x00\x00\x00\x00\x00")  # DATA of no stream
        handler.close()

    with serving(behave) as server:
        results = run_load(server)
    assert len(results) == len(reasons(results)) == 100
    assert any(reason.startswith("not an answer in HTTP/2: ") for reason in reasons(results).values())


def test_streams_are_checked() -> None:
    with pytest.raises(ValueError, match="streams is 0; it must be 1 or more"):
        Options("http://host", streams=0)


def test_load_in_a_process() -> None:
    with serving() as server, Load(options(server)) as running:
        pass
    assert running.results
    assert {r.number for r in running.results} == {r.number for r in server.requests}
    assert running.failed == []
    assert running.record.head["options"]["streams"] == 100


def test_command_line() -> None:
    with serving() as server:
        words = f"{server.url} --seconds 0.1 --rate 100 --slow 0 --streams 5"
        command = [sys.executable, load_http2.__file__, *words.split()]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("10 requests in ")
    assert sorted(asked(server)) == list(range(10))
