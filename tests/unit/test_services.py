"""The state of services, over real sockets and protocols."""

from __future__ import annotations

import os
import socketserver
import subprocess
import time
import tracemalloc
import xmlrpc.client
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from ansible.module_utils.flaskfleet import services
from ansible.module_utils.flaskfleet.services import (
    ANSWER_BYTES,
    STATS_BYTES,
    Worker,
    running_tree,
    supervisor,
    uwsgi_request,
    uwsgi_workers,
)
from servers import OK, UnixServer, serving, stats_server, uwsgi_server, xmlrpc_server


@pytest.fixture
def sock(host: Path) -> Path:
    return host / "app.sock"


# uwsgi_request


@pytest.mark.parametrize(
    "variables",
    [
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": ""},
        {"HTTP_HOST": "bücher.example", "PATH_INFO": "/☃"},
        {"PATH_INFO": "/" + "x" * 300},
        {},
    ],
    ids=["empty value", "not ASCII", "longer than 255", "none"],
)
def test_a_request_arrives_as_it_was_meant(sock: Path, variables: dict[str, str]) -> None:
    with uwsgi_server(sock) as server:
        uwsgi_request(str(sock), variables, timeout=5)
    assert server.requests == [variables]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, (200, b"fine")),
        (b"HTTP/1.1 500 Internal Server Error\r\nA: b\r\n\r\nout of order", (500, b"out of order")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\na\r\n\r\nb", (200, b"a\r\n\r\nb")),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 9_000, (200, b"x" * 9_000)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", None),
    ],
    ids=["200", "500", "204", "blank line in the body", "several packets", "a length of 5,000 digits"],
)
def test_an_answer_has_a_status_and_a_body(sock: Path, answer: bytes, expected: tuple[int, bytes] | None) -> None:
    with uwsgi_server(sock, answer), nullcontext() if expected else pytest.raises(ConnectionError):
        assert uwsgi_request(str(sock), {}, timeout=5) == expected


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
def test_an_answer_without_a_body_may_have_a_content_length(sock: Path, method: str, status: int) -> None:
    with uwsgi_server(sock, f"HTTP/1.1 {status} Status\r\nContent-Length: 9\r\n\r\n".encode()):
        assert uwsgi_request(str(sock), {"REQUEST_METHOD": method}, timeout=5) == (status, b"")


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"garbage\r\n\r\n"],
    ids=["nothing", "half a head", "half a body", "garbage"],
)
def test_an_incomplete_answer_is_an_error(sock: Path, answer: bytes) -> None:
    with uwsgi_server(sock, answer), pytest.raises(ConnectionError, match="without a complete answer"):
        uwsgi_request(str(sock), {}, timeout=5)


def test_an_app_that_hangs_is_given_up(sock: Path) -> None:
    with uwsgi_server(sock, None), pytest.raises(TimeoutError):
        uwsgi_request(str(sock), {}, timeout=0.2)


@pytest.mark.parametrize("left_over", [False, True])
def test_a_socket_without_a_listener_is_an_os_error(sock: Path, left_over: bool) -> None:
    if left_over:
        with uwsgi_server(sock):
            pass
    with pytest.raises(OSError, match=r"refused|No such file"):
        uwsgi_request(str(sock), {}, timeout=5)


