"""Apps over https: what clients are served with, what is refused, and what a renewal costs."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import testinfra
from certificates import issue
from clients import TIMES, asking, once_and_often, replace_ca
from conftest import PROJECT, Answer, App
from faults import Play
from load import connections
from rollouts import address as address_of
from testinfra.backend.base import CommandResult
from testinfra.host import Host

testinfra_hosts = ["ansible://app_servers"]
FOLDER = PROJECT / ".cache/https"
HELLO, COUNTER, PLAIN, OWN = "hello.example.lan", "counter.example.lan", "plain.example.lan", "own.example.org"
NAMES = {"hello": (HELLO, "molecule-tls1", "molecule-tls2"), "lan": ("*.example.lan",), "own": (OWN, f"*.{OWN}")}
SCANNER = PROJECT / ".cache/molecule/https-tools/bin/python"


@contextmanager
def connection(address: str, name: str | None, **options: Any) -> Iterator[ssl.SSLSocket]:
    """A connection to a host's port of https that asks for a name, and believes the tests' and the fleet's CA alone."""
    context = ssl.create_default_context(cafile=str(FOLDER / "ca.pem"))
    context.load_verify_locations(FOLDER / "ca/ca.pem")
    context.check_hostname = bool(name)
    for option, value in options.items():
        getattr(context, option)(value) if callable(getattr(context, option)) else setattr(context, option, value)
    with (
        socket.create_connection((address, 443), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        yield secure


def serial(address: str, name: str) -> str:
    """The serial number of the certificate that a name is served with."""
    with connection(address, name) as secure:
        return str(secure.getpeercert()["serialNumber"])


@pytest.fixture(scope="module")
def get_https(address: str) -> Callable[..., Answer]:
    """``get_https(url, server_name)`` asks as :func:`get` does, by https; ``host`` may differ from the name."""

    def ask(url: str, server_name: str, *, host: str = "", method: str = "GET", body: Any = None) -> Answer:
        with connection(address, server_name) as secure:
            client = http.client.HTTPConnection(address)
            client.sock = secure
            client.request(method, url, body, {"Host": host or server_name})
            answer = client.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    return ask


# What clients are served


def test_an_app_is_at_a_path_of_a_name_with_another_certificate(get_https) -> None:
    """More about paths: the scenario ingress."""
    assert get_https("/own/healthz", "apps.example.lan").text == "ok"
    assert "max-age" in get_https("/own/static/counter.css", "apps.example.lan").headers["Cache-Control"]
    assert get_https("/healthz", "apps.example.lan").status == 404


def test_an_app_knows_that_its_client_came_by_https(get_https) -> None:
    echo = get_https("/echo", HELLO, method="POST", body=b"x" * 5000).json
    assert (echo["scheme"], echo["host"], echo["body"]["size"]) == ("https", HELLO, 5000)
    assert (echo["environ"]["SERVER_PORT"], echo["environ"]["HTTPS"]) == ("443", "on")
    assert echo["headers"]["X-Forwarded-Proto"] == "https"


def test_static_files_come_over_https(get_https, hello) -> None:
    assert get_https(hello.static, HELLO).body == hello.source.read_bytes()


@pytest.mark.parametrize(
    ("name", "certificate"),
    [(HELLO, "hello"), (COUNTER, "lan"), (OWN, "own"), (f"a.{OWN}", "own")],
)
def test_a_name_is_served_with_the_certificate_that_covers_it(address: str, name: str, certificate: str) -> None:
    with connection(address, name) as secure:
        names = {value for _, value in secure.getpeercert()["subjectAltName"]}
    assert names == {*NAMES[certificate]}


def test_http_2_is_spoken(address: str) -> None:
    with connection(address, HELLO, set_alpn_protocols=["h2", "http/1.1"]) as secure:
        assert secure.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308)])
def test_http_leads_to_https(get, method: str, status: int) -> None:
    answer = get("/echo?a=%2F&b", HELLO, method=method, body=b"x" if status == 308 else None)
    assert (answer.status, answer.headers["Location"]) == (status, f"https://{HELLO}/echo?a=%2F&b")


def test_an_app_without_https_is_served_by_http_only(get, address: str) -> None:
    assert get("/healthz", PLAIN).status == 200
    with pytest.raises(ssl.SSLError, match="unrecognized name"), connection(address, PLAIN):
        pass


