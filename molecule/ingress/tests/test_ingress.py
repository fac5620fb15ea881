"""Several apps behind one name, WebSockets and events, and who may come in."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import websocket
import yaml
from conftest import PROJECT, Answer
from testinfra.host import Host

SCENARIO = Path(__file__).parents[1]
IS_FLEET = SCENARIO.name == "ingress"
testinfra_hosts = ["docker://molecule-ingress-lb1" if IS_FLEET else "ansible://app_servers"]
INTRANET, PLAIN = "intranet.example.lan", "plain.example.lan"
APPS = yaml.safe_load((PROJECT / "molecule/ingress/inventory/apps.yml").read_text())["all"]["vars"]["more_apps"]
# Each app at each of its paths: its name, the scheme, the name of the server, the path.
PLACES = [
    (name, "https" if app.get("https", True) else "http", *url.partition("/")[::2])
    for name, app in APPS.items()
    if name not in ("counter", "closed", "members", "limited")
    for url in app.get("server_names", []) + app.get("urls", [])
    if url != "*"
]
BELOW = sorted({path for _, _, server_name, path in PLACES if server_name == INTRANET and path})
at_each_place = pytest.mark.parametrize(("name", "scheme", "server_name", "path"), PLACES)
by_both = pytest.mark.parametrize(
    ("scheme", "server_name", "name"), [("https", INTRANET, "wiki"), ("http", PLAIN, "plainwiki")]
)
Ask = Callable[..., Answer]
ANN = "Basic " + base64.b64encode(b"ann:secret").decode()


@pytest.fixture(scope="module")
def connect(address: str) -> Callable[[str, str], socket.socket]:
    """``connect(scheme, server_name)``: a connection to the host that clients reach, trusting the fleet's CA alone."""
    context = ssl.create_default_context(cafile=str(PROJECT / ".cache" / SCENARIO.name / "ca/ca.pem"))

    def connected(scheme: str, server_name: str) -> socket.socket:
        plain = socket.create_connection((address, {"http": 80, "https": 443}[scheme]), timeout=60)
        return plain if scheme == "http" else context.wrap_socket(plain, server_hostname=server_name)

    return connected


@pytest.fixture(scope="module")
def ask(connect: Callable[[str, str], socket.socket]) -> Ask:
    """``ask(scheme, server_name, url)`` asks for exactly that URL."""

    def answered(
        scheme: str, server_name: str, url: str, method: str = "GET", body: Any = None, **headers: str
    ) -> Answer:
        client = http.client.HTTPConnection(server_name)
        with connect(scheme, server_name) as client.sock:
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            client.request(method, url, body, {"Host": server_name, **told})
            answer = client.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    return answered


# Paths


@at_each_place
def test_an_app_knows_where_it_is(ask: Ask, name: str, scheme: str, server_name: str, path: str) -> None:
    prefix = f"/{path}" if path else ""
    answer = ask(scheme, server_name, f"{prefix}/", "POST", b"x" * 1000)
    assert answer.json == {
        "app": name,
        "index": f"{prefix}/",
        "external": f"{scheme}://{server_name}{prefix}/",
        "static": f"{prefix}/static/counter.css",
        "user": None,
        "cookies": [],
        "size": 1000,
    }


@at_each_place
def test_nginx_serves_its_files(ask: Ask, name: str, scheme: str, server_name: str, path: str) -> None:
    prefix = f"/{path}" if path else ""
    answer = ask(scheme, server_name, f"{prefix}/static/counter.css")
    assert answer.text == (PROJECT / "molecule/shared/apps/counter/counter/static/counter.css").read_text()
    assert "X-Release" not in answer.headers and "max-age" in answer.headers["Cache-Control"]
    missing = ask(scheme, server_name, f"{prefix}/static/none.css")
    assert missing.status == 404 and "X-Release" in missing.headers


@pytest.mark.parametrize("path", BELOW)
def test_its_path_without_the_slash_leads_to_it(ask: Ask, path: str) -> None:
    answer = ask("https", INTRANET, f"/{path}?a=1")
    assert (answer.status, answer.headers["Location"]) == (301, f"/{path}/?a=1")


def test_redirects_of_an_app_stay_with_it(ask: Ask) -> None:
    for path in BELOW:
        for url in (f"/{path}/folder", f"/{path}/login/ann"):
            led = ask("https", INTRANET, url).headers["Location"]
            assert led.removeprefix(f"https://{INTRANET}").startswith(f"/{path}/"), led


