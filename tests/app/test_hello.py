"""The reference app, asked through Flask's test client."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import sys
import time
import tracemalloc
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient
from hello import create_app
from werkzeug.test import TestResponse

JSON = {"Accept": "application/json"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A client of the app outside of a fleet and of uWSGI."""
    for name in ("APP", "RELEASE", "SHARED"):
        monkeypatch.delenv(f"FLASKFLEET_{name}", raising=False)
    monkeypatch.setitem(sys.modules, "uwsgi", None)
    return create_app().test_client()


@pytest.fixture
def fleet(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variables of a release; this one could pass for a number."""
    monkeypatch.setenv("FLASKFLEET_APP", "hello")
    monkeypatch.setenv("FLASKFLEET_RELEASE", "012345678901")


@pytest.fixture
def uwsgi(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for uWSGI's module: worker 2 of 2 runs this."""
    rows = [
        {
            "id": 1,
            "pid": 0,
            "status": b"cheap",
            "requests": 3001,
            "avg_rt": 1500,
            "exceptions": 7,
            "respawn_count": 5,
        },
        {
            "id": 2,
            "pid": 4711,
            "status": b"busy",
            "requests": 42,
            "avg_rt": 234567,
            "exceptions": 0,
            "respawn_count": 0,
        },
    ]
    module = SimpleNamespace(version=b"2.0.31", worker_id=lambda: 2, workers=lambda: rows)
    monkeypatch.setitem(sys.modules, "uwsgi", module)


def text_of(html: str, ident: str) -> str:
    """Return what the element of this id contains, without tags and extra spaces."""
    match = re.search(rf'<(\w+)[^>]* id="{ident}"[^>]*>(.*?)</\1>', html, re.DOTALL)
    assert match, f"nothing has the id {ident}"
    return " ".join(re.sub(r"<[^>]*>", " ", match[2]).split())


def post_file(client: FlaskClient, content: bytes, name: str, headers: dict[str, str]) -> TestResponse:
    """Upload content as a file of this name."""
    data = {"file": (io.BytesIO(content), name)}
    return client.post("/upload", data=data, headers=headers)


class Body(io.RawIOBase):
    """A multipart body with one file of zeros, made while it is read."""

    head = (
        b"--limit\r\nContent-Disposition: form-data; name=file; filename=zeros\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = b"\r\n--limit--\r\n"

    def __init__(self, size: int) -> None:
        self.length = len(self.head) + size + len(self.tail)
        self.parts = self.make(size)
        self.rest = b""

    def make(self, size: int) -> Iterator[bytes]:
        yield self.head
        for start in range(0, size, 1 << 20):
            yield bytes(min(1 << 20, size - start))
        yield self.tail

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        self.rest = self.rest or next(self.parts, b"")
        piece, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def post_zeros(client: FlaskClient, size: int) -> TestResponse:
    """Upload a file of this many zeros without ever having it."""
    body = Body(size)
    return client.post(
        "/upload",
        environ_overrides={
            "wsgi.input": io.BufferedReader(body),
            "CONTENT_LENGTH": str(body.length),
            "CONTENT_TYPE": "multipart/form-data; boundary=limit",
        },
        headers=JSON,
    )


# The page


@pytest.mark.usefixtures("fleet", "uwsgi")
def test_page_names_the_host_and_the_worker(client: FlaskClient) -> None:
    html = client.get("/").text
    assert text_of(html, "host") == socket.gethostname()
    assert text_of(html, "release") == "012345678901"
    assert text_of(html, "worker") == "2"
    assert text_of(html, "pid") == str(os.getpid())
    assert f"<title>hello on {socket.gethostname()}</title>" in html


def test_page_outside_of_a_fleet_says_development(client: FlaskClient) -> None:
    html = client.get("/").text
    assert text_of(html, "release") == "development"
    assert text_of(html, "shared") == "development"
    assert text_of(html, "worker") == "no uWSGI"
    assert 'id="workers"' not in html
    assert "This server is not uWSGI" in html


def test_page_has_the_scheme_and_address(client: FlaskClient) -> None:
    html = client.get(
        "/",
        base_url="https://app.lan:8443",
        environ_overrides={"SERVER_PROTOCOL": "HTTP/2.0", "REMOTE_ADDR": "192.0.2.7"},
        headers={"X-Request-ID": "0123456789abcdef"},
    ).text
    assert text_of(html, "scheme") == "https"
    assert text_of(html, "protocol") == "HTTP/2.0"
    assert text_of(html, "asked") == "app.lan:8443"
    assert text_of(html, "client") == "192.0.2.7"
    assert text_of(html, "request-id") == "0123456789abcdef"
    assert text_of(client.get("/").text, "request-id") == "none"


@pytest.mark.parametrize(
    ("peer", "balancer"),
    [
        ({"PEER_ADDR": "198.51.100.1"}, "balancer 198.51.100.1 "),
        ({"PEER_ADDR": "192.0.2.7"}, ""),
        ({"PEER_ADDR": ""}, ""),
        ({}, ""),
    ],
)
def test_page_shows_a_balancer_only_if_there_is_one(client: FlaskClient, peer: dict[str, str], balancer: str) -> None:
    environ = {"REMOTE_ADDR": "192.0.2.7", **peer}
    html = client.get("/", environ_overrides=environ).text
    chain = f"client 192.0.2.7 {balancer}server {socket.gethostname()}"
    assert text_of(html, "hops") == chain


@pytest.mark.usefixtures("uwsgi")
def test_page_has_a_row_for_each_worker(client: FlaskClient) -> None:
    html = client.get("/").text
    rows = re.findall(r"<tr.*?</tr>", html.partition("<tbody>")[2], re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    texts = [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]
    assert texts == [
        ["1", "\N{EN DASH}", "cheap", "3001", "1.5 ms", "7", "5"],
        ["2", "4711", "busy", "42", "234.6 ms", "0", "0"],
    ]
    assert ["aria-current" in row for row in rows] == [False, True]


def test_page_reports_whether_the_shared_folder_is_writable(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLASKFLEET_SHARED", str(tmp_path))
    words = text_of(client.get("/").text, "shared")
    assert re.fullmatch(r"writable, \d+\.\d GB free", words)
    monkeypatch.setenv("FLASKFLEET_SHARED", str(tmp_path / "missing"))
    assert text_of(client.get("/").text, "shared") == "not writable"


def test_page_escapes_what_the_client_sends(client: FlaskClient) -> None:
    evil = "<script>alert(1)</script>"
    html = client.get("/", headers={"X-Request-ID": evil}).text
    assert evil not in html
    assert "&lt;script&gt;alert(1)" in html


def test_page_loads_nothing_but_static_files(client: FlaskClient) -> None:
    html = client.get("/").text
    assert not re.search(r"<style|<script(?! src)|\son\w+=|\sstyle=", html)
    links = set(re.findall(r'(?:src|href|action)="([^"]*)"', html))
    static = {link for link in links if link.startswith("/static/")}
    assert links - static == {
        "/upload",
        "/version",
        "/echo",
        "/healthz",
        "/sleep/1",
    }
    names = {link.removeprefix("/static/").partition("?")[0] for link in static}
    assert names == {"hello.css", "hello.js", "favicon.svg"}
    for link in static:
        assert client.get(link).status_code == 200


# The headers of all answers


@pytest.mark.parametrize("path", ["/", "/healthz", "/version", "/echo", "/nowhere"])
def test_answers_are_not_stored(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Security-Policy"] == "default-src 'self'; frame-ancestors 'none'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_static_files_may_be_stored(client: FlaskClient) -> None:
    assert "no-store" not in client.get("/static/hello.css").headers["Cache-Control"]


# The routes for programs


def test_healthz_is_ok(client: FlaskClient) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.data) == (200, b"ok")
    assert response.mimetype == "text/plain"


@pytest.mark.usefixtures("fleet", "uwsgi")
def test_version_in_a_fleet(client: FlaskClient) -> None:
    assert client.get("/version").json == {
        "app": "hello",
        "release": "012345678901",
        "host": socket.gethostname(),
        "worker": 2,
        "pid": os.getpid(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "flask": metadata.version("flask"),
        "uwsgi": "2.0.31",
    }


def test_version_outside_of_a_fleet(client: FlaskClient) -> None:
    facts = client.get("/version").json
    assert facts["app"] == facts["release"] == "development"
    assert facts["worker"] is facts["uwsgi"] is None


def test_echo_of_a_get(client: FlaskClient) -> None:
    answer = client.get(
        "/echo?a=1&a=2&b=%C3%B6",
        base_url="https://app.lan",
        headers={"X-Request-ID": "abc"},
        environ_overrides={"REMOTE_ADDR": "192.0.2.7", "PEER_ADDR": "198.51.100.1"},
    ).json
    assert answer["method"] == "GET"
    assert answer["path"] == "/echo"
    assert answer["query"] == {"a": ["1", "2"], "b": ["ö"]}
    assert answer["headers"]["X-Request-Id"] == "abc"
    assert answer["remote_addr"] == "192.0.2.7"
    assert answer["peer_addr"] == "198.51.100.1"
    assert answer["scheme"] == "https"
    assert answer["host"] == "app.lan"
    assert answer["body"] == {"size": 0, "sha256": EMPTY}


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/x-www-form-urlencoded"])
def test_echo_of_a_post_counts_and_hashes_the_body(client: FlaskClient, kind: str) -> None:
    body = b"a=1&" * 1_000_000
    answer = client.post("/echo", data=body, content_type=kind).json
    assert answer["method"] == "POST"
    assert answer["headers"]["Content-Type"] == kind
    assert answer["body"]["size"] == 4_000_000
    assert answer["body"]["sha256"] == hashlib.sha256(body).hexdigest()


def test_echo_has_wsgi_strings_only(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    environ = {"SECRET_KEY": "hunter2", "REMOTE_PORT": "5000", "uwsgi.version": b"2"}
    response = client.get("/echo", headers={"X-Custom": "here"}, environ_overrides=environ)
    shown = response.json["environ"]
    assert shown["REMOTE_PORT"] == "5000"
    assert shown["REQUEST_METHOD"] == "GET"
    assert shown["wsgi.url_scheme"] == "http"
    assert not [name for name in shown if name.startswith("HTTP_")]
    assert "uwsgi.version" not in shown
    assert "hunter2" not in response.text


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("0.25", 0.25), ("60", 60)])
def test_sleep(client: FlaskClient, monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert client.get(f"/sleep/{text}").json == {"slept": seconds}
    assert slept == [seconds]


@pytest.mark.parametrize("text", ["-0.1", "60.1", "1e9", "nan", "inf", "-inf", "soon"])
def test_sleep_refuses(client: FlaskClient, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    response = client.get(f"/sleep/{text}", headers=JSON)
    assert response.status_code == 400
    assert "from 0 to 60" in response.json["message"]
    assert slept == []


# Uploads


def test_upload_for_programs(client: FlaskClient) -> None:
    content = os.urandom(3_000_000)  # more than one chunk, and more than memory gets
    response = post_file(client, content, "größe.bin", JSON)
    assert response.status_code == 200
    assert response.json == {
        "name": "größe.bin",
        "size": 3_000_000,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_upload_for_people_is_the_page_with_the_result(client: FlaskClient) -> None:
    response = post_file(client, b"abc", "<b>.txt", BROWSER)
    assert response.status_code == 200
    assert response.mimetype == "text/html"
    assert text_of(response.text, "name") == "&lt;b&gt;.txt"
    assert text_of(response.text, "size") == "3"
    assert text_of(response.text, "sha256") == hashlib.sha256(b"abc").hexdigest()
    assert 'id="uploaded">' in response.text
    assert 'id="uploaded" hidden>' in client.get("/").text


def test_upload_of_an_empty_file(client: FlaskClient) -> None:
    answer = post_file(client, b"", "empty", JSON).json
    assert answer == {"name": "empty", "size": 0, "sha256": EMPTY}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"file": "just text"},
        {"other": (io.BytesIO(b"abc"), "name")},
        {"file": (io.BytesIO(b""), "")},  # what browsers send when none is chosen
    ],
)
def test_upload_without_a_file(client: FlaskClient, data: dict[str, object]) -> None:
    response = client.post("/upload", data=data, headers=JSON, content_type="multipart/form-data")
    assert response.status_code == 400
    assert "no file" in response.json["message"]


def test_upload_of_the_largest_file_stays_out_of_memory(client: FlaskClient) -> None:
    tracemalloc.start()
    try:
        response = post_zeros(client, 100_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert response.json["size"] == 100_000_000
    assert peak < 10_000_000


@pytest.mark.parametrize("size", [100_000_001, 110_000_000])
def test_upload_of_a_larger_file(client: FlaskClient, size: int) -> None:
    response = post_zeros(client, size)
    assert response.status_code == 413
    assert "up to 100 MB" in response.json["message"]


@pytest.mark.usefixtures("uwsgi")
def test_a_refused_body_is_read_to_its_end_under_uwsgi(client: FlaskClient) -> None:
    body = io.BytesIO(bytes(3_000_000))
    response = client.post("/version", input_stream=body, content_length=3_000_000)
    assert response.status_code == 405
    assert body.tell() == 3_000_000


@pytest.mark.usefixtures("uwsgi")
def test_a_refused_body_may_break_off(client: FlaskClient) -> None:
    class Broken(io.RawIOBase):
        def readinto(self, buffer: memoryview) -> int:
            raise OSError("the client is gone")

    response = client.post("/version", environ_overrides={"wsgi.input": Broken()})
    assert response.status_code == 405


# Errors


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/nowhere", 404, "Not Found"),
        ("POST", "/version", 405, "Method Not Allowed"),
        ("PUT", "/upload", 405, "Method Not Allowed"),
        ("GET", "/upload", 405, "Method Not Allowed"),
        ("GET", "/sleep/61", 400, "Bad Request"),
    ],
)
def test_errors_are_json_for_programs_and_html_for_people(
    client: FlaskClient, method: str, path: str, status: int, error: str
) -> None:
    response = client.open(path, method=method, headers=JSON)
    assert (response.status_code, response.mimetype) == (status, "application/json")
    assert response.json["status"] == status
    assert response.json["error"] == error
    for headers in (BROWSER, {"Accept": "*/*"}, {}):
        response = client.open(path, method=method, headers=headers)
        assert (response.status_code, response.mimetype) == (status, "text/html")
        assert f"<h1>{status} {error}</h1>" in response.text


def test_errors_keep_their_headers(client: FlaskClient) -> None:
    allowed = client.post("/version", headers=JSON).headers["Allow"].split(", ")
    assert sorted(allowed) == ["GET", "HEAD", "OPTIONS"]


def test_failures_reveal_nothing_to_the_client(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(socket, "gethostname", fail)
    response = client.get("/version", headers=JSON)
    assert response.status_code == 500
    assert response.json["error"] == "Internal Server Error"
    assert "hunter2" not in response.text
    assert response.headers["Cache-Control"] == "no-store"