def test_a_client_that_comes_back_is_spared_a_handshake(address: str) -> None:
    context = ssl.create_default_context(cafile=str(FOLDER / "ca.pem"))
    session = None
    for _ in range(2):
        with (
            socket.create_connection((address, 443), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname=HELLO, session=session) as secure,
        ):
            secure.sendall(f"GET /healthz HTTP/1.1\r\nHost: {HELLO}\r\nConnection: close\r\n\r\n".encode())
            assert secure.recv(12) == b"HTTP/1.1 200"
            session, reused = secure.session, secure.session_reused
    assert reused


# HTTP/3


@pytest.fixture
def curl(host: Host) -> Callable[..., CommandResult]:
    """``curl(name, path, …)`` asks the host from itself, by HTTP/3 alone."""
    if not host.system_info.release.startswith("13"):
        pytest.skip("Debian 12 has no HTTP/3")

    def ask(name: str, path: str = "/healthz", *arguments: str) -> CommandResult:
        own = ["--http3-only", "--include", "--silent", "--show-error", "--max-time", "30"]
        return host.run(
            shlex.join(["curl", *own, "--connect-to", "::127.0.0.1:443", *arguments, f"https://{name}{path}"])
        )

    return ask


def test_http_3_is_spoken(curl: Callable[..., CommandResult], hello: App) -> None:
    answer = curl(HELLO, "/echo")
    assert answer.stdout.startswith("HTTP/3 200"), answer.stderr
    echo = json.loads(re.split(r"\r?\n\r?\n", answer.stdout, maxsplit=1)[1])
    assert (echo["scheme"], echo["host"]) == ("https", HELLO)
    assert echo["environ"]["SERVER_PROTOCOL"] == "HTTP/3.0"
    assert hello.source.read_text() in curl(HELLO, hello.static).stdout


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize("path", ["/healthz", "/static/hello.css", "/static/none.css"])
def test_clients_of_https_are_told_of_http_3(get_https, get, path: str) -> None:
    assert get_https(path, HELLO).headers["Alt-Svc"] == 'h3=":443"; ma=86400'
    assert get(path, PLAIN).headers["Alt-Svc"] is None


def test_http_3_refuses_what_https_refuses(curl: Callable[..., CommandResult]) -> None:
    for name in ("other.example.lan", PLAIN):
        refused = curl(name)
        assert refused.rc in (7, 95) and not refused.stdout  # CURLE_COULDNT_CONNECT, CURLE_HTTP3: in the handshake
    assert curl(COUNTER, "/healthz", "--header", f"Host: {HELLO}").stdout.startswith("HTTP/3 421")


def test_a_renewal_leaves_http_3_at_work(host: Host, curl: Callable[..., CommandResult]) -> None:
    """The new workers serve its port once the old ones are gone."""
    issue(FOLDER, "hello", *NAMES["hello"])
    assert site(host).changed
    assert curl(HELLO, "/healthz", "--retry", "5", "--retry-all-errors").stdout.startswith("HTTP/3 200")


def test_http_3_is_refused_where_nginx_has_none(host: Host) -> None:
    if host.system_info.release.startswith("13"):
        pytest.skip("Debian 13 has HTTP/3")
    play = Play("site.yml", host, variables={"nginx_http3": True})
    assert play.wait() != 0
    assert "nginx_http3: True: nginx of Debian 12" in play.output and "has no HTTP/3" in play.output
    assert "Nothing was changed." in play.output


# What is refused


@pytest.mark.parametrize("name", ["other.example.lan", "example.lan", None])
def test_a_name_that_is_nobodys_is_refused_in_the_handshake(address: str, name: str | None) -> None:
    with pytest.raises(ssl.SSLError, match="unrecognized name"), connection(address, name):
        pass


def test_a_host_with_another_certificate_than_the_connection_is_refused(get_https) -> None:
    assert get_https("/healthz", COUNTER, host=HELLO).status == 421
    assert get_https("/healthz", HELLO, host=COUNTER).status == 421


def test_a_host_that_is_nobodys_gets_no_answer(get_https) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        get_https("/healthz", HELLO, host="other.example.lan")


def test_http_on_the_port_of_https_is_refused(address: str) -> None:
    client = http.client.HTTPConnection(address, 443, timeout=30)
    client.request("GET", "/", headers={"Host": HELLO})
    assert client.getresponse().status == 400
    client.close()


