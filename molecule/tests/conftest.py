"""Fixtures of all scenarios: their apps, and a client on the controller."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from testinfra.host import Host

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "bench"))  # the load client


class App(NamedTuple):
    """An app as the scenarios have it: see inventories/prod and molecule/default/inventory/hosts.yml."""

    name: str
    server_name: str
    workers: int
    harakiri: int  # seconds
    static: str  # URL of a static file
    source: Path  # the same file on the controller


APPS = {
    app.name: app
    for app in (
        App("hello", "hello.example.lan", 4, 30, "/static/hello.css", PROJECT / "files/app/static/hello.css"),
        App(
            "notes",
            "notes.example.lan",
            2,
            3,
            "/assets/notes.css",
            PROJECT / "molecule/shared/apps/notes/notes/assets/notes.css",
        ),
    )
}


class Answer(NamedTuple):
    """An HTTP answer, its body as it came over the wire."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Process(NamedTuple):
    """A line of ps."""

    pid: int
    parent: int
    user: str
    command: str  # the executable's name
    line: str  # what the process shows as its command line


class Listener(NamedTuple):
    """A TCP socket that waits for connections."""

    address: str
    port: int
    program: str


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run destructive tests last, so that other tests see the host as it was left. Slow tests only on request."""
    items.sort(key=lambda item: item.path.name.startswith("test_faults"))
    if not os.environ.get("FLASKFLEET_ALL"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(scope="module", params=APPS)
def app(request: pytest.FixtureRequest) -> App:
    """Each app in turn."""
    return APPS[request.param]


@pytest.fixture(scope="module")
def hello() -> App:
    """The reference app, whose answers describe the request."""
    return APPS["hello"]


@pytest.fixture(scope="module")
def address(host: Host) -> str:
    """The host's address as the controller sees it."""
    return host.check_output("hostname -I").split()[0]


@pytest.fixture(scope="module")
def get(address: str) -> Callable[..., Answer]:
    """``get(url, server_name)`` asks the host from the controller, as a client would, without any proxy."""

    def ask(
        url: str,
        server_name: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        connection = http.client.HTTPConnection(address, 80, timeout=60)
        try:
            connection.request(method, url, body, {"Host": server_name, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    return ask


@pytest.fixture(scope="module")
def send(address: str) -> Callable[[bytes], bytes]:
    """``send(bytes)`` sends any bytes; the answer until the connection is closed or reset."""

    def exchange(request: bytes) -> bytes:
        with socket.create_connection((address, 80), timeout=10) as connection:
            connection.sendall(request)
            answer = b""
            with suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    answer += part
            return answer

    return exchange


@pytest.fixture
def processes(host: Host) -> list[Process]:
    """The processes of the host."""
    lines = host.check_output("ps -ww -eo pid=,ppid=,user:32=,comm:32=,args=").splitlines()
    rows = (line.split(None, 4) for line in lines)
    return [Process(int(row[0]), int(row[1]), row[2], row[3], row[4]) for row in rows]


@pytest.fixture(scope="module")
def listeners(host: Host) -> set[Listener]:
    """The listening TCP sockets."""
    found = set()
    for line in host.check_output("ss -Hltnp").splitlines():
        words = line.split()
        address, _, port = words[3].rpartition(":")
        program = words[5].split('"')[1] if len(words) > 5 else "?"
        found.add(Listener(address, int(port), program))
    return found


@pytest.fixture(scope="module")
def release(host: Host, app: App) -> str:
    """The id of the app's live release."""
    return host.check_output("readlink /srv/%s/current", app.name).rpartition("/")[2]


@pytest.fixture
def master(host: Host, app: App, release: str) -> int:
    """The pid of the app's uWSGI master in Supervisor."""
    return int(host.check_output("supervisorctl pid %s", f"{app.name}-{release}"))


@pytest.fixture
def program(host: Host, hello: App) -> str:
    """The Supervisor program of hello."""
    return f"hello-{host.check_output('readlink /srv/hello/current').rpartition('/')[2]}"
