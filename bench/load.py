#!/usr/bin/env python3
"""Load for the app `counter`: numbered requests at a steady rate, and what became of each of them.

A request is *due* at a time that does not depend on the answers before it, and its latency counts from then: a stall of
the server is seen in every request that was due meanwhile. It fails if there is no complete answer, or one with another
status or body than it should have. A GET whose kept connection the server closed before the first byte of an answer is
asked again on a new connection, with the same number, as RFC 9110 9.2.2 lets every client do; a POST is not.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import math
import random
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

SWEEP_SECONDS = 0.1  # between two looks for requests whose time is over; results are flushed then, too
PAUSE_SECONDS = 0.1  # after a failure in closed loop, or a server that refuses connections would be asked in a frenzy
PORTS = {"http": 80, "https": 443}
MAX_CONNECTIONS = 1000  # select(2) has 1024 descriptors


def option(default: float | int | str, text: str) -> Any:
    """A field of Options with its help text."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Options:
    """What to ask, how often and for how long; each field but the URL is an option of the command line."""

    url: str
    seconds: float = option(math.inf, "how long requests become due; until it is stopped by default")
    rate: float = option(500.0, "requests per second; 0 is a closed loop, as fast as the connections allow")
    connections: int = option(32, f"bound of the pool, at most {MAX_CONNECTIONS}")
    post: float = option(0.1, "share of POSTs, 0 to 1")
    slow: float = option(0.001, "share of slow GETs, 0 to 1")
    slow_seconds: float = option(3.0, "how long a slow one takes")
    timeout_seconds: float = option(30.0, "a request fails when it is not answered so long after it was due")
    host_header: str = option("", "Host of the requests, and the name asked for by https; by default the URL's")
    ca: str = option("", "PEM file of the CA that https trusts; by default what the system trusts")
    first_number: int = option(0, "number of the first request")
    seed: int = option(0, "of the generator that chooses POSTs and slow ones")

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in PORTS or not urlsplit(self.url).hostname:
            raise ValueError(f"the URL {self.url!r} is not like http://host:port or https://host:port")
        if not 1 <= self.connections <= MAX_CONNECTIONS:
            raise ValueError(f"connections is {self.connections}; it must be 1 to {MAX_CONNECTIONS}")
        if min(self.post, self.slow) < 0 or self.post + self.slow > 1:
            raise ValueError(f"post {self.post} and slow {self.slow} must be shares of one whole")
        if self.slow and self.slow_seconds >= self.timeout_seconds:
            raise ValueError(f"slow_seconds {self.slow_seconds} must be less than timeout_seconds")

    @property
    def at_once(self) -> int:
        """How many requests may be under way."""
        return self.connections


@dataclass(frozen=True)
class Result:
    """What became of a request; ``due`` counts in seconds from the start, ``latency`` in seconds from ``due``."""

    number: int
    kind: str  # get, post or slow
    due: float
    latency: float
    late: float  # seconds after ``due`` at which the client itself took it up
    status: int  # 0 without an answer
    release: str  # of the answer, empty without one
    repeated: bool  # asked again after a reused connection was closed
    reason: str  # why it failed, empty if it did not
    resent: bool = False  # sent again because the server said that it had not processed it: HTTP/2 alone can say so
    connection: int = 0  # the one that carried it last, counted from 1; 0 for none

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return bool(self.reason)


@dataclass
class Request:
    """A request that is under way."""

    number: int
    kind: str
    due: float
    late: float
    repeated: bool = False
    resent: bool = False
    connection: int = 0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    keep: bool  # whether the connection may be used again


def planned(options: Options) -> Iterator[tuple[int, str]]:
    """Number and kind of each request, without end: the same ones for the same options."""
    generator = random.Random(options.seed)
    for number in itertools.count(options.first_number):
        draw = generator.random()
        yield number, "slow" if draw < options.slow else "post" if draw < options.slow + options.post else "get"


