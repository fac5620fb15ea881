"""An HTTP server in threads that misbehaves as a test asks."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LINE = re.compile(r"(GET|POST) /work/(\d+)(\?seconds=\S+)? HTTP/1.1")


@dataclass(frozen=True)
class Request:
    """A request as the server has seen it."""

    number: int
    kind: str  # get, post or slow
    host: str
    body: bytes
    connection: int  # counts connections
    turn: int  # counts the requests of a connection


@dataclass(frozen=True)
class Reply:
    """Bytes to send, and what happens to the connection then: keep, close, reset, or warn (an unsolicited 408)."""

    data: bytes = b""
    then: str = "keep"


def answer(status: int, content: bytes, headers: str = "") -> bytes:
    """An answer with its length."""
    return f"HTTP/1.1 {status} Word\r\n{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content


def content(request: Request, **other: Any) -> bytes:
    """The JSON that the app `counter` answers, or something other."""
    told: dict[str, Any] = {"number": request.number, "release": "r1", "pid": 1}
    if request.kind == "post":
        told["sha256"] = hashlib.sha256(request.body).hexdigest()
    return json.dumps(told | other).encode()


def fine(request: Request) -> Reply:
    """The answer of a correct server."""
    return Reply(answer(200, content(request)))


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        connection = next(self.server.connections)
        for turn in itertools.count():
            request = self.read(connection, turn)
            if not request:
                return
            self.server.requests.append(request)
            reply = self.server.behave(request)
            self.wfile.write(reply.data)
            if reply.then == "warn":
                time.sleep(0.1)  # the answer before it has arrived
                self.wfile.write(answer(408, b""))
            if reply.then == "reset":
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.request.close()
            if reply.then in ("close", "reset"):
                return

    def read(self, connection: int, turn: int) -> Request | None:
        """Read a request, and be strict about it."""
        try:
            line = self.rfile.readline().decode()
        except ConnectionError:
            return None
        if not line:
            return None
        match = LINE.fullmatch(line.strip())
        assert match, line
        headers = dict(text.split(": ") for text in iter(lambda: self.rfile.readline().decode().strip(), ""))
        kind = "post" if match[1] == "POST" else "slow" if match[3] else "get"
        body = self.rfile.read(int(headers.get("Content-Length", 0)))
        return Request(int(match[2]), kind, headers["Host"], body, connection, turn)


class Server(socketserver.ThreadingTCPServer):
    """A server whose answers ``behave`` decides; ``requests`` has what it was asked, in order."""

    daemon_threads = True
    request_queue_size = 128
    connections: Iterator[int]
    requests: list[Request]
    behave: Callable[[Request], Reply]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(behave: Callable[[Request], Reply] = fine) -> Iterator[Server]:
    """Serve in threads."""
    server = Server(("127.0.0.1", 0), Handler)
    server.connections, server.requests, server.behave = itertools.count(), [], behave
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
