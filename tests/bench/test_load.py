"""The load client, against a server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import load
import pytest
import trustme
from load import Load, Options, Result, run_load
from scripted import Reply, Request, Server, answer, content, fine, serving

PATIENCE = 20  # seconds until a test gives up waiting
RESULT = Result(0, "get", due=0, latency=0.001, late=0, status=200, release="r1", repeated=False, reason="")


def options(server: Server, **other: object) -> Options:
    """A hundred requests on one connection, of which some are POSTs and none is slow."""
    values = {"seconds": 0.25, "rate": 400, "connections": 1, "slow": 0, "timeout_seconds": PATIENCE}
    return Options(**{"url": server.url} | values | other)


def first(kind: str, after: int = 10) -> int:
    """The first number of this kind that the options above come to, after one."""
    plan = itertools.islice(load.planned(Options("http://host", slow=0)), 100)
    return next(number for number, planned in plan if planned == kind and number > after)


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


def reasons(results: list[Result]) -> dict[int, str]:
    """Why requests failed, by number."""
    return {result.number: result.reason for result in results if result.failed}


def on(number: int, reply: Reply) -> Callable[[Request], Reply]:
    """A server that replies this to one number, and a proper answer to the others."""
    return lambda request: reply if request.number == number else fine(request)


def test_all_is_fine() -> None:
    with serving() as server:
        results = run_load(options(server, connections=4, slow=0.1, slow_seconds=0, first_number=1000))
    assert [result.number for result in sorted(results, key=lambda result: result.due)] == list(range(1000, 1100))
    assert reasons(results) == {}
    assert {(r.status, r.release, r.repeated) for r in results} == {(200, "r1", False)}
    assert {r.number: r.kind for r in results} == {r.number: r.kind for r in server.requests}
    assert {r.kind for r in results} == {"get", "post", "slow"}
    assert all(100 <= len(r.body) <= 2000 for r in server.requests if r.kind == "post")
    assert {r.host for r in server.requests} == {server.url.removeprefix("http://")}


def test_numbers_are_due_at_the_rate() -> None:
    with serving() as server:
        results = run_load(options(server))
    assert {r.number: r.due for r in results} == {n: pytest.approx(n / 400, abs=1e-5) for n in range(100)}
    assert all(r.latency >= r.late >= 0 for r in results)
    assert sorted(r.late for r in results)[50] < 0.02


def test_connections_are_kept() -> None:
    with serving() as server:
        results = run_load(options(server))
    assert [(r.connection, r.turn) for r in server.requests] == [(0, turn) for turn in range(100)]
    assert {r.connection for r in results} == {1}


def test_closed_loop_keeps_all_connections_busy() -> None:
    barrier = threading.Barrier(4, timeout=PATIENCE)

    def behave(request: Request) -> Reply:
        if request.number < 8:
            barrier.wait()
        return fine(request)

    with serving(behave) as server:
        results = run_load(options(server, rate=0, connections=4, seconds=0.3))
    assert reasons(results) == {}
    assert sorted(r.number for r in results) == list(range(len(results)))
    assert len(results) > 8
    assert {r.connection for r in server.requests} == set(range(4))


def test_plan_follows_from_the_seed() -> None:
    def plan(**other: float) -> list[tuple[int, str]]:
        return list(itertools.islice(load.planned(Options("http://host", post=0.2, slow=0.1, **other)), 1000))

    kinds = [kind for _, kind in plan()]
    assert plan() == plan()
    assert plan(seed=1) != plan()
    assert 150 < kinds.count("post") < 250
    assert 60 < kinds.count("slow") < 140


def test_body_follows_from_the_number() -> None:
    bodies = [load.body(number) for number in range(2000)]
    sizes = {len(body) for body in bodies}
    assert 100 <= min(sizes) < 110
    assert 1990 < max(sizes) <= 2000
    assert len(set(bodies)) == 2000
    assert load.body(7) == bodies[7]


def test_host_header_and_path() -> None:
    with serving() as server:
        run_load(options(server, host_header="counter.test", seconds=0.05))
    assert {r.host for r in server.requests} == {"counter.test"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"url": "ftp://host"}, "is not like http://host:port or https://host:port"),
        ({"connections": 0}, "it must be 1 to"),
        ({"connections": 2000}, "it must be 1 to"),
        ({"post": 0.8, "slow": 0.3}, "shares of one whole"),
        ({"post": -0.1}, "shares of one whole"),
        ({"slow_seconds": 30}, "must be less than timeout_seconds"),
    ],
)
def test_options_are_checked(other: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**{"url": "http://host"} | other)


GET = Request(7, "get", "", b"", 0, 0)
GOOD = content(GET)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(answer(500, b"oops")), "status 500"),
        (Reply(answer(204, GOOD)), "status 204"),
        (Reply(answer(200, GOOD)[:-1], "close"), "connection closed in the middle of the answer"),
        (Reply(answer(200, GOOD)[:-1], "reset"), "connection closed in the middle of the answer"),
        (Reply(b"H", "close"), "connection closed in the middle of the answer"),
        (Reply(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD[:-1], "close"), "wrong body: "),
        (Reply(answer(200, content(GET, number=8))), "wrong body: it answers number 8"),
        (Reply(answer(200, b"null")), "wrong body: b'null'"),
        (Reply(answer(200, GOOD) + b"x"), "more bytes than one answer has"),
        (Reply(b"nonsense\r\n\r\n"), "not an answer in HTTP/1: 'nonsense'"),
    ],
)
def test_wrong_answer_fails(reply: Reply, reason: str) -> None:
    with serving(on(7, reply)) as server:
        results = run_load(options(server, post=0))
    assert len(results) == 100
    assert list(reasons(results)) == [7]
    assert reasons(results)[7].startswith(reason)
    assert [r.number for r in server.requests].count(7) == 1


def test_release_of_a_failed_answer_is_in_its_header() -> None:
    with serving(on(7, Reply(answer(502, b"", "X-Release: r2\r\n")))) as server:
        results = run_load(options(server, post=0))
    assert {(r.status, r.release) for r in results} == {(200, "r1"), (502, "r2")}


def test_wrong_hash_of_a_post_fails() -> None:
    def behave(request: Request) -> Reply:
        return Reply(answer(200, content(request, sha256="0" * 64))) if request.kind == "post" else fine(request)

    with serving(behave) as server:
        results = run_load(options(server))
    posts = {r.number for r in results if r.kind == "post"}
    assert posts
    assert reasons(results) == dict.fromkeys(posts, "wrong body: the sha256 of what was sent is another")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD, "close"),
        Reply(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD, "close"),
        Reply(answer(200, GOOD).replace(b"1.1", b"1.0")),
        Reply(answer(200, GOOD, "Connection: close\r\n")),
    ],
)
def test_answer_that_ends_the_connection(reply: Reply) -> None:
    with serving(on(7, reply)) as server:
        results = run_load(options(server, post=0))
    assert reasons(results) == {}
    assert not any(r.repeated for r in results)
    assert [(r.connection, r.turn) for r in server.requests if r.number in (7, 8)] == [(0, 7), (1, 0)]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nfirst\r\nb\r\n and second\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-LENGTH:16\r\n\r\nfirst and second",
    ],
)
def test_answer_is_complete_with_its_last_byte(data: bytes) -> None:
    assert [load.parse(data[:size]) for size in range(len(data))] == [None] * len(data)
    complete = load.parse(data)
    assert complete
    assert (complete.status, complete.body, complete.keep) == (200, b"first and second", True)


@pytest.mark.parametrize("chunks", [b"5\r\nfirstx\r\n", b"x\r\n", b"0\r\n\r\nx"])
def test_malformed_chunks_are_no_answer(chunks: bytes) -> None:
    with pytest.raises(ValueError):
        load.parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)


@pytest.mark.parametrize("then", ["close", "reset"])
def test_get_on_a_reused_connection_is_repeated(then: str) -> None:
    number = first("get")
    seen = itertools.count()

    def behave(request: Request) -> Reply:
        return Reply(then=then) if request.number == number and not next(seen) else fine(request)

    with serving(behave) as server:
        results = run_load(options(server))
    assert reasons(results) == {}
    assert [r.number for r in results if r.repeated] == [number]
    assert [(r.connection, r.turn) for r in server.requests if r.number == number] == [(0, number), (1, 0)]
    assert sorted(r.number for r in results) == list(range(100))


def test_get_is_repeated_once() -> None:
    number = first("get")
    with serving(on(number, Reply(then="close"))) as server:
        results = run_load(options(server))
    assert reasons(results) == {number: "new connection closed before an answer"}
    assert [r.number for r in server.requests].count(number) == 2


@pytest.mark.parametrize("then", ["close", "reset"])
def test_post_on_a_reused_connection_fails(then: str) -> None:
    number = first("post")
    with serving(on(number, Reply(then=then))) as server:
        results = run_load(options(server))
    assert reasons(results) == {number: "reused connection closed before an answer; a POST is not repeated"}
    assert not any(r.repeated for r in results)
    assert [r.number for r in server.requests].count(number) == 1


def test_get_on_a_new_connection_is_not_repeated() -> None:
    with serving(on(0, Reply(then="close"))) as server:
        results = run_load(options(server))
    assert reasons(results) == {0: "new connection closed before an answer"}
    assert [r.number for r in server.requests].count(0) == 1


@pytest.mark.parametrize("then", ["close", "reset", "warn"])
def test_connection_that_ends_while_idle_is_not_used_again(then: str) -> None:
    with serving(lambda request: replace(fine(request), then=then)) as server:
        results = run_load(options(server, post=1, rate=2, seconds=1))
    assert reasons(results) == {}
    assert [(r.connection, r.turn) for r in server.requests] == [(0, 0), (1, 0)]


@pytest.mark.parametrize("trusted", [True, False])
def test_https_trusts_one_ca_and_asks_for_the_host(tmp_path: Path, trusted: bool) -> None:
    ca, other = trustme.CA(), trustme.CA()
    (ca if trusted else other).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("counter.bench").configure_cert(context)
    asked = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with serving() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        results = run_load(
            options(server, url=url, connections=4, host_header="counter.bench", ca=str(tmp_path / "ca.pem"))
        )
    assert {*asked} == {"counter.bench"}
    if trusted:
        assert (reasons(results), {request.host for request in server.requests}) == ({}, {"counter.bench"})
        assert len(asked) <= 4
    else:
        assert all(reason.startswith("no connection: ") for reason in reasons(results).values())
        assert len(reasons(results)) == len(results) == 100


@pytest.mark.parametrize("rate", [200, 0])
def test_no_listener(rate: float) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        results = run_load(Options(url, seconds=0.25, rate=rate, connections=2))
    assert sorted(r.number for r in results) == list(range(len(results)))
    assert {r.status for r in results} == {0}
    assert load.connections(results) == 0
    assert all(r.reason.startswith("no connection: ") for r in results)
    assert len(results) == 50 if rate else 2 <= len(results) <= 10


@pytest.mark.parametrize("connections", [1, 50])
def test_a_stall_is_seen_by_all_that_were_due(connections: int) -> None:
    over = threading.Event()

    def behave(request: Request) -> Reply:
        if request.number == 20:
            time.sleep(0.5)
            over.set()
        elif request.number > 20:
            over.wait(PATIENCE)
        return fine(request)

    with serving(behave) as server:
        results = run_load(options(server, seconds=1, rate=200, connections=connections))
    start = 20 / 200
    stalled = [r for r in results if start <= r.due < start + 0.5]
    assert reasons(results) == {}
    assert len(stalled) == 100
    assert all(r.due + r.latency >= start + 0.5 for r in stalled)
    assert max(r.latency for r in results if r.due < start) < 0.5


def test_slow_ones_do_not_hold_up_others() -> None:
    quick = itertools.count(1)
    enough = threading.Event()

    def behave(request: Request) -> Reply:
        if request.kind == "slow":
            return fine(request) if enough.wait(PATIENCE / 2) else Reply(answer(504, b""))
        if next(quick) == 150:
            enough.set()
        return fine(request)

    with serving(behave) as server:
        results = run_load(options(server, seconds=1, rate=200, connections=32, slow=0.05, slow_seconds=1))
    slow = {r.connection for r in server.requests if r.kind == "slow"}
    assert reasons(results) == {}  # slow ones are answered well only once 150 quick ones were
    assert len(slow) > 5
    assert len({r.connection for r in server.requests}) <= 32


def test_pool_does_not_grow_beyond_its_bound() -> None:
    def behave(request: Request) -> Reply:
        if request.number < 3:
            time.sleep(0.1)
        return fine(request)

    with serving(behave) as server:
        results = run_load(options(server, connections=3))
    assert reasons(results) == {}
    assert {r.connection for r in server.requests} == {0, 1, 2}


def test_no_answer_fails_in_time() -> None:
    over = threading.Event()

    def behave(request: Request) -> Reply:
        over.wait(PATIENCE)
        return fine(request)

    with serving(behave) as server:
        results = run_load(options(server, seconds=0.1, connections=2, timeout_seconds=0.4))
        over.set()
    assert len(results) == 40
    assert {r.reason for r in results if r.number < 2} == {"no complete answer in 0.4 s"}
    assert {r.status for r in results} == {0}
    assert all(r.latency >= 0.4 for r in results)


def test_the_end_awaits_what_is_outstanding() -> None:
    go_on = threading.Event()

    def behave(request: Request) -> Reply:
        if request.number >= 10:
            go_on.wait(PATIENCE)
        return fine(request)

    async def scenario(server: Server) -> list[Result]:
        results: list[Result] = []
        stop = asyncio.Event()
        task = asyncio.create_task(load.run(options(server, seconds=math.inf, connections=4), results.append, stop))
        while not len(server.requests) >= 14:
            await asyncio.sleep(0.005)
        stop.set()
        await asyncio.wait([task], timeout=3 * load.SWEEP_SECONDS)
        assert not task.done()
        go_on.set()
        await asyncio.wait_for(task, PATIENCE)
        return results

    with serving(behave) as server:
        results = asyncio.run(scenario(server))
    assert reasons(results) == {}
    assert len(results) >= 14
    assert sorted(r.number for r in results) == list(range(len(results))) == sorted(r.number for r in server.requests)


@pytest.mark.parametrize("error", [OSError("no space left"), KeyError("no space left")])
def test_an_exception_ends_the_run(error: Exception) -> None:
    def record(result: Result) -> None:
        raise error

    async def scenario(server: Server) -> None:
        await asyncio.wait_for(load.run(options(server, seconds=math.inf, rate=1), record), PATIENCE)

    with serving() as server, pytest.raises(type(error), match="no space left"):
        asyncio.run(scenario(server))


def test_load_in_a_process(tmp_path: Path) -> None:
    with serving() as server:
        before = time.monotonic()
        with Load(options(server, seconds=math.inf, connections=4), tmp_path / "record.jsonl") as running:
            until(lambda: len(running.results) > 50)
            after = time.monotonic()
        assert before <= running.started <= after
    assert sorted(r.number for r in running.results) == list(range(len(running.results)))
    assert [r.number for r in running.results] == [r.number for r in load_record(tmp_path / "record.jsonl")]
    assert {r.number for r in running.results} == {r.number for r in server.requests}
    assert running.failed == running.repeated == []
    assert running.process.poll() == 0
    assert running.percentile(0.5) == load.percentile(running.results, 0.5)
    assert running.report() == load.report(running.results)


def load_record(path: Path) -> list[Result]:
    """The results in a record."""
    record = load.Record(path)
    record.update()
    return record.results


def test_load_has_the_failed_and_repeated_requests() -> None:
    get, post = first("get"), first("post")
    seen = itertools.count()

    def behave(request: Request) -> Reply:
        closes = request.number == post or (request.number == get and not next(seen))
        return Reply(then="close") if closes else fine(request)

    with serving(behave) as server, Load(options(server)) as running:
        until(lambda: len(running.results) == 100)
    assert [r.number for r in running.failed] == [post]
    assert [r.number for r in running.repeated] == [get]


def test_load_that_cannot_begin() -> None:
    with pytest.raises(RuntimeError, match="could not begin, exit code 1"), Load(Options("http://host.invalid")):
        pass


def test_load_that_is_killed() -> None:
    with (
        serving() as server,
        pytest.raises(RuntimeError, match="broke, exit code -9"),
        Load(options(server, seconds=math.inf)) as running,
    ):
        running.process.kill()


def test_record_is_read_by_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    line = json.dumps(vars(RESULT))
    record = load.Record(path)
    path.write_text('{"started": 1}\n' + line[:20])
    record.update()
    assert (record.head, record.results) == ({"started": 1}, [])
    path.write_text('{"started": 1}\n' + line + "\n" + line)
    record.update()
    assert record.results == [RESULT]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (500, 1)])
def test_command_line(tmp_path: Path, status: int, code: int) -> None:
    path = tmp_path / "out.jsonl"
    with serving(lambda request: Reply(answer(status, content(request)))) as server:
        words = f"{server.url} --seconds 0.1 --rate 100 --connections 2 --post 0 --slow 0 --first-number 5"
        command = [sys.executable, load.__file__, *words.split(), "--host-header", "a.test", "--record", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout == load.report(load_record(path)) + "\n"
    assert sorted(r.number for r in load_record(path)) == list(range(5, 15))
    assert {r.host for r in server.requests} == {"a.test"}


def test_command_line_stops_at_a_signal() -> None:
    with serving() as server:
        command = [sys.executable, load.__file__, server.url, "--slow=0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        until(lambda: len(server.requests) > 20)
        process.send_signal(2)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert output.startswith(f"{len(server.requests)} requests in ")


def test_command_line_reports_what_is_wrong() -> None:
    command = [sys.executable, load.__file__, "ftp://host"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 2
    assert "the URL 'ftp://host' is not like http://host:port" in done.stderr


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.5, 50), (0.501, 51), (0.99, 99), (1, 100)])
def test_percentile(share: float, expected: float) -> None:
    results = [replace(RESULT, latency=float(latency)) for latency in range(100, 0, -1)]
    others = [replace(RESULT, kind="slow", latency=1000.0), replace(RESULT, reason="status 500", latency=1000.0)]
    assert load.percentile([*others, *results], share) == expected


def test_percentile_of_a_kind() -> None:
    results = [replace(RESULT, kind=kind, latency=n) for n, kind in enumerate(("get", "post", "slow"))]
    assert [load.percentile(results, 1, kind) for kind in ("get", "post", "slow", None)] == [0, 1, 2, 1]
    assert math.isnan(load.percentile([], 1))


def test_report() -> None:
    good = [replace(RESULT, number=n, due=n / 100, latency=n / 1000, late=0.0005, connection=2) for n in range(100)]
    good[0] = replace(good[0], resent=True)
    bad = [
        replace(RESULT, number=n, kind="post", due=n / 100, status=502, release="", reason="status 502")
        for n in range(111, 99, -1)
    ]
    slow = replace(RESULT, number=112, kind="slow", due=1.12, latency=3.0, release="r2", repeated=True, connection=7)
    assert load.report([*good, *bad, slow]).splitlines() == [
        "113 requests in 4.1 s: 100 get, 12 post, 1 slow",
        "12 failed",
        *(f"    number {n} (post), due at {n / 100:.3f} s: status 502" for n in range(100, 110)),
        "1 repeated after a reused connection was closed",
        "1 sent again that the server had not processed",
        "2 connections",
        "latency without the slow ones: p50 49.0 ms, p95 94.0 ms, p99 98.0 ms, max 99.0 ms",
        "the client itself was late by 0.5 ms at most",
        "releases: r1 100, r2 1",
    ]
    assert load.report([]) == "no requests"


def test_duplicates() -> None:
    assert load.duplicates("3 GET\n1 GET\n2 POST\n1 GET\n3 GET\n3 GET\n") == {1: 2, 3: 3}
    assert load.duplicates("1 GET\n2 GET\n") == {}


def test_missing() -> None:
    results = [replace(RESULT, number=number) for number in (11, 1, 2, 3)]
    results.append(replace(RESULT, number=4, status=502, reason="status 502"))
    results.append(replace(RESULT, number=5, status=0, reason="new connection closed before an answer"))
    assert load.missing(results, "1 GET\n3 POST\n") == [2, 11]
