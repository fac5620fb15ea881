"""A fleet without an IPv4 address of its own: deploys, drains, renewals and a balancer's end, by https."""

from __future__ import annotations

import socket
import ssl
import subprocess
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import testinfra
from clients import Clients, asking, once_and_often, replace_ca
from conftest import PROJECT
from faults import Play, eventually
from load import connections
from rollouts import SERVER_NAME, unique
from testinfra.host import Host

ADDRESS = "fd00:77::110"
APP_SERVERS, BALANCERS = ("app1", "app2"), ("lb1", "lb2")
FOLDER = PROJECT / ".cache/ipv6/ca"


@cache
def host(name: str) -> Host:
    """A host of the fleet, reached through the Docker engine, also while the network does not reach it."""
    return testinfra.get_host(f"docker://molecule-ipv6-{name}")


def docker(*arguments: str) -> None:
    """Do something to a container from outside."""
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


def run(playbook: str, *arguments: str, **variables: Any) -> Play:
    """Run a playbook over all hosts to its end, which has to be a good one."""
    play = Play(playbook, host("app1"), "--limit", "all", *arguments, variables=variables)
    assert play.wait() == 0, play.output
    return play


def clients() -> AbstractContextManager[Clients]:
    """Clients of the shared address that trust each CA that there is when they begin."""
    return asking(f"https://[{ADDRESS}]", SERVER_NAME, sorted(FOLDER.glob("*.pem")), list(map(host, APP_SERVERS)))


def holders() -> list[str]:
    """The balancers that have the address."""
    return [name for name in BALANCERS if f"{ADDRESS}/" in host(name).run("ip -6 -oneline address").stdout]


def proxied(name: str) -> str:
    """The scheme by which a balancer asks app servers."""
    return host(name).check_output("grep -o 'proxy_pass [a-z]*' /etc/nginx/servers/counter.conf").split()[1]


def certificate(name: str) -> str:
    """The id of a host's certificate of the fleet's own CA."""
    return host(name).check_output("ls -t /etc/flaskfleet/tls").split()[0]


