"""What running services report: the config tree in effect, Supervisor's programs, uWSGI's workers."""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import socket
import stat
import struct
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

ANSWER_BYTES = 65_536  # of an app's answer, the rest is dropped
STATS_BYTES = 4_000_000  # the parsed JSON may take 25 times as much memory


class Worker(NamedTuple):
    """A worker in uWSGI's stats. ``running`` has the start of each of its current requests, in epoch seconds."""

    id: int
    requests: int
    status: str
    running: list[int]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = _connect(self.path, self.timeout)


class _UnixTransport(xmlrpc.client.Transport):
    # One connection for all calls, because of Supervisor issue 807: if a program that starts gets the descriptor of a
    # connection that was just closed, supervisord polls that descriptor for ever and takes a whole CPU.
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self.path, self.timeout = path, timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = self._connection[1]
        if not connection:
            connection = _UnixConnection(self.path, self.timeout)
            self._connection = host, connection
        return connection


def _connect(path: str, timeout: float | None) -> socket.socket:
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
    """The hash of the config tree that is in effect; None if the service does not answer.

    :param source: ``nginx:<socket>``, which answers ``/tree`` with the hash, ``supervisor:<socket>``, whose identifier
        ends with the hash, or ``nftables:<table>``, which has a chain ``tree_<hash>``.
    """
    kind, _, place = source.partition(":")
    try:
        if kind == "nftables":
            argv = ["/usr/sbin/nft", "list", "table", "inet", place]
            found = re.search(r"chain tree_(\w+) ", subprocess.run(argv, capture_output=True, text=True).stdout)
            return found[1] if found else None
        if kind == "supervisor":
            identification: str = supervisor(place, timeout=5).getIdentification()
            return identification.rpartition("-")[2]
        with closing(_UnixConnection(place, timeout=5)) as nginx:
            nginx.request("GET", "/tree")
            answer = nginx.getresponse()
            return answer.read(64).decode().strip() if answer.status == 200 else None
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return None


def uwsgi_request(path: str, variables: dict[str, str], timeout: float) -> tuple[int, bytes]:
    """Send an app a request over its socket in the uwsgi protocol, as nginx does.

    https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html: a little-endian header (modifier1 = 0,
    size, modifier2 = 0), then each name and value, each after its length.

    :param timeout: seconds for the whole answer.
    :returns: the status and the beginning of the body.
    :raises OSError: nothing listens, or the answer is not complete in time.
    """
    items = [text.encode() for pair in variables.items() for text in pair]
    packet = b"".join(struct.pack("<H", len(item)) + item for item in items)
    answer, size = b"", 0
    for part in _exchange(path, struct.pack("<BHB", 0, len(packet), 0) + packet, timeout):
        answer += part[: ANSWER_BYTES - len(answer)]
        size += len(part)
    head, separator, body = answer.partition(b"\r\n\r\n")
    status = re.match(rb"\S+ (\d{3})(?:\s|$)", head)
    length = re.search(rb"\r\ncontent-length: *(\d{1,18})", head, re.IGNORECASE)
    received = size - len(head) - len(separator)
    # RFC 9110, 8.6: these answers have a Content-Length but no body.
    bodiless = variables.get("REQUEST_METHOD") == "HEAD" or (status and status[1] == b"304")
    if not separator or not status or (length and not bodiless and received < int(length[1])):
        raise ConnectionError("the connection was closed without a complete answer")
    return int(status[1]), body


def uwsgi_workers(path: str, timeout: float = 5) -> list[Worker]:
    """The workers of an app, from its stats socket: https://uwsgi-docs.readthedocs.io/en/latest/StatsServer.html.

    :param timeout: seconds for the whole answer.
    :raises OSError: nothing listens, or the answer is not uWSGI's stats: the app's user can bind any program there.
    """
    content = bytearray()
    for part in _exchange(path, b"", timeout):
        content += part
        if len(content) > STATS_BYTES:
            raise ConnectionError(f"{path} answers more than {STATS_BYTES} bytes")
    try:
        return [_parse_worker(worker) for worker in json.loads(content)["workers"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConnectionError(f"{path} does not answer uWSGI's stats") from error


def _parse_worker(stats: dict[str, Any]) -> Worker:
    running = [core["req_info"]["request_start"] for core in stats.get("cores", []) if core.get("in_request")]
    numbers = [stats["id"], stats["requests"], *running]
    if not all(isinstance(number, int) and 0 <= number < 2**63 for number in numbers):
        raise ValueError("no number")
    return Worker(numbers[0], numbers[1], str(stats["status"]), running)


def _exchange(path: str, request: bytes, timeout: float) -> Iterator[bytes]:
    """Send a request over an app's socket; yields the answer in parts.

    :param timeout: seconds for the whole answer.
    :raises OSError: nothing listens, the path is no socket (links are not followed), or the answer takes longer.
    """
    end = time.monotonic() + timeout
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "it is no socket", path)
        connection = _connect(f"/proc/self/fd/{descriptor}", timeout)
    finally:
        os.close(descriptor)
    with connection:
        if request:
            connection.sendall(request)
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no complete answer within {timeout:g} seconds")
            connection.settimeout(left)
            if not (part := connection.recv(65536)):
                return
            yield part