def test_no_cookie_is_seen_by_another_app(ask: Ask) -> None:
    """A browser that has logged in everywhere sends each app its own session, and no other."""
    jar: dict[str, tuple[str, str]] = {}
    for path in BELOW:
        for header in ask("https", INTRANET, f"/{path}/login/{path.replace('/', '-')}").headers.get_all("Set-Cookie"):
            for name, morsel in SimpleCookie(header).items():
                jar[f"{name} {morsel['path']}"] = (morsel["path"], f"{name}={morsel.value}")
    assert len(jar) == len(BELOW)
    for path in BELOW:
        sent = [cookie for scope, cookie in jar.values() if f"/{path}/".startswith(f"{scope}/")]
        told = ask("https", INTRANET, f"/{path}/", Cookie="; ".join(sent)).json
        assert (told["user"], told["cookies"]) == (path.replace("/", "-"), ["session"])


@pytest.mark.parametrize(
    ("url", "name", "rest"),
    [
        ("/wiki/../environ/a", "portal", "a"),
        ("/wiki/%2e%2e/environ/a", "portal", "a"),
        ("/wiki/..%2fenviron/a", "portal", "a"),
        ("/wiki//environ///a", "wiki", "a"),
        ("//wiki/environ/a", "wiki", "a"),
        ("/wiki/environ/a%2fb%20c", "wiki", "a/b c"),
        ("/wiki/environ/;a=/docs/", "wiki", ";a=/docs/"),
        ("/wiki/environ/wiki/a?b=%2f", "wiki", "wiki/a"),
        ("/%77iki/environ/a", "wiki", "a"),
        ("/environ/wiki/", "portal", "wiki/"),
    ],
)
def test_a_path_is_one_apps_however_it_is_written(ask: Ask, url: str, name: str, rest: str) -> None:
    told = ask("https", INTRANET, url).json
    assert told["app"] == name
    assert told["rest"] == rest
    assert told["REQUEST_URI"] == url


@pytest.mark.parametrize("url", ["/wiki;a/environ/a", "/wikix/", "/Wiki/", "/team/"])
def test_what_is_below_no_path_is_the_root_apps(ask: Ask, url: str) -> None:
    answer = ask("https", INTRANET, url)
    assert answer.status == 404 and "X-Release" in answer.headers


def test_a_name_without_an_app_at_its_root_has_none(ask: Ask) -> None:
    answer = ask("https", "wiki.example.lan", "/")
    assert answer.status == 404 and "X-Release" not in answer.headers
    assert ask("https", "wiki.example.lan", "/wiki/").json["app"] == "wiki"


@pytest.mark.parametrize("header", ["Script_Name", "SCRIPT_NAME", "X_Script_Name", "X_Forwarded_Prefix"])
def test_a_client_does_not_say_where_an_app_is(ask: Ask, header: str) -> None:
    for path in ("", "/wiki"):
        told = ask("https", INTRANET, f"{path}/environ/a", **{header: "/evil"}).json
        assert told.get("SCRIPT_NAME", "") == path and told["PATH_INFO"] == "/environ/a"


def test_a_request_is_in_its_apps_log(ask: Ask, host: Host) -> None:
    log = "/var/log/nginx/docs.access.log"
    before = host.file(log).content_string.count("/docs/away")
    ask("https", INTRANET, "/docs/away")
    assert host.file(log).content_string.count("/docs/away") == before + 1


@pytest.mark.parametrize("name", ["www.docs.example.lan", "d_o_c.example.lan"])
def test_other_names_lead_to_the_first_one(ask: Ask, name: str) -> None:
    answer = ask("https", name, "/a?b=%2f")
    assert (answer.status, answer.headers["Location"]) == (308, "https://docs.example.lan/a?b=%2f")
    assert ask("http", name, "/a").headers["Location"] == f"https://{name}/a"


@pytest.mark.parametrize("name", ["unknown.example.lan", "192.0.2.9", "[2001:db8::9]", "un_known"])
def test_an_app_for_every_name_gets_what_is_nobodys(ask: Ask, name: str) -> None:
    assert ask("http", name, "/environ/a").json["app"] == "plain"
    assert ask("http", PLAIN, "/wiki/environ/a").json["app"] == "plainwiki"
    with pytest.raises(ssl.SSLError):
        ask("https", name, "/")


# Traffic


def test_an_upload_may_be_as_large_as_the_app_says(ask: Ask) -> None:
    for size, status in ((1024 * 1024, 200), (1024 * 1024 + 1, 413)):
        answer = ask("https", INTRANET, "/sh.op/", "POST", b"x" * size)
        assert answer.status == status
    assert ask("https", INTRANET, "/wiki/", "POST", b"x" * 90_000_000).json["size"] == 90_000_000


