"""From the controller, as a client: what arrives at the app, what comes back, what is refused."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import http.client
import json
import os
import random
import re
import socket
import subprocess
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import testinfra
from faults import busy_workers, eventually
from testinfra.host import Host

testinfra_hosts = ["ansible://app_servers"]

MB = 1_000_000


@pytest.fixture(scope="module")
def own_address(address: str) -> str:
    """The controller's address as the host sees it."""
    with socket.create_connection((address, 80)) as connection:
        return connection.getsockname()[0]


def headers_of(total: int, count: int) -> dict[str, str]:
    """So many headers with so many bytes in total, or a little more where that is too little for so many."""
    return {f"X{number:x}": "x" * (total // count - len(f"X{number:x}: \r\n")) for number in range(count)}


# Answers


@pytest.mark.parametrize("url", ["/", "/healthz"])
def test_app_answers(get, app, release: str, url: str) -> None:
    answer = get(url, app.server_name)
    assert (answer.status, answer.headers.get_all("X-Release")) == (200, [release])


def test_app_knows_what_it_is(host: Host, get, hello) -> None:
    version = get("/version", hello.server_name).json
    assert (version["app"], version["host"], version["uwsgi"]) == ("hello", host.check_output("hostname"), "2.0.31")


@pytest.mark.parametrize("name", ["hello", "notes"])
def test_every_host_runs_the_same_release(name: str) -> None:
    inventory = str(Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent)
    hosts = testinfra.get_hosts(testinfra_hosts, ansible_inventory=inventory)
    assert len({host.check_output("readlink /srv/%s/current", name) for host in hosts}) == 1


def test_written_data_is_kept(host: Host, get) -> None:
    text = f"**{uuid.uuid4()}**"
    written = get(
        "/notes",
        "notes.example.lan",
        method="POST",
        headers={"Content-Type": "application/json"},
        body=json.dumps({"text": text}),
    )
    assert written.status == 201
    assert get("/notes", "notes.example.lan").json[-1]["text"] == text
    assert f"<strong>{text.strip('*')}</strong>" in get("/", "notes.example.lan").text
    assert host.file("/srv/notes/shared/notes.sqlite3").user == "notes"


def test_requests_run_side_by_side(host: Host, get, hello) -> None:
    with ThreadPoolExecutor(4) as pool:
        flights = [pool.submit(get, "/sleep/5", hello.server_name) for _ in range(4)]
        eventually(lambda: len(busy_workers(host)) == 4, "every worker with a request")
    assert [flight.result().status for flight in flights] == [200] * 4


def test_request_in_flight_survives_a_reload_of_nginx(host: Host, get, hello) -> None:
    with ThreadPoolExecutor() as pool:
        flight = pool.submit(get, "/sleep/5", hello.server_name)
        eventually(lambda: busy_workers(host), "a worker with the request")
        host.run_expect([0], "systemctl reload nginx")
        assert flight.result().json == {"slept": 5}


def test_thousand_connections_at_once(address: str, hello) -> None:
    async def client() -> str:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(address, 80), 60)
            writer.write(f"GET /healthz HTTP/1.1\r\nHost: {hello.server_name}\r\nConnection: close\r\n\r\n".encode())
            answer = await asyncio.wait_for(reader.read(), 60)
            writer.close()
        except OSError as error:
            return type(error).__name__
        return answer.partition(b"\r\n")[0].decode()

    async def burst() -> list[str]:
        return await asyncio.gather(*(client() for _ in range(1000)))

    assert Counter(asyncio.run(burst())) == {"HTTP/1.1 200 OK": 1000}


# What a client claims


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-For", "127.0.0.1, 10.0.0.1"),
        ("X-Real-IP", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.9;proto=https;host=evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Request-ID", "evil"),
        ("X_Forwarded_For", "203.0.113.9"),
    ],
)
def test_claim_is_not_believed(get, hello, own_address: str, name: str, value: str) -> None:
    echo = get("/echo", hello.server_name, headers={name: value}).json
    assert value not in echo["headers"].values()
    assert (echo["remote_addr"], echo["peer_addr"]) == (own_address, own_address)
    assert (echo["scheme"], echo["host"]) == ("http", hello.server_name)