@pytest.mark.parametrize(("length", "complete"), [(300_000, True), (300_001, False)])
def test_the_beginning_of_a_large_body_is_kept_and_its_length_checked(sock: Path, length: int, complete: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length
    with uwsgi_server(sock, head + b"x" * 300_000), nullcontext() if complete else pytest.raises(ConnectionError):
        assert uwsgi_request(str(sock), {}, timeout=5) == (200, b"x" * (ANSWER_BYTES - len(head)))


class Attacker(socketserver.BaseRequestHandler):
    """Sends the same again and again, until the client closes."""

    words, pause = b"x" * 65536, 0.0

    def handle(self) -> None:
        with suppress(OSError):
            while True:
                self.request.sendall(self.words)
                time.sleep(self.pause)


@pytest.mark.parametrize(("words", "pause"), [(b"x" * 65536, 0.0), (b"x", 0.05)], ids=["a flood", "a trickle"])
@pytest.mark.parametrize("ask", [lambda path: uwsgi_request(path, {}, 0.5), lambda path: uwsgi_workers(path, 0.5)])
def test_an_answer_without_end_is_given_up_in_time_and_takes_no_memory(
    sock: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], object], words: bytes, pause: float
) -> None:
    monkeypatch.setattr(Attacker, "words", words)
    monkeypatch.setattr(Attacker, "pause", pause)
    began = time.monotonic()
    tracemalloc.start()
    try:
        with (
            serving(UnixServer(str(sock), Attacker)),
            pytest.raises(OSError, match=r"within 0.5 seconds|timed out|more than"),
        ):
            ask(str(sock))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 5
    assert peak < 4 * STATS_BYTES


@pytest.mark.parametrize("kind", ["link", "fifo", "file", "folder"])
def test_a_file_that_is_no_socket_is_refused(sock: Path, host: Path, kind: str) -> None:
    """The app's user may put anything there: a link to another app's socket, a fifo without a writer."""
    with uwsgi_server(host / "other.sock"):
        {
            "link": lambda: sock.symlink_to("other.sock"),
            "fifo": lambda: os.mkfifo(sock),
            "file": sock.touch,
            "folder": sock.mkdir,
        }[kind]()
        with pytest.raises(OSError, match=r"it is no socket"):
            uwsgi_request(str(sock), {}, timeout=5)
        with pytest.raises(OSError, match=r"it is no socket"):
            uwsgi_workers(str(sock))


WORKER = {"id": 1, "requests": 7, "status": "busy"}


def test_workers_have_their_current_requests(sock: Path) -> None:
    cores = [{"in_request": 1, "req_info": {"request_start": 9}}, {"in_request": 0, "req_info": {"request_start": 8}}]
    with stats_server(sock, lambda: {"workers": [{**WORKER, "cores": cores}, {**WORKER, "id": 2}]}):
        assert uwsgi_workers(str(sock)) == [Worker(1, 7, "busy", [9]), Worker(2, 7, "busy", [])]


@pytest.mark.parametrize(
    "answer",
    [
        7,
        [],
        {},
        {"workers": 7},
        {"workers": [7]},
        {"workers": [{}]},
        {"workers": [{**WORKER, "id": "1"}]},
        {"workers": [{**WORKER, "requests": None}]},
        {"workers": [{**WORKER, "requests": -1}]},
        {"workers": [{**WORKER, "requests": 10**400}]},
        {"workers": [{**WORKER, "cores": 7}]},
        {"workers": [{**WORKER, "cores": [7]}]},
        {"workers": [{**WORKER, "cores": [{"in_request": 1}]}]},
        {"workers": [{**WORKER, "cores": [{"in_request": 1, "req_info": {"request_start": 1e999}}]}]},
        {"workers": [{**WORKER, "cores": [{"in_request": 1, "req_info": {"request_start": [1]}}]}]},
    ],
    ids=lambda answer: str(answer)[:80],
)
def test_invalid_stats_are_an_error(sock: Path, answer: Any) -> None:
    with stats_server(sock, lambda: answer), pytest.raises(ConnectionError, match="does not answer uWSGI's stats"):
        uwsgi_workers(str(sock))


@pytest.mark.parametrize(
    "words", [b"[" * 100_000, b"\xff\xfe", b"9" * 5000, b""], ids=["deep", "bytes", "digits", "none"]
)
def test_invalid_json_is_an_error(sock: Path, words: bytes) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(words)

    with serving(UnixServer(str(sock), Handler)), pytest.raises(ConnectionError, match="does not answer uWSGI's stats"):
        uwsgi_workers(str(sock))


