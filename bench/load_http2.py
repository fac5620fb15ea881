#!/usr/bin/env python3
"""The load of load.py over HTTP/2: few connections, each with many requests at a time, as browsers ask.

A server that ends a connection in order names in its GOAWAY the last request that it processes (RFC 9113 6.8). Those up
to it are awaited. Later ones are sent again on another connection, also POSTs, as are those refused by REFUSED_STREAM
(8.7): the server guarantees that it has not processed them.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar

import load
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from load import Answer, Request, body, judge, loss, option

FRAME_HEADER = 9  # bytes; the first three are the length of what follows, the fourth is the type
GOAWAY = 7


@dataclass(frozen=True)
class Options(load.Options):
    """The options of load.py, and how many requests a connection carries."""

    connections: int = option(2, "bound of the pool; one that the server ends no longer counts")
    streams: int = option(100, "requests at a time on a connection, if the server allows so many")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.streams < 1:
            raise ValueError(f"streams is {self.streams}; it must be 1 or more")

    @property
    def at_once(self) -> int:
        """How many requests may be under way."""
        return self.connections * self.streams


@dataclass
class Stream:
    """A request that was sent, and what has come of its answer."""

    request: Request
    unsent: bytes  # of the request's body
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Connection(load.Connection):
    """A connection of the pool; ``request`` is the first one until it is open."""

    run: Run

    def __init__(self, run: Run, request: Request) -> None:
        super().__init__(run, request)
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.streams: dict[int, Stream] = {}
        self.answered = 0
        self.ready = False  # the server has said how many requests it takes
        self.leaving = False  # the server takes no more requests

    @property
    def free(self) -> int:
        """How many more requests it takes."""
        if not self.ready or self.leaving or self.transport.is_closing():
            return 0
        return min(self.run.options.streams, self.http.remote_settings.max_concurrent_streams) - len(self.streams)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        secure = transport.get_extra_info("ssl_object")
        self.transport = transport
        if secure and secure.selected_alpn_protocol() != "h2":
            self.fail("the server does not speak HTTP/2")
            return
        self.http.initiate_connection()
        self.send(self.request)

    def send(self, request: Request) -> None:
        """Send a request as a new stream."""
        self.request, self.sent, request.connection = None, self.sent + 1, self.number
        number = self.http.get_next_available_stream_id()
        stream = self.streams[number] = Stream(request, body(request.number) if request.kind == "post" else b"")
        self.http.send_headers(number, self.run.headers(request, len(stream.unsent)), end_stream=not stream.unsent)
        self.flush()

    def flush(self) -> None:
        """Send what there is to send, of bodies as much as the server takes now."""
        for number, stream in self.streams.items():
            size = min(len(stream.unsent), self.http.local_flow_control_window(number))
            if size > 0:
                part, stream.unsent = stream.unsent[:size], stream.unsent[size:]
                self.http.send_data(number, part, end_stream=not stream.unsent)
        if data := self.http.data_to_send():
            self.transport.write(data)

    def serve_waiting(self) -> None:
        """Take requests that have waited for a place; a connection without any that takes no more is closed."""
        while self.run.waiting and self.free > 0:
            self.run.serve_waiting()
        if self.leaving and not self.streams:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Handle the frames that are complete.

        h2 is not shown a GOAWAY: after one it refuses the answers that are still to come.
        """
        self.data += data
        try:
            while len(self.data) >= (end := FRAME_HEADER + int.from_bytes(self.data[:3])):
                frame, self.data = self.data[:end], self.data[end:]
                if frame[3] == GOAWAY:
                    self.leave(last=int.from_bytes(frame[FRAME_HEADER : FRAME_HEADER + 4]) & 0x7FFFFFFF)
                    continue
                self.ready = True  # the first frame is SETTINGS
                for event in self.http.receive_data(frame):
                    self.handle(event)
        except ProtocolError as error:
            self.fail(f"not an answer in HTTP/2: {error}")
            return
        self.flush()
        self.serve_waiting()

    def handle(self, event: Event) -> None:
        """Handle what has happened to a stream; one that was given up is not known any more."""
        if isinstance(event, DataReceived):
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self.streams.get(getattr(event, "stream_id", 0))
        if not stream:
            return
        if isinstance(event, ResponseReceived):
            stream.headers = dict(event.headers)
        elif isinstance(event, DataReceived):
            stream.body += event.data
        elif isinstance(event, StreamEnded):
            del self.streams[event.stream_id]
            self.answered += 1
            answer = Answer(int(stream.headers[":status"]), stream.headers, stream.body, keep=True)
            self.run.finish(stream.request, answer.status, *judge(stream.request, answer))
        elif isinstance(event, StreamReset):
            del self.streams[event.stream_id]
            if event.error_code == ErrorCodes.REFUSED_STREAM:
                self.run.send_again(stream.request)
            else:
                self.run.finish(stream.request, 0, "", f"stream reset with error {int(event.error_code)}")

    def leave(self, last: int) -> None:
        """Send no more requests here, and those after the last one that the server processes elsewhere."""
        self.leaving = True
        for number in [number for number in self.streams if number > last]:
            self.run.send_again(self.streams.pop(number).request)
        self.run.serve_waiting()

    def connection_lost(self, error: Exception | None) -> None:
        """Finish or repeat the requests that were not answered."""
        self.leaving = True
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            if stream.request.repeated:
                reason = "connection closed before an answer, for the second time"
            else:
                reason = loss(stream.request, new=not self.answered, begun=bool(stream.headers))
            if reason:
                self.run.finish(stream.request, 0, "", reason)
            else:
                stream.request.repeated = True
                self.run.assign(stream.request)
        self.run.forget(self)

    def fail(self, reason: str) -> None:
        """Finish all requests without an answer."""
        self.leaving = True
        requests = [stream.request for stream in self.streams.values()] + ([self.request] if self.request else [])
        self.request, self.streams = None, {}
        if self.transport:
            self.transport.abort()
        for request in requests:
            self.run.finish(request, 0, "", reason)

    def give_up(self, overdue: float, reason: str) -> None:
        """Finish the requests that were due before ``overdue``."""
        late = [number for number, stream in self.streams.items() if stream.request.due < overdue]
        for number in late:
            self.http.reset_stream(number, ErrorCodes.CANCEL)
            self.run.finish(self.streams.pop(number).request, 0, "", reason)
        if late:
            self.flush()
            self.serve_waiting()