def test_tls_is_as_mozillas_intermediate_profile_has_it(address: str) -> None:
    profile = ["--mozilla_config=intermediate", f"--certinfo_ca_file={FOLDER}/ca/ca.pem", f"--sni={OWN}"]
    scan = subprocess.run(
        [SCANNER, "-m", "sslyze", *profile, f"{address}:443"], text=True, capture_output=True, check=False
    )
    assert (scan.returncode, "OK - Compliant." in scan.stdout) == (0, True), scan.stdout[-3000:]


# Keys


def lines_of(key: Path) -> list[str]:
    """The lines of a key, without those that all keys have."""
    return [line for line in key.read_text().splitlines() if not line.startswith("-----")]


def test_a_key_is_roots_alone(host: Host) -> None:
    issued = host.check_output("ls /etc/flaskfleet/tls/*.pem").split()
    for path in ("/etc/nginx/tls/hello.pem", "/etc/nginx/tls/lan.pem", *issued):
        file = host.file(path)
        assert (file.user, file.mode) == ("root", 0o600)
    assert host.file("/etc/flaskfleet/tls").mode == 0o700
    key = host.check_output("grep -A1 'BEGIN.*PRIVATE KEY' /etc/nginx/tls/hello.pem | tail -1")
    found = host.run("grep -rlF %s /etc /var /srv /run /tmp 2>/dev/null", key)
    assert found.stdout.split() == ["/etc/nginx/tls/hello.pem"]


def test_no_run_shows_a_key(host: Host, tmp_path: Path) -> None:
    secrets = ["canary-of-a-passphrase", *lines_of(FOLDER / "hello.key"), *lines_of(FOLDER / "lan.key")]
    issue(FOLDER, "hello", *NAMES["hello"])
    secrets += lines_of(FOLDER / "hello.key")
    host.check_output("rm /var/lib/flaskfleet/tls.fact")  # so that the fleet's CA issues one, too
    for arguments in (["--check", "--diff", "-vvv"], ["--diff", "-vvv"]):
        play = Play("site.yml", host, "--tags", "nginx", *arguments)
        assert play.wait() == 0, play.output
        assert "/etc/nginx/tls/hello.pem" in play.output
        assert not [secret for secret in secrets if secret in play.output]
    written = "".join(
        host.check_output("cat %s", path) for path in host.check_output("ls /etc/flaskfleet/tls/*").split()
    )
    journal = host.check_output("journalctl --no-pager -o cat")
    assert not [secret for secret in secrets if secret in journal]
    assert "PRIVATE KEY" in written and "PRIVATE KEY" not in play.output + journal


# Renewals. Only what they are about is run: the roles tls and nginx.


def site(host: Host, **variables: Any) -> Play:
    """Run site.yml to its end, which has to be a good one."""
    play = Play("site.yml", host, "--tags", "nginx", variables=variables)
    assert play.wait() == 0, play.output
    return play


@once_and_often
def test_a_renewal_loses_no_request(host: Host, address: str, times: int) -> None:
    with asking(f"https://{address}", COUNTER, [FOLDER / "ca.pem"], [host]) as clients:
        for _ in range(times):
            before = {serial(address, HELLO), serial(address, COUNTER)}
            for name in ("hello", "lan"):
                issue(FOLDER, name, *NAMES[name])
            assert site(host).changed
            assert before.isdisjoint({serial(address, HELLO), serial(address, COUNTER)})
    assert connections(clients.http_2.results) > times
    assert not site(host).changed


def test_a_certificate_of_the_fleets_ca_is_renewed_before_it_expires(host: Host, address: str) -> None:
    """As after 61 of its 90 days: the host's record has the date."""
    before = serial(address, OWN)
    record = json.loads(host.file("/var/lib/flaskfleet/tls.fact").content_string)
    late = json.dumps({**record, "until": record["until"] - 61 * 86400})
    host.check_output("echo %s >/var/lib/flaskfleet/tls.fact", late)
    with asking(f"https://{address}", OWN, [FOLDER / "ca/ca.pem"], [host], "own"):
        assert site(host).changed
        assert serial(address, OWN) != before
    assert not site(host).changed