def body(number: int) -> bytes:
    """The 100 to 2000 bytes that a POST of this number sends."""
    digest = hashlib.sha256(str(number).encode()).digest()
    return (digest * 63)[: 100 + int.from_bytes(digest[:4]) % 1901]


def parse(data: bytes, ended: bool = False) -> Answer | None:
    """Read an answer, ``None`` as long as it is not complete; ``ended`` says that the server sends no more.

    Raises ValueError for what is not HTTP, or more than one answer.
    """
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdigit():
        raise ValueError(f"not an answer in HTTP/1: {first[:60]!r}")
    if status.startswith("1"):
        return parse(rest, ended)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    tokens = headers.get("connection", "").lower()
    keep = "close" not in tokens and (version == "HTTP/1.1" or "keep-alive" in tokens)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        content, surplus = dechunk(rest)
    elif "content-length" in headers:
        size = int(headers["content-length"])
        content, surplus = (rest[:size], rest[size:]) if len(rest) >= size else (None, b"")
    else:
        content, surplus, keep = rest if ended else None, b"", False
    if surplus:
        raise ValueError("more bytes than one answer has")
    return None if content is None else Answer(int(status[:3]), headers, content, keep)


def dechunk(data: bytes) -> tuple[bytes | None, bytes]:
    """Join a chunked body; returns it, ``None`` if it is not complete, and the bytes behind it."""
    content = b""
    while True:
        line, found, rest = data.partition(b"\r\n")
        if not found:
            return None, b""
        size = int(line.partition(b";")[0], 16)
        if len(rest) < size + 2:
            return None, b""
        if rest[size : size + 2] != b"\r\n":
            raise ValueError("a chunk does not end where it should")
        content, data = content + rest[:size], rest[size + 2 :]
        if not size:
            return content, data


def judge(request: Request, answer: Answer) -> tuple[str, str]:
    """Compare an answer with what it should be; returns its release, and what is wrong in words or nothing."""
    release = answer.headers.get("x-release", "")
    if answer.status != 200:
        return release, f"status {answer.status}"
    try:
        told = json.loads(answer.body)
        release = told["release"] or release
        if told["number"] != request.number:
            return release, f"wrong body: it answers number {told['number']}"
        if request.kind == "post" and told["sha256"] != hashlib.sha256(body(request.number)).hexdigest():
            return release, "wrong body: the sha256 of what was sent is another"
    except (ValueError, KeyError, TypeError):
        return release, f"wrong body: {answer.body[:60]!r}"
    return release, ""


def loss(request: Request, new: bool, begun: bool) -> str:
    """Why a request fails whose connection was closed; empty if it is repeated.

    ``new`` says that the connection has not answered before, ``begun`` that a part of this answer came.
    """
    if begun:
        return "connection closed in the middle of the answer"
    if new:
        return "new connection closed before an answer"
    return "reused connection closed before an answer; a POST is not repeated" if request.kind == "post" else ""


