"""The role nginx: the service, what it serves by itself, what it refuses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://app_servers"]

STATUS = "/var/lib/nginx/flaskfleet.sock"


def test_service(host: Host) -> None:
    service = host.service("nginx")
    assert service.is_running
    assert service.is_enabled


@pytest.mark.parametrize(("name", "value"), [("Restart", "always"), ("RestartUSec", "1s"), ("LimitNOFILE", "8256")])
def test_unit(host: Host, name: str, value: str) -> None:
    assert host.check_output("systemctl show -P %s nginx", name) == value


def test_ports(host: Host, listeners) -> None:
    families = {"0.0.0.0", "[::]"} if host.file("/proc/net/if_inet6").exists else {"0.0.0.0"}
    assert {listener[:2] for listener in listeners if listener.program == "nginx"} == {(one, 80) for one in families}


def test_nothing_else_listens_but_ssh_and_the_router_of_an_app(listeners) -> None:
    # In a container root can't see whose a socket of another user is.
    assert {listener[1:] for listener in listeners if listener.program != "nginx"} == {(22, "sshd"), (8080, "?")}


@pytest.mark.parametrize("user", ["www-data", "hello"])
def test_no_other_user_can_replace_its_socket(host: Host, user: str) -> None:
    assert host.run(f"runuser -u {user} -- mv {STATUS} {STATUS}.old").rc != 0
    assert host.file(STATUS).user == "root"


def test_tree_on_disk_is_in_effect(host: Host) -> None:
    manifest = json.loads(host.file("/var/lib/flaskfleet/trees/nginx/manifest.json").content_string)
    assert host.check_output("curl -s --unix-socket %s http://x/tree", STATUS) == manifest["tree"]


def test_figures(host: Host) -> None:
    figures = host.check_output("curl -s --unix-socket %s http://x/status", STATUS)
    assert figures.startswith("Active connections:")


def test_configuration_is_valid(host: Host) -> None:
    assert host.run("nginx -t -q").rc == 0


def test_version_is_the_newest_of_the_sources(host: Host) -> None:
    policy = host.check_output("apt-get update -qq && LC_ALL=C apt-cache policy nginx")
    lines = dict(line.strip().split(": ", 1) for line in policy.splitlines()[1:3])
    assert lines["Installed"] == lines["Candidate"]


def test_security_updates_are_among_the_sources(host: Host) -> None:
    assert "-security" in host.check_output("apt-cache policy")


def test_version_is_hidden(get, app) -> None:
    assert get("/healthz", app.server_name).headers["Server"] == "nginx"


@pytest.mark.parametrize("name", ["nginx.conf", "app_uwsgi_params", "servers/hello.conf", "servers/notes.conf"])
def test_files_are_roots(host: Host, name: str) -> None:
    file = host.file(f"/etc/nginx/{name}")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o644)


def test_workers_are_not_root(processes) -> None:
    workers = [process.user for process in processes if process.line.startswith("nginx: worker")]
    assert workers
    assert set(workers) == {"www-data"}


# Static files


def test_static_file_comes_from_nginx(get, app) -> None:
    answer = get(app.static, app.server_name)
    assert (answer.status, answer.body) == (200, app.source.read_bytes())
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "X-Release" not in answer.headers


@pytest.fixture
def static_file(host: Host, hello) -> Iterator[Callable[[str], str]]:
    """``static_file(name)`` puts a file beside hello's and gives its URL."""
    made = []

    def make(name: str) -> str:
        made.append(f"/srv/hello/current/static/static/{name}")
        host.check_output("echo x >%s", made[-1])
        return f"/static/{name}"

    yield make
    host.check_output("rm %s", *made)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("viewer.mjs", "text/javascript; charset=utf-8"),
        ("app.webmanifest", "application/manifest+json; charset=utf-8"),
        ("app.js.map", "application/json; charset=utf-8"),
        ("data.csv", "text/csv; charset=utf-8"),
        ("lib.wasm", "application/wasm"),
        ("photo.avif", "image/avif"),
        ("photo.jxl", "image/jxl"),
        ("film.ogv", "video/ogg"),
        ("text.ttf", "font/ttf"),
        ("text.woff2", "font/woff2"),
        ("what.ever", "application/octet-stream"),
    ],
)
def test_type_of_a_static_file(get, hello, static_file, name: str, told: str) -> None:
    answer = get(static_file(name), hello.server_name)
    assert (answer.status, answer.headers["Content-Type"]) == (200, told)


def test_part_of_a_static_file(get, app) -> None:
    answer = get(app.static, app.server_name, headers={"Range": "bytes=5-9"})
    assert (answer.status, answer.body) == (206, app.source.read_bytes()[5:10])