class Run(load.Run):
    """A load under way over HTTP/2."""

    connection_class: ClassVar[type[load.Connection]] = Connection
    options: Options
    pool: set[Connection]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self.tls:
            self.tls["ssl"].set_alpn_protocols(["h2"])

    def assign(self, request: Request) -> None:
        """Give a request to the connection with the most places, or to a new one within the bound."""
        best = max(self.pool, key=lambda one: one.free, default=None)
        if best and best.free > 0:
            best.send(request)
        elif sum(not one.leaving for one in self.pool) < self.options.connections:
            self.send_on_new(request)
        else:
            self.waiting.append(request)

    def send_again(self, request: Request) -> None:
        """Send a request on another connection that the server has not processed."""
        request.resent = True
        self.assign(request)

    def headers(self, request: Request, size: int) -> list[tuple[str, str]]:
        """The header of a request whose body has so many bytes."""
        more = {"content-type": "application/octet-stream", "content-length": str(size)} if size else {}
        return [
            (":method", "POST" if size else "GET"),
            (":scheme", self.scheme),
            (":authority", self.host),
            (":path", self.target(request)),
            *more.items(),
        ]


class Load(load.Load):
    """A load over HTTP/2 in a process of its own; see load.Load."""

    program = __file__


if __name__ == "__main__":
    sys.exit(load.main(Options, Run, __doc__))
