"""An HTTP/2 server in threads that ends connections and streams as a test asks."""

from __future__ import annotations

import itertools
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame, RstStreamFrame
from scripted import Request, content

UP_TO_ALL = 2**31 - 1  # a last stream that is later than any
Behave = Callable[["Handler", int, Request], None]


def fine(handler: Handler, stream: int, request: Request) -> None:
    """The answer of a correct server."""
    handler.answer(stream, content(request))


class Handler(socketserver.BaseRequestHandler):
    """One connection; ``held`` has what a test has not yet answered."""

    def handle(self) -> None:
        self.connection, self.last = next(self.server.connections), UP_TO_ALL
        self.held: list[tuple[int, Request]] = []
        self.turns = itertools.count()
        self.http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.http.local_settings = Settings(client=False, initial_values=self.server.settings)
        self.http.initiate_connection()
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.flush()
        with suppress(OSError):
            while data := self.request.recv(65536):
                for event in self.http.receive_data(data):
                    self.take(event)
                self.flush()
        self.server.closed.release()

    def take(self, event: object) -> None:
        """Collect a request, and let the test decide about it once it is complete."""
        if isinstance(event, RequestReceived):
            self.headers[event.stream_id], self.bodies[event.stream_id] = dict(event.headers), b""
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded) and event.stream_id <= self.last:
            headers, body = self.headers[event.stream_id], self.bodies[event.stream_id]
            path, _, query = headers[":path"].partition("?")
            kind = "post" if headers[":method"] == "POST" else "slow" if query else "get"
            number = int(path.rpartition("/")[2])
            request = Request(number, kind, headers[":authority"], body, self.connection, next(self.turns))
            self.server.requests.append(request)
            self.server.behave(self, event.stream_id, request)

    def answer(self, stream: int, body: bytes, status: int = 200) -> None:
        """Answer a request."""
        self.http.send_headers(stream, [(":status", str(status)), ("content-length", str(len(body)))])
        self.http.send_data(stream, body, end_stream=True)

    def flush(self) -> None:
        """Send what is to be sent."""
        self.request.sendall(self.http.data_to_send())

    def go_away(self, last: int) -> None:
        """Say which request is the last one that is processed. h2 would send nothing after it."""
        self.last = last
        self.flush()
        self.request.sendall(GoAwayFrame(0, last_stream_id=last).serialize())

    def reset(self, stream: int, error: int) -> None:
        """Reset a stream."""
        self.flush()
        self.request.sendall(RstStreamFrame(stream, error).serialize())

    def close(self) -> None:
        """Close the connection after what is to be sent."""
        self.flush()
        self.request.close()


class Server(socketserver.ThreadingTCPServer):
    """A server whose answers ``behave`` decides; ``requests`` has what it was asked, in order."""

    daemon_threads = True
    request_queue_size = 128
    connections: Iterator[int]
    requests: list[Request]
    behave: Behave
    settings: dict[SettingCodes, int]
    closed: threading.Semaphore  # counts the connections that have ended

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(
    behave: Behave = fine, context: ssl.SSLContext | None = None, settings: dict[SettingCodes, int] | None = None
) -> Iterator[Server]:
    """Serve in threads."""
    server = Server(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.connections, server.requests, server.behave = itertools.count(), [], behave
    server.settings, server.closed = settings or {}, threading.Semaphore(0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