def test_head_of_a_static_file(get, app) -> None:
    answer = get(app.static, app.server_name, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) == app.source.stat().st_size


def test_static_file_is_not_sent_twice(get, app) -> None:
    tag = get(app.static, app.server_name).headers["ETag"]
    again = get(app.static, app.server_name, headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("url", ["/healthz", "/assets/notes.css"])
def test_directive_of_an_app_reaches_all_its_answers(get, url: str) -> None:
    assert get(url, "notes.example.lan").headers["X-Frame-Options"] == "DENY"


def test_missing_static_file_may_be_a_route_of_the_app(get, app, release: str) -> None:
    answer = get(app.static + ".missing", app.server_name)
    assert (answer.status, answer.headers["X-Release"]) == (404, release)


def test_static_file_is_compressed(get, app) -> None:
    answer = get(app.static, app.server_name, headers={"Accept-Encoding": "gzip"})
    assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(answer.body) == app.source.read_bytes()


@pytest.mark.parametrize("url", ["/", "/version"])
def test_answer_of_the_app_is_compressed(get, hello, url: str) -> None:
    answer = get(url, hello.server_name, headers={"Accept-Encoding": "gzip"})
    assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert b"hello" in gzip.decompress(answer.body)


@pytest.mark.parametrize(
    "url",
    [
        "/static../static/hello.css",
        "/static../uwsgi.ini",
        "/static../src/hello/__init__.py",
        "/static/../../uwsgi.ini",
        "/static/..%2f..%2fuwsgi.ini",
        "/static/..%2fuwsgi.ini",
        "/static/%2e%2e/uwsgi.ini",
        "/static/%2e%2e/%2e%2e/uwsgi.ini",
        "/static/%2e%2e/%2e%2e/src/hello/__init__.py",
        "/static/..%5c..%5cuwsgi.ini",
        "/static//..//..//uwsgi.ini",
        "/static/%252e%252e/uwsgi.ini",
        "//etc/passwd",
    ],
)
def test_no_file_outside_of_the_static_folder(get, hello, url: str) -> None:
    answer = get(url, hello.server_name)
    assert answer.status in (400, 404)
    assert not [word for word in (b"[uwsgi]", b"create_app", b"root:") if word in answer.body]


def test_folder_is_not_listed(get, hello) -> None:
    assert get("/static/", hello.server_name).status in (403, 404)


# Who asks for what


@pytest.mark.parametrize("server_name", ["evil.example", "127.0.0.1", "hello.example.lan.evil.example"])
def test_unknown_host_gets_no_byte(send, server_name: str) -> None:
    assert send(f"GET / HTTP/1.1\r\nHost: {server_name}\r\n\r\n".encode()) == b""


def test_request_without_host_gets_no_byte(send) -> None:
    assert send(b"GET / HTTP/1.0\r\n\r\n") == b""


def test_absolute_uri_outweighs_the_header(send) -> None:
    answer = send(b"GET http://hello.example.lan/echo HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b"evil.example" not in body
    assert b'"host": "hello.example.lan"' in body


def test_absolute_uri_of_an_unknown_host_gets_no_byte(send) -> None:
    assert send(b"GET http://evil.example/ HTTP/1.1\r\nHost: hello.example.lan\r\n\r\n") == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: hello.example.lan\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"GET / HTTP/1.1\r\nHost: hello.example.lan\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",  # TLS
        b"\x00\x2d\x00\x00\x0a\x00UWSGI_FILE\x0c\x00/tmp/evil.py\r\n\r\n",  # the uwsgi protocol
    ],
)
def test_nonsense_is_refused(send, sent: bytes) -> None:
    assert send(sent).startswith(b"HTTP/1.1 400 Bad Request\r\n")


# Logs


def test_rotation_is_valid_and_knows_our_logs(host: Host, app) -> None:
    plan = host.run("logrotate -d /etc/logrotate.conf")
    assert plan.rc == 0
    assert "error:" not in plan.stderr
    assert f"considering log /var/log/nginx/{app.name}.access.log" in plan.stderr + plan.stdout


# The page that is shown while an app is down


def test_maintenance_page(host: Host) -> None:
    page = host.file("/usr/share/flaskfleet/.flaskfleet-maintenance.html")
    assert (page.user, page.mode) == ("root", 0o644)
    assert page.content_string.startswith("<!doctype html>")


def test_maintenance_page_cannot_be_asked_for(get, app) -> None:
    assert get("/.flaskfleet-maintenance.html", app.server_name).status == 404