@by_both
def test_a_websocket_is_the_apps(
    connect: Callable[[str, str], socket.socket], scheme: str, server_name: str, name: str
) -> None:
    for path, app in (("/wiki", name), ("", name.removesuffix("wiki") or "portal")):
        with connect(scheme, server_name) as sock:
            client = websocket.create_connection(f"ws://{server_name}{path}/chat", socket=sock, timeout=30)
            for message in ("hello", "x" * 100_000, "ü"):
                client.send(message)
                assert client.recv() == f"{app}:{message}"
            client.close()


@by_both
def test_an_event_is_there_when_it_is_sent(
    connect: Callable[[str, str], socket.socket], scheme: str, server_name: str, name: str
) -> None:
    client = http.client.HTTPConnection(server_name)
    with connect(scheme, server_name) as client.sock:
        client.request("GET", "/wiki/events", headers={"Host": server_name, "Accept-Encoding": "gzip"})
        answer = client.getresponse()
        assert "X-Accel-Buffering" not in answer.headers
        late = []
        while line := answer.readline():
            if line.startswith(b"data:"):
                late.append(time.time() - float(line.split()[2]))
    assert len(late) == 3 and max(late) < 0.9, late


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.2", "websocket, h2c", "h2c, websocket"])
def test_a_client_changes_to_no_other_protocol(ask: Ask, protocol: str) -> None:
    """An nginx that passes on what the client asks for lets it speak past the next one."""
    answer = ask(
        "http",
        PLAIN,
        "/environ/a",
        Connection="Upgrade, HTTP2-Settings",
        Upgrade=protocol,
        HTTP2_Settings="AAMAAABkAARAAAAAAAIAAAAA",
    )
    assert answer.status == 200
    told = json.loads(answer.text)
    if IS_FLEET:
        assert "HTTP_UPGRADE" not in told and "HTTP_CONNECTION" not in told


# Who may come in


@pytest.mark.parametrize("url", ["/closed/", "/closed/static/counter.css", "/closed/static/a", "/x/../closed/healthz"])
def test_an_app_is_for_the_addresses_that_it_allows(ask: Ask, url: str) -> None:
    for headers in ({}, {"X_Forwarded_For": "192.0.2.1"}, {"X_Real_IP": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}):
        answer = ask("https", INTRANET, url, **headers)
        assert answer.status == 403 and "X-Release" not in answer.headers


def test_an_app_is_for_the_users_that_it_names(ask: Ask) -> None:
    wrong = "Basic " + base64.b64encode(b"ann:secre").decode()
    for url in ("/members/", "/members/static/counter.css", "/members/static/none"):
        for headers in ({}, {"Authorization": wrong}, {"Authorization": "Bearer x"}):
            answer = ask("https", INTRANET, url, **headers)
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="members"')
    assert ask("https", INTRANET, "/members/environ/a", Authorization=ANN).json["REMOTE_USER"] == "ann"
    assert ask("https", INTRANET, "/members/static/counter.css", Authorization=ANN).status == 200


def test_no_app_of_others_is_told_a_user(ask: Ask) -> None:
    assert "REMOTE_USER" not in ask("https", INTRANET, "/wiki/environ/a", Authorization=ANN, Remote_User="eve").json


def test_hashes_of_passwords_are_for_nginx_alone(host: Host) -> None:
    file = host.file("/etc/nginx/passwords/members")
    assert (file.user, file.group, file.mode) == ("root", "www-data", 0o640)
    assert host.run("runuser -u nobody -- cat /etc/nginx/passwords/members").rc != 0


def test_a_client_has_so_many_requests_answered_at_once(ask: Ask) -> None:
    with ThreadPoolExecutor(6) as pool:
        statuses = Counter(
            one.status for one in pool.map(lambda _: ask("https", INTRANET, "/limited/events"), range(6))
        )
    assert statuses == {200: 3, 429: 3}


def test_who_asks_for_too_much_is_told_so_and_others_are_not_held_up(ask: Ask) -> None:
    """200 requests at once, of which 100 and what 20 a second add may pass; another app is answered meanwhile."""
    with ThreadPoolExecutor(20) as pool:
        flood = [pool.submit(ask, "https", INTRANET, "/limited/healthz") for _ in range(400)]
        probes = [ask("https", INTRANET, "/wiki/healthz").status for _ in range(20)]
        statuses = Counter(one.result().status for one in flood)
    assert probes == [200] * 20
    assert {*statuses} == {200, 429} and statuses[200] >= 20, statuses
