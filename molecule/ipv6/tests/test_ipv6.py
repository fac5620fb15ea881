"""A fleet without an IPv4 address of its own: deploys, drains, renewals and a balancer's end, by https."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import testinfra
from conftest import PROJECT
from faults import Play, eventually
from load import Load, Options
from rollouts import FIRST_NUMBERS, SERVER_NAME, recorded, unique
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


@contextmanager
def clients(url: str = f"https://[{ADDRESS}]") -> Iterator[Load]:
    """Numbered requests through the shared address while the block runs; what may not be is not."""
    trusted = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "trusted.pem"
    trusted.write_text("".join(path.read_text() for path in sorted(FOLDER.glob("*.pem"))))
    number = next(FIRST_NUMBERS)
    with Load(Options(url, host_header=SERVER_NAME, rate=100, first_number=number, ca=str(trusted))) as load:
        eventually(lambda: any(not one.failed for one in load.results), "an answer")
        yield load
    twice, lost = recorded(load.results, list(map(host, APP_SERVERS)))
    assert ([f"{one.due:.2f} {one.kind}: {one.reason}" for one in load.failed], twice, lost) == ([], {}, [])


def holders() -> list[str]:
    """The balancers that have the address."""
    return [name for name in BALANCERS if f"{ADDRESS}/" in host(name).run("ip -6 -oneline address").stdout]


def proxied(name: str) -> str:
    """The scheme by which a balancer asks app servers."""
    return host(name).check_output("grep -o 'proxy_pass [a-z]*' /etc/nginx/servers/counter.conf").split()[1]


def certificate(name: str) -> str:
    """The id of a host's certificate of the fleet's own CA."""
    return host(name).check_output("ls -t /etc/flaskfleet/tls").split()[0]


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


def test_renewals_lose_no_request() -> None:
    """Of all hosts, as after a month; each app server is drained for its reload."""
    before = {name: certificate(name) for name in (*APP_SERVERS, *BALANCERS)}
    for name in before:
        host(name).check_output("rm /var/lib/flaskfleet/tls.fact")
    with clients() as load:
        run("site.yml", "--tags", "nginx")
    assert not [name for name, one in before.items() if certificate(name) == one]
    assert len(load.results) > 500
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


def test_the_ca_is_replaced_without_a_lost_request() -> None:
    """The three steps of roles/tls/README.md; clients trust both CAs meanwhile."""
    run("playbooks/create_ca.yml", ca="next")
    with clients():
        run("site.yml")
        for old, new in (("ca", "old"), ("next", "ca")):
            for kind in ("pem", "key"):
                (FOLDER / f"{old}.{kind}").rename(FOLDER / f"{new}.{kind}")
        run("site.yml")
        for kind in ("pem", "key"):
            (FOLDER / f"old.{kind}").unlink()
        run("site.yml")
    context = ssl.create_default_context(cafile=str(FOLDER / "ca.pem"))
    assert len(context.get_ca_certs()) == 1
    with clients() as load:
        eventually(lambda: len(load.results) > 50, "answers to clients that trust the new CA alone")
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