def served(name: str) -> set[str]:
    """The names of the certificate that clients are served with who ask for one."""
    context = ssl.create_default_context(cafile=str(FOLDER / "ca.pem"))
    with (
        socket.create_connection((ADDRESS, 443), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        return {value for _, value in secure.getpeercert()["subjectAltName"]}


def test_hosts_reach_each_other_by_ipv6_alone() -> None:
    for name in BALANCERS:
        configured = host(name).file("/etc/nginx/servers/counter.conf").content_string
        assert "server [fd00:77::111]:443 " in configured and "proxy_pass https://$pool;" in configured
    assert len(holders()) == 1


def test_a_client_is_led_to_https_and_trusts_it() -> None:
    """Also one that asks for the address, and so names no host in its handshake."""
    for name, url in ((SERVER_NAME, "/healthz?x"), (f"[{ADDRESS}]", "/healthz?x")):
        ask = ["curl", "-sSL", "--noproxy", "*", "--connect-to", f"::[{ADDRESS}]:", "--cacert", str(FOLDER / "ca.pem")]
        told = subprocess.run(
            [*ask, "-w", " %{url_effective} %{http_version}", f"http://{name}{url}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.stdout == f"ok https://{name}{url} 2", told.stderr


def test_an_app_server_answers_its_balancers_alone() -> None:
    """The packet filter drops the rest, and what comes through has to be a balancer's by its certificate."""
    ask = f"curl -sk -m 3 -o /dev/null -w '%{{http_code}}' -H 'Host: {SERVER_NAME}'"
    for url in ("http://[fd00:77::112]/healthz", "https://[fd00:77::112]/healthz"):
        assert host("app1").run(f"{ask} {url}".replace("curl", "curl --noproxy '*'")).stdout in ("000", "")
    own = f"/etc/flaskfleet/tls/{certificate('lb1')}"
    assert host("lb1").check_output(f"{ask} https://[fd00:77::112]/healthz") == "400"
    assert host("lb1").check_output(f"{ask} --cert {own} https://[fd00:77::112]/healthz") == "200"


def test_a_deploy_and_a_rollback_lose_no_request() -> None:
    with clients():
        run("playbooks/deploy.yml", app="counter", changed_apps={"counter": {"env": unique()}})
        run("playbooks/rollback.yml", app="counter")


def test_a_drain_loses_no_request() -> None:
    with clients():
        for name in APP_SERVERS:
            run("playbooks/drain.yml", host=name, reason="a test")
            run("playbooks/undrain.yml", host=name)


@once_and_often
def test_renewals_lose_no_request(times: int) -> None:
    """Of all hosts, as after a month; each app server is drained for its reload."""
    with clients() as asked:
        for _ in range(times):
            before = {name: certificate(name) for name in (*APP_SERVERS, *BALANCERS)}
            for name in before:
                host(name).check_output("rm /var/lib/flaskfleet/tls.fact")
            run("site.yml", "--tags", "nginx")
            assert not [name for name, one in before.items() if certificate(name) == one]
    assert connections(asked.http_2.results) > times
    assert not run("site.yml", "--tags", "nginx").changed


def test_tls_between_hosts_ends_and_begins_without_a_lost_request() -> None:
    """It does not begin while an app server answers by http alone."""
    with clients():
        run("site.yml", "--tags", "nginx", nginx_upstream_tls=False)
        run("site.yml", "--tags", "nginx", "--limit", "app2", nginx_upstream_tls=False, tls_ca_permitted=[])
        play = Play("site.yml", host("app1"), "--limit", "load_balancers", "--tags", "nginx")
        assert play.wait() != 0
        assert "answer by http and not yet by TLS: app2 ([fd00:77::112]:443: " in play.output
        assert [proxied(name) for name in BALANCERS] == ["http", "http"]
        run("site.yml", "--tags", "nginx")
    assert [proxied(name) for name in BALANCERS] == ["https", "https"]
    assert not run("site.yml", "--tags", "nginx").changed


@once_and_often
def test_changed_names_lose_no_request(times: int) -> None:
    names = [f"name{number}.example.lan" for number in range(times)]
    with clients() as asked:
        for name in names:
            before = {balancer: certificate(balancer) for balancer in BALANCERS}
            run("site.yml", "--tags", "nginx", changed_apps={"counter": {"server_names": [SERVER_NAME, ADDRESS, name]}})
            assert not [balancer for balancer, one in before.items() if certificate(balancer) == one]
            assert name in served(name)
        run("site.yml", "--tags", "nginx")
    assert connections(asked.http_2.results) > times
    assert served(SERVER_NAME).isdisjoint(names)


@once_and_often
def test_the_ca_is_replaced_without_a_lost_request(times: int) -> None:
    """Clients trust both CAs meanwhile."""
    for _ in range(times):
        before = (FOLDER / "ca.pem").read_text()
        run("playbooks/create_ca.yml", ca="next")
        with clients():
            replace_ca(FOLDER, lambda: run("site.yml"))
        assert (FOLDER / "ca.pem").read_text() != before
        assert [path.name for path in FOLDER.glob("*.pem")] == ["ca.pem"]
        with clients():  # they trust the new one alone
            pass
    assert not run("site.yml").changed


def test_the_address_moves_when_a_balancer_ends() -> None:
    (first,) = holders()
    docker("kill", f"molecule-ipv6-{first}")
    try:
        eventually(lambda: [name for name in holders() if name != first], "the address on the other balancer")
        with clients():
            pass
    finally:
        docker("start", f"molecule-ipv6-{first}")
        eventually(lambda: host(first).run("systemctl is-system-running --wait").stdout.strip() == "running", "a boot")


def test_status_finds_no_drift() -> None:
    assert "certificate fleet until " in run("playbooks/status.yml", status_strict=True).output