class Connection(asyncio.Protocol):
    """A connection of the pool; it carries one request at a time, the first one as soon as it is open."""

    def __init__(self, run: Run, request: Request) -> None:
        self.run = run
        self.number = run.opened = run.opened + 1
        self.request: Request | None = request
        self.sent = 0  # requests
        self.data = b""
        self.transport: asyncio.Transport | None = None
        self.task = run.loop.create_task(self.open())

    async def open(self) -> None:
        """Connect within the time that the request has."""
        client = socket.socket(self.run.family, socket.SOCK_STREAM)
        client.setblocking(False)
        try:
            async with asyncio.timeout_at(self.run.started + self.request.due + self.run.options.timeout_seconds):
                await self.run.loop.sock_connect(client, self.run.address)
                await self.run.loop.create_connection(lambda: self, sock=client, **self.run.tls)
        except OSError as error:
            client.close()
            self.fail(f"no connection: {error.strerror or 'not in time'}")
            self.run.forget(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = transport
        self.send(self.request)

    def send(self, request: Request) -> None:
        """Send a request; the one before it has been answered."""
        self.request, self.data, self.sent = request, b"", self.sent + 1
        request.connection = self.number
        self.transport.write(self.run.encoded(request))

    def data_received(self, data: bytes) -> None:
        """Finish the request if this completes its answer."""
        if not self.request:
            self.transport.abort()  # no request is open: the server says why it closes
            return
        self.data += data
        try:
            answer = parse(self.data)
        except ValueError as error:
            self.fail(str(error))
            return
        if answer:
            self.take(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Find out what that means for the request."""
        if self.request:
            self.lose(ended=not error)
        self.run.forget(self)

    def lose(self, ended: bool) -> None:
        """Finish or repeat the request whose connection is lost; ``ended`` if the server has closed it in order."""
        answer = parse(self.data, ended) if self.data else None
        if answer:
            self.take(answer)
        elif reason := loss(self.request, new=self.sent == 1, begun=bool(self.data)):
            self.fail(reason)
        else:
            request, self.request = self.request, None
            request.repeated = True
            self.run.send_on_new(request)

    def take(self, answer: Answer) -> None:
        """Finish the request with its answer."""
        request, self.request = self.request, None
        if answer.keep and not self.transport.is_closing():
            self.run.put_back(self)
        else:
            self.transport.close()
        self.run.finish(request, answer.status, *judge(request, answer))

    def fail(self, reason: str) -> None:
        """Finish the request without an answer."""
        request, self.request = self.request, None
        if self.transport:
            self.transport.abort()
        self.run.finish(request, 0, "", reason)

    def give_up(self, overdue: float, reason: str) -> None:
        """Finish the request if it was due before ``overdue``."""
        if self.sent and self.request and self.request.due < overdue:
            self.fail(reason)


class Run:
    """A load under way: the requests that become due, the pool of connections, and the results."""

    connection_class = Connection

    def __init__(self, options: Options, family: int, address: Any, record: Callable[[Result], object]) -> None:
        self.options = options
        self.family = family
        self.address = address
        self.record = record
        self.loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = self.loop.create_future()
        self.ending = False
        self.plan = planned(options)
        self.count = 0  # requests that have become due
        self.outstanding = 0
        self.opened = 0  # connections
        self.pool: set[Connection] = set()
        self.idle: deque[Connection] = deque()
        self.waiting: deque[Request] = deque()
        url = urlsplit(options.url)
        self.scheme, self.path = url.scheme, url.path.rstrip("/")
        self.host = options.host_header or url.netloc
        self.tls: dict[str, Any] = {}
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=options.ca or None)
            self.tls = {"ssl": context, "server_hostname": urlsplit(f"//{self.host}").hostname}
        self.started = self.loop.time()

    def begin(self) -> None:
        """Start the clock."""
        self.started = self.loop.time()
        self.loop.call_later(SWEEP_SECONDS, self.sweep)
        if self.options.rate:
            self.tick()
            return
        if self.options.seconds < math.inf:
            self.loop.call_at(self.started + self.options.seconds, self.end)
        for _ in range(self.options.at_once):
            self.issue(self.now())

    def end(self) -> None:
        """Let no more requests become due; those that have are finished."""
        self.ending = True
        self.settle()

    def settle(self) -> None:
        """Set the result of the run if it is over."""
        if self.ending and not self.outstanding and not self.finished.done():
            self.finished.set_result(None)

    def fall(self, error: Exception) -> None:
        """End at once with an exception of the client itself: results would be lost silently."""
        if not self.finished.done():
            self.finished.set_exception(error)

    def now(self) -> float:
        """Seconds since the start."""
        return self.loop.time() - self.started

    def tick(self) -> None:
        """Issue what has become due in open loop."""
        due = self.count / self.options.rate
        while due <= self.now() and not self.ending:
            if due < self.options.seconds:
                self.issue(due)
            else:
                self.end()
            due = self.count / self.options.rate
        if not self.ending:
            self.loop.call_at(self.started + due, self.tick)

    def issue(self, due: float) -> None:
        """Send the next request, or let it wait for a connection."""
        if self.ending:
            return
        number, kind = next(self.plan)
        self.count += 1
        self.outstanding += 1
        self.assign(Request(number, kind, due, self.now() - due))

    def assign(self, request: Request) -> None:
        """Give a request to the connection that has been idle the longest, or to a new one within the bound.

        Connections that were closed while they were idle are dropped here.
        """
        while self.idle:
            connection = self.idle.popleft()
            if not connection.transport.is_closing():
                connection.send(request)
                return
        if len(self.pool) < self.options.connections:
            self.send_on_new(request)
        else:
            self.waiting.append(request)

    def send_on_new(self, request: Request) -> None:
        """Open a connection for a request."""
        self.pool.add(self.connection_class(self, request))

    def put_back(self, connection: Connection) -> None:
        """Put a connection back into the pool."""
        self.idle.append(connection)
        self.serve_waiting()

    def forget(self, connection: Connection) -> None:
        """Remove a lost connection from the pool."""
        self.pool.discard(connection)
        self.serve_waiting()

    def serve_waiting(self) -> None:
        """Send the request that has waited the longest, now that there is a place for it."""
        if self.waiting:
            self.assign(self.waiting.popleft())

    def sweep(self) -> None:
        """Give up the requests whose time is over; one that connects has a time of its own."""
        overdue = self.now() - self.options.timeout_seconds
        reason = f"no complete answer in {self.options.timeout_seconds:g} s"
        while self.waiting and self.waiting[0].due < overdue:
            self.finish(self.waiting.popleft(), 0, "", f"{reason}: no connection was free")
        for connection in list(self.pool):
            connection.give_up(overdue, reason)
        self.loop.call_later(SWEEP_SECONDS, self.sweep)

    def finish(self, request: Request, status: int, release: str, reason: str) -> None:
        """Record what became of a request; in closed loop the next one is due."""
        self.outstanding -= 1
        result = Result(
            number=request.number,
            kind=request.kind,
            due=round(request.due, 6),
            latency=round(self.now() - request.due, 6),
            late=round(request.late, 6),
            status=status,
            release=release,
            repeated=request.repeated,
            reason=reason,
            resent=request.resent,
            connection=request.connection,
        )
        try:
            self.record(result)
        except OSError as error:  # asyncio would take it for one of the connection
            self.fall(error)
        if not self.options.rate:
            self.loop.call_later(PAUSE_SECONDS if reason else 0, lambda: self.issue(self.now()))
        self.settle()

    def target(self, request: Request) -> str:
        """Path and query of a request."""
        query = f"?seconds={self.options.slow_seconds:g}" if request.kind == "slow" else ""
        return f"{self.path}/work/{request.number}{query}"

    def encoded(self, request: Request) -> bytes:
        """A request as it is sent."""
        head = f"{self.target(request)} HTTP/1.1\r\nHost: {self.host}\r\n"
        if request.kind == "post":
            content = body(request.number)
            more = f"Content-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n\r\n"
            return f"POST {head}{more}".encode() + content
        return f"GET {head}\r\n".encode()


async def run(
    options: Options,
    record: Callable[[Result], object],
    stop: asyncio.Event | None = None,
    begun: Callable[[float], object] = lambda started: None,
    run_class: type[Run] = Run,
) -> None:
    """Run a load for ``options.seconds`` or until ``stop`` is set, and finish each request that was due by then.

    ``record`` gets the results as they come, ``begun`` the ``time.monotonic()`` of the start. It ends at the latest
    ``options.timeout_seconds`` after the last request was due. Raises OSError for a host without an address.
    """
    loop = asyncio.get_running_loop()
    url = urlsplit(options.url)
    infos = await loop.getaddrinfo(url.hostname, url.port or PORTS[url.scheme], type=socket.SOCK_STREAM)
    load = run_class(options, infos[0][0], infos[0][4], record)
    loop.set_exception_handler(
        lambda loop, context: load.fall(context.get("exception") or RuntimeError(context["message"]))
    )
    stopping = loop.create_task((stop or asyncio.Event()).wait())
    stopping.add_done_callback(lambda task: load.end())
    load.begin()
    begun(load.started)
    try:
        await load.finished
    finally:
        stopping.cancel()
        for connection in load.pool:
            if connection.transport:
                connection.transport.abort()


def runner() -> asyncio.Runner:
    """A runner on select(2), which waits in microseconds; epoll waits in whole milliseconds, too long for a tick."""
    return asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector()))


def run_load(options: Options, run_class: type[Run] = Run) -> list[Result]:
    """Run a load in this thread for ``options.seconds``; returns the results in the order in which they came."""
    results: list[Result] = []
    with runner() as loop:
        loop.run(run(options, results.append, run_class=run_class))
    return results


def percentile(results: Iterable[Result], share: float, kind: str | None = None) -> float:
    """The latency in seconds that this share (0 to 1) of the requests of a kind did not exceed; NaN without any.

    Failed ones do not count. Without a kind the slow ones don't either.
    """
    kinds = {kind} if kind else {"get", "post"}
    latencies = sorted(result.latency for result in results if result.kind in kinds and not result.failed)
    return latencies[max(0, math.ceil(share * len(latencies)) - 1)] if latencies else math.nan


def connections(results: Iterable[Result]) -> int:
    """How many connections have carried a request to its end."""
    return len({result.connection for result in results} - {0})


def milliseconds(seconds: float) -> str:
    """A time as the report shows it."""
    return f"{seconds * 1000:.1f} ms"


def report(results: list[Result]) -> str:
    """The results in a few lines."""
    if not results:
        return "no requests"
    kinds = Counter(result.kind for result in results)
    failed = sorted((result for result in results if result.failed), key=lambda result: result.due)
    releases = Counter(result.release for result in results if result.release)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    latencies = ", ".join(f"{name} {milliseconds(percentile(results, share))}" for name, share in shares.items())
    lines = [
        f"{len(results)} requests in {max(result.due + result.latency for result in results):.1f} s: "
        + ", ".join(f"{kinds[kind]} {kind}" for kind in ("get", "post", "slow")),
        f"{len(failed)} failed",
        *(f"    number {one.number} ({one.kind}), due at {one.due:.3f} s: {one.reason}" for one in failed[:10]),
        f"{sum(result.repeated for result in results)} repeated after a reused connection was closed",
        f"{sum(result.resent for result in results)} sent again that the server had not processed",
        f"{connections(results)} connections",
        f"latency without the slow ones: {latencies}",
        f"the client itself was late by {milliseconds(max(result.late for result in results))} at most",
        "releases: " + (", ".join(f"{name} {count}" for name, count in releases.items()) or "none"),
    ]
    return "\n".join(lines)


def duplicates(log_text: str) -> dict[int, int]:
    """The numbers that the app's own record (lines of ``<number> <method>``) has more than once, and how often."""
    counts = Counter(int(line.split()[0]) for line in log_text.splitlines())
    return {number: count for number, count in sorted(counts.items()) if count > 1}


def missing(results: Iterable[Result], log_text: str) -> list[int]:
    """The numbers that were answered with 200 and are not in the app's own record."""
    recorded = {int(line.split()[0]) for line in log_text.splitlines()}
    return sorted(result.number for result in results if result.status == 200 and result.number not in recorded)


class Record:
    """A file of JSON lines: the start and the options first, then a line for each result."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read = 0  # bytes
        self.head: dict[str, Any] = {}
        self.results: list[Result] = []

    def update(self) -> None:
        """Read the lines that are new and complete."""
        with self.path.open("rb") as file:
            file.seek(self.read)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self.read += len(line)
            if self.head:
                self.results.append(Result(**json.loads(line)))
            else:
                self.head = json.loads(line)


class Load:
    """A load in a process of its own while a ``with`` block runs; results can be had during it and after it.

    Leaving the block waits for the requests that are outstanding. Raises RuntimeError if the process breaks.
    """

    program = __file__

    def __init__(self, options: Options, record: Path | None = None) -> None:
        self.options = options
        self.folder = tempfile.TemporaryDirectory(prefix="load-")
        self.record = Record(record or Path(self.folder.name) / "record.jsonl")

    def __enter__(self) -> Self:
        self.record.path.write_bytes(b"")
        values = asdict(self.options)
        command = [sys.executable, self.program, values.pop("url"), f"--record={self.record.path}", "--until-eof"]
        command += [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)
        while not self.record.head:
            if self.process.poll() is not None:
                raise RuntimeError(f"the load could not begin, exit code {self.process.returncode}")
            time.sleep(0.01)
            self.record.update()
        return self

    def __exit__(self, *exception: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            code = self.process.wait(self.options.timeout_seconds + 10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.record.update()
        self.folder.cleanup()
        if code:
            raise RuntimeError(f"the load broke, exit code {code}")

    @property
    def started(self) -> float:
        """The ``time.monotonic()`` from which ``due`` counts."""
        return self.record.head["started"]

    @property
    def results(self) -> list[Result]:
        """The results so far, in the order in which they came."""
        if self.process.returncode is None:
            self.record.update()
        return self.record.results

    @property
    def failed(self) -> list[Result]:
        """Those that failed."""
        return [result for result in self.results if result.failed]

    @property
    def repeated(self) -> list[Result]:
        """Those that were asked again after a reused connection was closed."""
        return [result for result in self.results if result.repeated]

    def percentile(self, share: float, kind: str | None = None) -> float:
        """The latency in seconds that this share of them did not exceed; see the function of that name."""
        return percentile(self.results, share, kind)

    def report(self) -> str:
        """The results in a few lines."""
        return report(self.results)


async def write(options: Options, path: Path, until_eof: bool, run_class: type[Run]) -> None:
    """Run a load and write its record, until a signal comes or, if told so, standard input ends."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def end() -> None:
        if not sys.stdin.buffer.read1():
            loop.remove_reader(sys.stdin)
            stop.set()

    if until_eof:
        loop.add_reader(sys.stdin, end)
    with path.open("w", buffering=1) as file:

        def begun(started: float) -> None:
            file.write(json.dumps({"started": started, "options": asdict(options)}) + "\n")

        await run(options, lambda result: file.write(json.dumps(vars(result)) + "\n"), stop, begun, run_class)


def main(options_class: type[Options] = Options, run_class: type[Run] = Run, text: str = __doc__) -> int:
    """Run a load as the command line says; the exit code is 1 if a request failed."""
    parser = argparse.ArgumentParser(description=text.partition("\n")[0])
    parser.add_argument("url", help="where the app is, http://host:port or https://host:port")
    for one in fields(options_class)[1:]:
        kind, text = type(one.default), f"{one.metadata['help']} (%(default)s)"
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=kind, default=one.default, help=text)
    parser.add_argument("--record", type=Path, help="a file for the results, a JSON line for each")
    parser.add_argument("--until-eof", action="store_true", help="for a parent process: stop when standard input ends")
    values = vars(parser.parse_args())
    path, until_eof = values.pop("record"), values.pop("until_eof")
    try:
        options = options_class(**values)
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="load-") as folder, runner() as loop:
        record = Record(path or Path(folder) / "record.jsonl")
        loop.run(write(options, record.path, until_eof, run_class))
        if until_eof:
            return 0
        record.update()
    print(report(record.results))
    return 1 if any(result.failed for result in record.results) else 0


if __name__ == "__main__":
    sys.exit(main())
