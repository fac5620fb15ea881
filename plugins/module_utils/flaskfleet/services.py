"""What a running service says about itself: the tree it runs, its programs, its workers."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import subprocess
import time
import xmlrpc.client
from contextlib import closing
from typing import Any


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = _connect(self.path, self.timeout)


class _UnixTransport(xmlrpc.client.Transport):
    # One connection for all calls: supervisord may watch the descriptor of a closed one for ever, with a whole CPU,
    # where a program that it starts at that moment gets the same (Supervisor 807).
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self.path, self.timeout = path, timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        if not self._connection[1]:
            self._connection = host, _UnixConnection(self.path, self.timeout)
        return self._connection[1]


def _connect(path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise type(error)(error.errno, error.strerror, path) from error
    return connection


def supervisor(path: str, timeout: float = 90) -> Any:
    """Supervisor's XML-RPC interface, http://supervisord.org/api.html, over its unix socket."""
    return xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(path, timeout)).supervisor


def running_tree(source: str) -> str | None:
    """The hash of the configuration tree that a service runs; ``None`` where it does not answer.

    :param source: ``nginx:<socket>``, which answers the hash for ``/tree``, ``supervisor:<socket>``, whose identifier
        ends with it, or ``nftables:<table>``, a chain of which is called ``tree_<hash>``.
    """
    kind, _, place = source.partition(":")
    try:
        if kind == "nftables":
            argv = ["/usr/sbin/nft", "list", "table", "inet", place]
            found = re.search(r"chain tree_(\w+) ", subprocess.run(argv, capture_output=True, text=True).stdout)
            return found[1] if found else None
        if kind == "supervisor":
            return supervisor(place, timeout=5).getIdentification().rpartition("-")[2]
        with closing(_UnixConnection(place, timeout=5)) as nginx:
            nginx.request("GET", "/tree")
            answer = nginx.getresponse()
            return answer.read(64).decode().strip() if answer.status == 200 else None
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return None


def uwsgi_request(path: str, variables: dict[str, str], timeout: float) -> tuple[int, bytes]:
    """Ask an app over its socket in the uwsgi protocol, as nginx does.

    https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html: a little-endian header (modifier1 = 0,
    size, modifier2 = 0), then each name and value behind its length.

    :param timeout: seconds for the whole answer.
    :returns: the status and the body.
    :raises OSError: nobody listens, or no complete answer in time.
    """
    items = [text.encode() for pair in variables.items() for text in pair]
    packet = b"".join(struct.pack("<H", len(item)) + item for item in items)
    end = time.monotonic() + timeout
    with _connect(path, timeout) as connection:
        connection.sendall(struct.pack("<BHB", 0, len(packet), 0) + packet)
        answer = b""
        while part := connection.recv(65536):
            answer += part
            connection.settimeout(max(0.001, end - time.monotonic()))
    head, separator, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if not separator or len(words) < 2 or not words[1].isdigit() or (length and len(body) < int(length[1])):
        raise ConnectionError("the connection was closed without a complete answer")
    return int(words[1]), body


def uwsgi_stats(path: str, timeout: float = 5) -> dict[str, Any]:
    """uWSGI's stats: https://uwsgi-docs.readthedocs.io/en/latest/StatsServer.html."""
    with _connect(path, timeout) as connection:
        return json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
