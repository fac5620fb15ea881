"""What a service says about itself, over the sockets and protocols that it really has."""

from __future__ import annotations

import socketserver
import subprocess
import xmlrpc.client
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from ansible.module_utils.flaskfleet import services
from ansible.module_utils.flaskfleet.services import running_tree, supervisor, uwsgi_request, uwsgi_stats
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
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, (200, b"x" * 200_000)),
    ],
    ids=["200", "500", "204", "blank line in the body", "several packets"],
)
def test_an_answer_has_a_status_and_a_body(sock: Path, answer: bytes, expected: tuple[int, bytes]) -> None:
    with uwsgi_server(sock, answer):
        assert uwsgi_request(str(sock), {}, timeout=5) == expected


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"garbage\r\n\r\n"],
    ids=["nothing", "half a head", "half a body", "garbage"],
)
def test_an_answer_that_is_not_complete_is_none(sock: Path, answer: bytes) -> None:
    with uwsgi_server(sock, answer), pytest.raises(ConnectionError, match="without a complete answer"):
        uwsgi_request(str(sock), {}, timeout=5)


def test_an_app_that_hangs_is_given_up(sock: Path) -> None:
    with uwsgi_server(sock, None), pytest.raises(TimeoutError):
        uwsgi_request(str(sock), {}, timeout=0.2)


@pytest.mark.parametrize("left_over", [False, True])
def test_a_socket_nobody_listens_on_is_an_os_error(sock: Path, left_over: bool) -> None:
    if left_over:
        with uwsgi_server(sock):
            pass
    with pytest.raises(OSError, match=r"refused|No such file"):
        uwsgi_request(str(sock), {}, timeout=5)


def test_uwsgi_stats(sock: Path) -> None:
    with stats_server(sock, lambda: {"workers": [{"id": 1, "requests": 7}]}):
        assert uwsgi_stats(str(sock)) == {"workers": [{"id": 1, "requests": 7}]}


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
def test_nginx_tells_its_tree_on_a_socket(sock: Path, answer: bytes, tree: str | None) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            assert self.rfile.readline() == b"GET /tree HTTP/1.1\r\n"
            self.wfile.write(answer)

    with serving(UnixServer(str(sock), Handler)):
        assert running_tree(f"nginx:{sock}") == tree


@pytest.mark.parametrize("identifier", ["flaskfleet-0123456789ab", "web-1-0123456789ab"])
def test_supervisor_tells_its_tree_in_its_identifier(sock: Path, identifier: str) -> None:
    with xmlrpc_server(sock, {"supervisor.getIdentification": lambda: identifier}):
        assert running_tree(f"supervisor:{sock}") == "0123456789ab"


def test_a_supervisor_that_answers_with_a_fault_runs_no_tree(sock: Path) -> None:
    with xmlrpc_server(sock, {}):
        assert running_tree(f"supervisor:{sock}") is None


def test_nobody_runs_no_tree(sock: Path) -> None:
    assert running_tree(f"supervisor:{sock}") is None
    assert running_tree(f"nginx:{sock}") is None


def test_somebody_elses_server_runs_no_tree(sock: Path) -> None:
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
def test_a_packet_filter_tells_its_tree_by_a_chain(
    monkeypatch: pytest.MonkeyPatch, listed: str, tree: str | None
) -> None:
    asked = []

    def run(argv: list[str], **_: object) -> SimpleNamespace:
        asked.append(argv[1:])
        return SimpleNamespace(stdout=listed)

    monkeypatch.setattr(subprocess, "run", run)
    assert running_tree("nftables:flaskfleet") == tree
    assert asked == [["list", "table", "inet", "flaskfleet"]]


def test_where_there_is_no_nft_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file", "/usr/sbin/nft")

    monkeypatch.setattr(subprocess, "run", run)
    assert running_tree("nftables:flaskfleet") is None
