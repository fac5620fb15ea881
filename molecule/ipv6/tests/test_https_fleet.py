"""A fleet by https, at each of its shared addresses: deploys, drains, renewals and a balancer's end."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from clients import Clients, asking, once_and_often, replace_ca
from conftest import PROJECT
from faults import Play, eventually
from load import connections
from rollouts import SERVER_NAME, unique
from testinfra.host import Host

SCENARIO = Path(__file__).parents[1]
GROUPS = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text())
APP_SERVERS, BALANCERS = (GROUPS[group]["hosts"] for group in ("app_servers", "load_balancers"))
ADDRESSES = [value for key, value in BALANCERS["lb1"].items() if key.endswith("virtual_ip")]
FOLDER = PROJECT / ".cache" / SCENARIO.name / "ca"


def container(name: str) -> str:
    """The container of a host."""
    return f"{BALANCERS['lb1']['lab_prefix']}-{name}"


def bracketed(address: str) -> str:
    """An address as it is in a URL."""
    return f"[{address}]" if ":" in address else address


@cache
def host(name: str) -> Host:
    """A host of the fleet, reached through the Docker engine, also while the network does not reach it."""
    return testinfra.get_host(f"docker://{container(name)}")


def docker(*arguments: str) -> None:
    """Do something to a container from outside."""
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


def run(playbook: str, *arguments: str, **variables: Any) -> Play:
    """Run a playbook over all hosts to its end, which has to be a good one."""
    play = Play(playbook, host("app1"), "--limit", "all", *arguments, variables=variables)
    assert play.wait() == 0, play.output
    return play


@contextmanager
def clients() -> Iterator[list[Clients]]:
    """Clients of each shared address that trust each CA that there is when they begin."""
    trusted, hosts = sorted(FOLDER.glob("*.pem")), list(map(host, APP_SERVERS))
    with ExitStack() as stack:
        yield [
            stack.enter_context(asking(f"https://{bracketed(address)}", SERVER_NAME, trusted, hosts))
            for address in ADDRESSES
        ]


def connections_of(asked: list[Clients]) -> int:
    """How many connections the clients over HTTP/2 of an address opened, the fewest."""
    return min(connections(one.http_2.results) for one in asked)


def holders() -> list[str]:
    """The balancers that have the shared addresses: all of them or none."""
    own = {name: host(name).run("ip -oneline address").stdout for name in BALANCERS}
    number = {name: sum(f" {address}/" in own[name] for address in ADDRESSES) for name in BALANCERS}
    return [name for name in BALANCERS if number[name] == len(ADDRESSES)]


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
        socket.create_connection((ADDRESSES[0], 443), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        return {value for _, value in secure.getpeercert()["subjectAltName"]}


def test_balancers_reach_app_servers_by_their_addresses_in_the_inventory() -> None:
    for name in BALANCERS:
        configured = host(name).file("/etc/nginx/servers/counter.conf").content_string
        assert "proxy_pass https://$pool;" in configured
        for app_server in APP_SERVERS.values():
            assert f"server {bracketed(app_server['ansible_host'])}:443 " in configured
    assert len(holders()) == 1


@pytest.mark.parametrize("address", map(bracketed, ADDRESSES))
def test_a_client_is_led_to_https_and_trusts_it(address: str) -> None:
    """Also one that asks for the address, and so names no host in its handshake."""
    for name in (SERVER_NAME, address):
        ask = ["curl", "-sSL", "--noproxy", "*", "--connect-to", f"::{address}:", "--cacert", str(FOLDER / "ca.pem")]
        told = subprocess.run(
            [*ask, "-w", " %{url_effective} %{http_version}", f"http://{name}/healthz?x"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.stdout == f"ok https://{name}/healthz?x 2", told.stderr


@pytest.mark.parametrize("key", [key for key in ("ansible_host", "lab_second_address") if key in APP_SERVERS["app2"]])
def test_an_app_server_answers_its_balancers_alone(key: str) -> None:
    """The packet filter drops the rest, and what comes through has to be a balancer's by its certificate."""
    asked = f"{bracketed(APP_SERVERS['app2'][key])}/healthz"
    ask = f"curl --noproxy '*' -sk -m 3 -o /dev/null -w '%{{http_code}}' -H 'Host: {SERVER_NAME}'"
    for scheme in ("http", "https"):
        assert host("app1").run(f"{ask} {scheme}://{asked}").stdout in ("000", "")
    own = f"/etc/flaskfleet/tls/{certificate('lb1')}"
    if key == "ansible_host":
        assert host("lb1").check_output(f"{ask} https://{asked}") == "400"
        assert host("lb1").check_output(f"{ask} --cert {own} https://{asked}") == "200"
    else:
        assert host("lb1").run(f"{ask} https://{asked}").stdout == "000"  # balancers have their other address only


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
    assert connections_of(asked) > times
    assert not run("site.yml", "--tags", "nginx").changed


def test_tls_between_hosts_ends_and_begins_without_a_lost_request() -> None:
    """It does not begin while an app server answers by http alone."""
    with clients():
        run("site.yml", "--tags", "nginx", nginx_upstream_tls=False)
        run("site.yml", "--tags", "nginx", "--limit", "app2", nginx_upstream_tls=False, tls_ca_permitted=[])
        play = Play("site.yml", host("app1"), "--limit", "load_balancers", "--tags", "nginx")
        assert play.wait() != 0
        address = bracketed(APP_SERVERS["app2"]["ansible_host"])
        assert f"answer by http and not yet by TLS: app2 ({address}:443: " in play.output
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
            changed = {"counter": {"server_names": [SERVER_NAME, *ADDRESSES, name]}}
            run("site.yml", "--tags", "nginx", changed_apps=changed)
            assert not [balancer for balancer, one in before.items() if certificate(balancer) == one]
            assert name in served(name)
        run("site.yml", "--tags", "nginx")
    assert connections_of(asked) > times
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


def test_the_addresses_move_when_a_balancer_ends() -> None:
    (first,) = holders()
    docker("kill", container(first))
    try:
        eventually(lambda: [name for name in holders() if name != first], "the addresses on the other balancer")
        with clients():
            pass
    finally:
        docker("start", container(first))
        eventually(lambda: host(first).run("systemctl is-system-running --wait").stdout.strip() == "running", "a boot")


def test_status_finds_no_drift() -> None:
    assert "certificate fleet until " in run("playbooks/status.yml", status_strict=True).output