@pytest.mark.slow
def test_the_fleets_ca_issues_another_certificate_for_other_names(host: Host, address: str) -> None:
    with asking(f"https://{address}", OWN, [FOLDER / "ca/ca.pem"], [host], "own") as clients:
        for number in range(TIMES):
            name = f"new{number}.{OWN}.example.org"
            other = {"own": {"server_names": [OWN, name]}}
            site(host, changed_apps=other)
            with connection(address, name):
                pass
            with pytest.raises(ssl.SSLError, match="unrecognized name"), connection(address, f"a.{OWN}"):
                pass
        assert not site(host, changed_apps=other).changed
        site(host)
    assert connections(clients.http_2.results) > TIMES
    with connection(address, f"a.{OWN}"):
        pass


@pytest.mark.slow
def test_the_fleets_ca_is_replaced_without_a_lost_request() -> None:
    """On both hosts at once, because they have the same CA."""
    hosts = [testinfra.get_host(f"docker://{name}") for name in ("molecule-tls1", "molecule-tls2")]

    def run(playbook: str, **variables: Any) -> Play:
        play = Play(playbook, hosts[0], "--limit", "all", variables=variables)
        assert play.wait() == 0, play.output
        return play

    for _ in range(TIMES):
        before = (FOLDER / "ca/ca.pem").read_text()
        run("playbooks/create_ca.yml", ca="next")
        with ExitStack() as stack:
            for one in hosts:
                url = f"https://{address_of(one)}"
                stack.enter_context(asking(url, OWN, sorted((FOLDER / "ca").glob("*.pem")), [one], "own"))
            replace_ca(FOLDER / "ca", lambda: run("site.yml"))
        assert (FOLDER / "ca/ca.pem").read_text() != before
        for one in hosts:
            assert serial(address_of(one), OWN)
    assert not run("site.yml").changed


def test_a_name_that_the_fleets_ca_is_not_for_is_refused(host: Host) -> None:
    play = Play("site.yml", host, variables={"changed_apps": {"own": {"server_names": ["own.example.net"]}}})
    assert play.wait() != 0
    assert "server_names: 'own.example.net' is none that the fleet's CA may issue a certificate for" in play.output


@pytest.fixture
def given() -> Iterator[None]:
    """After the test the files of the certificate are as before."""
    files = {path: path.read_bytes() for path in FOLDER.glob("hello.*")}
    yield
    for path, content in files.items():
        path.write_bytes(content)
    (FOLDER / "hello.key").chmod(0o600)


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (
            lambda: (FOLDER / "hello.key").write_bytes((FOLDER / "lan.key").read_bytes()),
            "is not the key of the certificate",
        ),
        (lambda: (FOLDER / "hello.key").chmod(0o644), r"is open to others on the controller \(mode 0644\)"),
        (
            lambda: issue(FOLDER, "hello", HELLO),
            "server_names: 'molecule-tls[12]' is none that the fleet's CA may issue",
        ),
    ],
    ids=["another key", "open key", "name not covered"],
)
def test_a_certificate_that_can_not_be_used_changes_nothing(
    host: Host, address: str, break_it: Callable[[], Any], words: str
) -> None:
    before = serial(address, HELLO)
    break_it()
    play = Play("site.yml", host)
    assert play.wait() != 0
    assert re.search(words, play.output), play.output
    assert "Nothing was changed." in play.output
    assert serial(address, HELLO) == before


def test_status_tells_how_long_a_certificate_lasts(host: Host) -> None:
    play = Play("playbooks/status.yml", host)
    assert play.wait() == 0, play.output
    assert re.search(r"certificate hello until \d{4}-\d\d-\d\d, \d+ days left, issued by ", play.output)
    (told,) = json.loads((PROJECT / "reports/fleet.json").read_text())["hosts"]
    assert [one["name"] for one in told["certificates"]] == ["hello", "lan", "fleet"]


@pytest.mark.slow
def test_without_certificates_there_is_http_alone(host: Host, address: str, get) -> None:
    try:
        site(host, nginx_certificates={}, tls_ca_permitted=[])
        assert get("/echo", HELLO).json["scheme"] == "http"
        assert host.run("ls /etc/nginx/tls").stdout == ""
        with pytest.raises(ConnectionRefusedError), connection(address, HELLO):
            pass
    finally:
        site(host)
    assert serial(address, HELLO)