def test_httpoxy(get, hello) -> None:
    assert "Proxy" not in get("/echo", hello.server_name, headers={"Proxy": "http://evil.example"}).json["headers"]


def test_uwsgis_own_variables_cannot_be_sent(get, hello) -> None:
    claims = {"UWSGI_FILE": "/tmp/evil.py", "Uwsgi-File": "/tmp/evil.py", "Script-Name": "/evil"}
    echo = get("/echo", hello.server_name, headers=claims).json
    assert not {"UWSGI_FILE", "UWSGI_SCRIPT"} & echo["environ"].keys()
    assert echo["environ"].get("SCRIPT_NAME", "") == ""


@pytest.mark.parametrize(
    ("target", "sent", "told"),
    [
        ("/echo", "hello.example.lan:8080", "hello.example.lan:8080"),
        ("/echo", "Hello.Example.lan:8080", "hello.example.lan:8080"),
        ("/echo", "hello.example.lan:80@evil.example", "hello.example.lan"),
        ("/echo?a://b:81", "hello.example.lan", "hello.example.lan"),
        ("http://hello.example.lan:81/echo", "evil.example:82", "hello.example.lan:81"),
        ("http://hello.example.lan/echo", "evil.example:82", "hello.example.lan"),
    ],
)
def test_host_is_what_the_client_asked_for(send, target: str, sent: str, told: str) -> None:
    answer = send(f"GET {target} HTTP/1.1\r\nHost: {sent}\r\nConnection: close\r\n\r\n".encode())
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]["Host"] == told


# Sizes


@pytest.mark.parametrize(
    ("url", "total", "count", "status"),
    [
        (20, 4_000, 1, 200),
        (20, 4_000, 40, 200),
        (20, 4_000, 400, 200),
        (20, 13_000, 1, 200),
        (20, 16_000, 16, 200),
        (20, 16_000, 160, 200),
        (20, 16_000, 900, 200),
        (20, 16_000, 1600, 400),
        (20, 26_000, 26, 200),
        (20, 26_000, 900, 200),
        (20, 40_000, 4, 400),
        (20, 40_000, 40, 400),
        (20, 40_000, 4000, 400),
        (20, 70_000, 5, 400),
        (20, 70_000, 70, 400),
        (20, 70_000, 7000, 400),
        (13_000, 1_000, 10, 200),
        (13_000, 13_000, 13, 200),
        (13_000, 12_000, 900, 200),
        (13_000, 30_000, 30, 400),
        (15_000, 1_000, 10, 414),
        (70_000, 1_000, 10, 414),
    ],
)
def test_size_of_the_request(get, hello, url: int, total: int, count: int, status: int) -> None:
    answer = get(f"/healthz?{'x' * (url - len('/healthz?'))}", hello.server_name, headers=headers_of(total, count))
    assert answer.status == status