# running_tree


@pytest.mark.parametrize(
    ("answer", "tree"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n0123456789ab\n", "0123456789ab"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlost", None),
        (b"220 mail.example ESMTP\r\n", None),
        (b"", None),
    ],
    ids=["nginx", "an error page", "somebody else", "nothing"],
)
def test_nginx_reports_its_tree_on_a_socket(sock: Path, answer: bytes, tree: str | None) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            assert self.rfile.readline() == b"GET /tree HTTP/1.1\r\n"
            self.wfile.write(answer)

    with serving(UnixServer(str(sock), Handler)):
        assert running_tree(f"nginx:{sock}") == tree


@pytest.mark.parametrize("identifier", ["flaskfleet-0123456789ab", "web-1-0123456789ab"])
def test_supervisor_reports_its_tree_in_its_identifier(sock: Path, identifier: str) -> None:
    with xmlrpc_server(sock, {"supervisor.getIdentification": lambda: identifier}):
        assert running_tree(f"supervisor:{sock}") == "0123456789ab"


def test_a_supervisor_that_answers_with_a_fault_runs_no_tree(sock: Path) -> None:
    with xmlrpc_server(sock, {}):
        assert running_tree(f"supervisor:{sock}") is None


def test_a_service_that_does_not_answer_has_no_tree(sock: Path) -> None:
    assert running_tree(f"supervisor:{sock}") is None
    assert running_tree(f"nginx:{sock}") is None


def test_a_foreign_server_has_no_tree(sock: Path) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"500 Command not recognized\r\n")
            self.rfile.read()

    with serving(UnixServer(str(sock), Handler)):
        assert running_tree(f"supervisor:{sock}") is None


# supervisor


def test_supervisor_calls_a_method_with_its_arguments(sock: Path) -> None:
    with xmlrpc_server(sock, {"supervisor.startProcess": lambda name, wait: [name, wait]}):
        assert supervisor(str(sock)).startProcess("blog", False) == ["blog", False]


def test_supervisor_is_asked_over_one_connection(sock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Mock(wraps=services._connect)
    monkeypatch.setattr(services, "_connect", connect)
    with xmlrpc_server(sock, {"supervisor.getState": lambda: "RUNNING"}):
        rpc = supervisor(str(sock))
        assert [rpc.getState() for _ in range(3)] == ["RUNNING"] * 3
    assert connect.call_count == 1


def test_supervisor_raises_a_fault(sock: Path) -> None:
    def refuse() -> None:
        raise xmlrpc.client.Fault(90, "ALREADY_ADDED: blog")

    with xmlrpc_server(sock, {"supervisor.reloadConfig": refuse}), pytest.raises(xmlrpc.client.Fault) as raised:
        supervisor(str(sock)).reloadConfig()
    assert raised.value.faultCode == 90


@pytest.mark.parametrize(
    ("listed", "tree"),
    [
        ("table inet flaskfleet {\n\tchain tree_0123456789ab {\n\t}\n\n\tchain input {\n\t}\n}\n", "0123456789ab"),
        ("table inet flaskfleet {\n\tchain input {\n\t}\n}\n", None),
        ("", None),
    ],
    ids=["ours", "somebody else's of that name", "none"],
)
def test_a_packet_filter_reports_its_tree_by_a_chain(
    monkeypatch: pytest.MonkeyPatch, listed: str, tree: str | None
) -> None:
    asked = []

    def run(argv: list[str], **_: object) -> SimpleNamespace:
        asked.append(argv[1:])
        return SimpleNamespace(stdout=listed)

    monkeypatch.setattr(subprocess, "run", run)
    assert running_tree("nftables:flaskfleet") == tree
    assert asked == [["list", "table", "inet", "flaskfleet"]]


def test_without_nft_there_is_no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file", "/usr/sbin/nft")

    monkeypatch.setattr(subprocess, "run", run)
    assert running_tree("nftables:flaskfleet") is None
