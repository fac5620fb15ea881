"""What HTTP/2 could carry into HTTP/1 and uWSGI: requests in requests, headers in headers, names in names."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import PROJECT
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from testinfra.host import Host

testinfra_hosts = ["ansible://app_servers"]
HELLO, PLAIN = "hello.example.lan", "plain.example.lan"
CA = str(PROJECT / ".cache/https/ca.pem")
# Whatever comes of it, this must not be a request of its own.
SMUGGLED = f"GET /smuggled HTTP/1.1\r\nHost: {HELLO}\r\n\r\n"


class Client:
    """An HTTP/2 client that sends whatever it is told."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.socket = connection
        self.http = H2Connection(
            H2Configuration(
                validate_outbound_headers=False, normalize_outbound_headers=False, validate_inbound_headers=False
            )
        )
        self.http.initiate_connection()
        self._send()

    def _send(self) -> None:
        self.socket.sendall(self.http.data_to_send())

    def ask(self, headers: list[tuple[str, str]], body: bytes = b"") -> tuple[str, bytes]:
        """The status and the body of the answer; the status of a stream or a connection that was ended is ``ended``."""
        stream, told, text = self.http.get_next_available_stream_id(), "ended", b""
        self.http.send_headers(stream, headers, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self._send()
        while part := self.socket.recv(65536):
            try:
                events = self.http.receive_data(part)
            except ProtocolError:
                break
            for event in events:
                if isinstance(event, ResponseReceived):
                    told = dict(event.headers)[b":status"].decode()
                elif isinstance(event, DataReceived):
                    text += event.data
                    self.http.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, (ConnectionTerminated, StreamEnded, StreamReset)):
                    return told, text
            self._send()
        return told, text


@contextmanager
def client(address: str) -> Iterator[Client]:
    """A connection to a host by HTTP/2."""
    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((address, 443), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=HELLO) as secure,
    ):
        yield Client(secure)


def request(path: str = "/echo", method: str = "POST", **more: str) -> list[tuple[str, str]]:
    """The headers of a sound request."""
    pseudo = {":method": method, ":scheme": "https", ":authority": HELLO, ":path": path}
    return [*pseudo.items(), *more.items()]


def without(name: str) -> list[tuple[str, str]]:
    """The headers of a request that lacks one."""
    return [header for header in request() if header[0] != name]


LINES: dict[str, tuple[list[tuple[str, str]], bytes]] = {
    "chunks, which HTTP/2 does not have": (
        [*request(), ("transfer-encoding", "chunked")],
        f"0\r\n\r\n{SMUGGLED}".encode(),
    ),
    "a length of nothing": ([*request(), ("content-length", "0")], SMUGGLED.encode()),
    "a length that is too large": ([*request(), ("content-length", "4096")], b"x"),
    "two lengths": ([*request(), ("content-length", "1"), ("content-length", "90")], b"x"),
    "a length that is none": ([*request(), ("content-length", "+1")], b"x"),
    "a request in a value": ([*request(), ("x-a", f"b\r\n\r\n{SMUGGLED}")], b""),
    "a header in a value": ([*request(), ("x-a", "b\r\nx-request-id: forged")], b""),
    "a header in a value, by a line feed": ([*request(), ("x-a", "b\nx-forwarded-for: 1.2.3.4")], b""),
    "a zero byte in a value": ([*request(), ("x-a", "b\0c")], b""),
    "a header in a name": ([*request(), ("x-a: b\r\nx-c", "d")], b""),
    "a name with a colon": ([*request(), ("x-a:", "b")], b""),
    "a name with a space": ([*request(), ("x a", "b")], b""),
    "a name in capitals": ([*request(), ("X-Forwarded-Proto", "http")], b""),
    "a request in the path": (request(f"/echo HTTP/1.1\r\nHost: {HELLO}\r\n\r\n{SMUGGLED}"), b""),
    "a space in the path": (request("/echo HTTP/1.1"), b""),
    "a path that is none": (request("echo"), b""),
    "a path of another host": (request(f"http://{PLAIN}/echo"), b""),
    "a request in the method": (request(method=f"GET /smuggled HTTP/1.1\r\nHost: {HELLO}\r\n\r\nPOST"), b""),
    "a request in the authority": ([(":authority", f"{HELLO}\r\n\r\n{SMUGGLED}"), *without(":authority")], b""),
    "another host than the authority": ([*request(), ("host", PLAIN)], b""),
    "the authority of another certificate": ([(":authority", "own.example.org"), *without(":authority")], b""),
    "the authority of an app without https": ([(":authority", PLAIN), *without(":authority")], b""),
    "an authority with a user": ([(":authority", f"x@{HELLO}"), *without(":authority")], b""),
    "no path": (without(":path"), b""),
    "no method": (without(":method"), b""),
    "two paths": ([*request(), (":path", "/smuggled")], b""),
    "a pseudo header at the end": ([*without(":path"), ("x-a", "b"), (":path", "/echo")], b""),
    "a pseudo header that nobody knows": ([*request(), (":evil", "x")], b""),
    "a header of a connection": ([*request(), ("connection", "transfer-encoding"), ("upgrade", "h2c")], b"x"),
}


@pytest.mark.parametrize("line", LINES)
def test_a_request_by_http_2_is_one_request_or_none(host: Host, address: str, line: str) -> None:
    """It is refused, or the app sees one request, as it was sent, without what was forged."""
    headers, body = LINES[line]
    with client(address) as asked:
        status, text = asked.ask(headers, body)
    if status == "200":
        echo = json.loads(text)
        assert (echo["scheme"], echo["host"], echo["path"]) == ("https", HELLO, "/echo")
        assert echo["body"]["size"] == len(body)
        names = {name.lower(): value for name, value in echo["headers"].items()}
        assert "transfer-encoding" not in names and names["x-forwarded-proto"] == "https"
        assert "1.2.3.4" not in str(echo) and "forged" not in str(echo)
    else:
        assert status in ("ended", "400", "404", "405", "421", "501"), text
    with client(address) as asked:
        status, text = asked.ask(request(), b"sound")
    assert status == "200" and json.loads(text)["body"]["size"] == 5
    assert not host.run("grep -E '\"[A-Z]+ /smuggled' /var/log/nginx/*.access.log").stdout


def test_nothing_is_taken_before_the_handshake_ends(address: str) -> None:
    """Early data (RFC 8446, 2.3) could be played again by who has seen it."""
    assert "Max Early Data: 0" in s_client(address, "-tls1_3", "-ign_eof")


def test_a_client_cannot_begin_a_handshake_anew(address: str) -> None:
    """Of TLS 1.2; it would cost the server more than the client."""
    told = s_client(address, "-tls1_2", "-legacy_renegotiation", text="R\n")
    assert "no renegotiation" in told or "unexpected message" in told or "unexpected eof" in told, told


def s_client(address: str, *arguments: str, text: str = "") -> str:
    """What OpenSSL's client says of a connection; it sends a request after the text."""
    argv = ["openssl", "s_client", "-connect", f"{address}:443", "-servername", HELLO, "-CAfile", CA, *arguments]
    sent = f"{text}GET /healthz HTTP/1.1\r\nHost: {HELLO}\r\nConnection: close\r\n\r\n"
    done: Any = subprocess.run(argv, input=sent, capture_output=True, text=True, check=False, timeout=60)
    return str(done.stdout + done.stderr)