@pytest.mark.parametrize(("size", "status"), [(0, 200), (1, 200), (100 * MB, 200), (101 * MB, 413), (110 * MB, 413)])
def test_upload(get, hello, size: int, status: int) -> None:
    content = bytes(size)
    head = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    answer = get(
        "/upload",
        hello.server_name,
        method="POST",
        headers={"Content-Type": "multipart/form-data; boundary=limit", "Accept": "application/json"},
        body=head + content + b"\r\n--limit--\r\n",
    )
    assert answer.status == status
    assert status != 200 or answer.json["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("length", ["known", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 10 * MB])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_body_arrives(get, hello, method: str, size: int, length: str) -> None:
    content = random.Random(size).randbytes(size)
    body = content if length == "known" else (content[at : at + 65536] for at in range(0, size, 65536))
    answer = get("/echo", hello.server_name, method=method, body=body)
    assert answer.json["body"] == {"size": size, "sha256": hashlib.sha256(content).hexdigest()}
    assert "Transfer-Encoding" not in answer.json["headers"]


def test_compressed_body_arrives_as_it_is(get, hello) -> None:
    content = gzip.compress(b"text")
    answer = get("/echo", hello.server_name, method="POST", headers={"Content-Encoding": "gzip"}, body=content)
    assert answer.json["body"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert answer.json["headers"]["Content-Encoding"] == "gzip"


def test_client_may_wait_for_100_continue(send, hello) -> None:
    head = f"POST /echo HTTP/1.1\r\nHost: {hello.server_name}\r\nConnection: close\r\n"
    answer = send(f"{head}Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc".encode())
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b'"size":3' in answer.replace(b" ", b"")


def test_trailer_does_no_harm(send, hello) -> None:
    head = f"POST /echo HTTP/1.1\r\nHost: {hello.server_name}\r\nConnection: close\r\nTrailer: X-Sum\r\n"
    answer = send(f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"size":3' in answer.replace(b" ", b"")


@pytest.mark.parametrize("kilobytes", [1, 4, 16, 32])
def test_header_of_an_answer(get, kilobytes: int) -> None:
    answer = get(f"/headers/{kilobytes}", "counter.example.lan")
    assert (answer.status, answer.body) == (200, b"fine")
    assert len([name for name in answer.headers if name.startswith("X-Fill")]) == kilobytes


@pytest.mark.slow  # a minute
def test_client_may_read_slowly(address: str) -> None:
    with socket.create_connection((address, 80), timeout=10) as connection:
        connection.sendall(b"GET /stream/40 HTTP/1.1\r\nHost: counter.example.lan\r\n\r\n")
        began, read = time.monotonic(), 0
        while (passed := time.monotonic() - began) < 60:
            read += len(connection.recv(4096))
            time.sleep(max(0, read / 20_000 - passed))
    assert read > 1_000_000


@pytest.mark.slow  # 1.2 GB
def test_answer_that_waits_for_its_client_is_whole(address: str) -> None:
    """More than nginx keeps by itself, for longer than uWSGI waits to write."""
    with socket.create_connection((address, 80), timeout=30) as connection:
        connection.sendall(b"GET /stream/1200 HTTP/1.1\r\nHost: counter.example.lan\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        time.sleep(15)
        assert sum(len(part) for part in iter(lambda: answer.read(1 << 20), b"")) == 1200 << 20


# Logs


def test_access_log_has_request_and_release(host: Host, get, app, release: str, own_address: str) -> None:
    marker = uuid.uuid4().hex
    answer = get(f"/healthz?{marker}", app.server_name)
    (line,) = host.check_output("grep -F %s /var/log/nginx/%s.access.log", marker, app.name).splitlines()
    pattern = (
        rf'{re.escape(own_address)} {re.escape(own_address)} \[\S+\] "GET /healthz\?{marker} HTTP/1.1" 200 \d+ '
        rf'[\d.]+ [\d.]+ {answer.headers["X-Request-ID"]} {release} "-" "-"'
    )
    assert re.fullmatch(pattern, line)


def test_app_sees_the_same_request_id(get, hello) -> None:
    answer = get("/echo", hello.server_name)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert answer.json["headers"]["X-Request-Id"] == answer.headers["X-Request-ID"]


# What people see


@pytest.fixture(scope="module")
def chromium(address: str, tmp_path_factory: pytest.TempPathFactory):
    """``chromium(*flags, url)`` opens a page in a browser that takes the host for hello.example.lan."""

    def run(*words: str) -> str:
        command = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-proxy-server",
            f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
            f"--host-resolver-rules=MAP hello.example.lan {address}",
            *words,
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except FileNotFoundError:
            pytest.fail("There is no chromium on this machine: run lab/apt.sh chromium")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("app", ["hello"], indirect=True)
def test_page_in_a_browser(host: Host, chromium, app, release: str) -> None:
    name = host.check_output("hostname")
    page = chromium("--dump-dom", f"http://{app.server_name}/")
    assert f"<title>hello on {name}</title>" in page
    assert f'<span id="host">{name}</span>' in page
    assert f'<dd id="release">{release}</dd>' in page


def test_picture_of_the_page(host: Host, chromium, hello) -> None:
    folder = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / ".cache" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"{host.check_output('hostname')}.png"
    picture.unlink(missing_ok=True)
    chromium(f"--screenshot={picture}", "--window-size=1280,1000", f"http://{hello.server_name}/")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000  # a blank page has some 5,000 bytes
