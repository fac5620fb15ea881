"""Small servers in threads with the answers of a test."""

from __future__ import annotations

import json
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nfine"
Answer = Callable[[dict[str, str]], bytes]


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A server on a unix socket; ``closing`` is set when a handler must let go."""

    daemon_threads = True
    closing: threading.Event


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[Any]:
    """Serve in a thread."""
    server.closing = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def decode(stream: Any) -> dict[str, str]:
    """Read one packet of the uwsgi protocol as uWSGI does, and be strict about each length."""
    modifier1, size, modifier2 = struct.unpack("<BHB", stream.read(4))
    assert (modifier1, modifier2) == (0, 0)
    packet = stream.read(size)
    assert len(packet) == size
    items = []
    while packet:
        (length,) = struct.unpack_from("<H", packet)
        assert len(packet) >= 2 + length
        items.append(packet[2 : 2 + length].decode())
        packet = packet[2 + length :]
    return dict(zip(items[::2], items[1::2], strict=True))


def uwsgi_server(path: Path, answer: bytes | Answer | None = OK) -> Any:
    """Make an app behind the uwsgi protocol; ``None`` as an answer is none at all, until the test ends."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.server.requests.append(decode(self.rfile))
            if answer is None:
                self.server.closing.wait()
            else:
                self.wfile.write(answer if isinstance(answer, bytes) else answer(self.server.requests[-1]))

    server = UnixServer(str(path), Handler)
    server.requests = []
    return serving(server)


def stats_server(path: Path, stats: Callable[[], Any]) -> Any:
    """A stats server like uWSGI's: it sends the stats to each client."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(json.dumps(stats()).encode())

    return serving(UnixServer(str(path), Handler))


def xmlrpc_server(path: Path, methods: dict[str, Callable[..., Any]]) -> Any:
    """Make an XML-RPC server on a unix socket, as Supervisor is."""

    class Handler(SimpleXMLRPCRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = False
        rpc_paths = ()

    class Server(UnixServer, SimpleXMLRPCDispatcher):
        logRequests = False

    server = Server(str(path), Handler)
    SimpleXMLRPCDispatcher.__init__(server)
    server.funcs = methods
    return serving(server)
