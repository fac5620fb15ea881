"""Certificates that balancers get of an ACME directory: issued, renewed, revoked, and what happens without it."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import testinfra
from conftest import PROJECT
from cryptography import x509
from faults import Play, eventually
from load import Load, Options
from rollouts import FIRST_NUMBERS, recorded
from testinfra.host import Host

ADDRESS, DIRECTORY = "10.12.29.10", "10.12.29.31"
BALANCERS = {"lb1": "10.12.29.21", "lb2": "10.12.29.22"}
NAMES = ["counter.example.org", "www.counter.example.org"]
STATE = "/var/lib/flaskfleet/acme"
RECORD = "/var/lib/flaskfleet/acme.fact"


@cache
def host(name: str) -> Host:
    """A container of the scenario, reached through the Docker engine, also while the network does not reach it."""
    return testinfra.get_host(f"docker://molecule-acme-{name}")


def run(playbook: str, *arguments: str, **variables: Any) -> Play:
    """Run a playbook over all hosts to its end, which has to be a good one."""
    play = Play(playbook, host("app1"), "--limit", "all", *arguments, variables=variables)
    assert play.wait() == 0, play.output
    return play


@cache
def trusted() -> str:
    """A file with the root of the CA behind the directory; pebble makes one when it starts."""
    path = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "trusted.pem"
    ask = "curl -sSf --noproxy '*' --cacert /etc/directory.pem -k https://127.0.0.1:15000/roots/0"
    path.write_text(host("directory").check_output(ask))
    return str(path)


def served(address: str, name: str = NAMES[0]) -> x509.Certificate:
    """The certificate that clients get at an address; they trust it."""
    context = ssl.create_default_context(cafile=trusted())
    with (
        socket.create_connection((address, 443), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        der = secured.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der)


def names_of(certificate: x509.Certificate) -> list[str]:
    """The names in a certificate."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(names.get_values_for_type(x509.DNSName))


def curl(*arguments: str) -> str:
    """Ask the fleet as a client that trusts the CA; what is said of the answer."""
    ask = ["curl", "-sS", "--noproxy", "*", "--connect-to", f"::{ADDRESS}:", "--cacert", trusted()]
    done = subprocess.run([*ask, "-o", "/dev/null", "-w", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@contextmanager
def clients() -> Iterator[Load]:
    """Numbered requests through the shared address while the block runs; what may not be is not."""
    number = next(FIRST_NUMBERS)
    options = Options(f"https://{ADDRESS}", host_header=NAMES[0], rate=100, first_number=number, ca=trusted())
    with Load(options) as load:
        eventually(lambda: any(not one.failed for one in load.results), "an answer")
        yield load
    twice, lost = recorded(load.results, [host("app1")])
    assert ([f"{one.due:.2f} {one.kind}: {one.reason}" for one in load.failed], twice, lost) == ([], {}, [])


def make_due(name: str) -> None:
    """Let the certificates of a balancer be due, as when two thirds of their life are over."""
    record = json.loads(host(name).file(RECORD).content_string)
    for entry in record["sites"].values():
        entry["fetched"]["since"] -= 10 * (entry["fetched"]["until"] - entry["fetched"]["since"])
        entry["served"] = entry["fetched"]
    host(name).check_output("echo %s >%s", json.dumps(record), RECORD)


@contextmanager
def directory_away() -> Iterator[None]:
    """The directory does not answer while the block runs."""
    network = ["flaskfleet-acme", "molecule-acme-directory"]
    subprocess.run(["docker", "network", "disconnect", *network], check=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "network", "connect", "--ip", DIRECTORY, *network], check=True)


def test_each_balancer_has_a_certificate_of_its_own() -> None:
    """One by a DNS record; for the other one the directory has asked whichever has the shared address."""
    found = {name: served(address) for name, address in BALANCERS.items()}
    assert [names_of(one) for one in found.values()] == [NAMES, NAMES]
    assert len({one.serial_number for one in found.values()}) == 2


def test_a_client_is_led_to_https() -> None:
    assert curl("%{http_code} %{redirect_url}", f"http://{NAMES[1]}/a?b") == f"301 https://{NAMES[1]}/a?b"
    assert curl("%{http_code} %{http_version}", f"https://{NAMES[1]}/healthz") == "200 2"


@pytest.mark.parametrize("address", BALANCERS.values())
def test_a_challenge_that_nobody_has_set_is_answered_once(address: str) -> None:
    """The balancers ask each other, and not in a circle."""
    url = f"http://{NAMES[0]}/.well-known/acme-challenge/nobody"
    assert curl("%{http_code}", "--connect-to", f"::{address}:", url) == "404"


@pytest.mark.parametrize("name", BALANCERS)
def test_a_challenge_is_answered_by_any_balancer(name: str) -> None:
    """Whichever the directory asks, and although a site sends http to https."""
    token = f"{STATE}/challenges/.well-known/acme-challenge/token-of-{name}"
    host(name).check_output(f"echo -n proof >{token}")
    for address in BALANCERS.values():
        url = f"http://{NAMES[0]}/.well-known/acme-challenge/token-of-{name}"
        ask = ["curl", "-sS", "--noproxy", "*", "--connect-to", f"::{address}:", url]
        assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout == "proof"
    host(name).check_output(f"rm {token}")


def test_keys_are_roots_alone() -> None:
    for name in BALANCERS:
        search = "grep -rl 'PRIVATE KEY' /etc /var /srv /run /tmp 2>/dev/null | xargs stat -c '%a %U %n'"
        lines = host(name).check_output(search).splitlines()
        assert [line for line in lines if "/acme/" in line]
        assert not [line for line in lines if not line.startswith("600 root ")]
        assert not host(name).run(f"runuser -u www-data -- cat {STATE}/served/counter.pem").succeeded


def test_a_renewal_is_the_hosts_own_and_loses_no_request() -> None:
    before = {name: served(address).serial_number for name, address in BALANCERS.items()}
    with clients() as load:
        for name in BALANCERS:
            assert host(name).check_output("systemctl is-active flaskfleet-acme.timer") == "active"
            make_due(name)
            host(name).check_output("systemctl start flaskfleet-acme.service")
    after = {name: served(address).serial_number for name, address in BALANCERS.items()}
    assert not {*before.values()} & {*after.values()}
    assert len(load.results) > 100
    assert not run("site.yml").changed


def test_nothing_due_asks_nobody() -> None:
    with directory_away():
        for name in BALANCERS:
            host(name).check_output("systemctl start flaskfleet-acme.service")


def test_without_the_directory_the_site_is_served_on_and_told() -> None:
    before = served(BALANCERS["lb2"]).serial_number
    make_due("lb2")
    with directory_away():
        assert not host("lb2").run("systemctl start flaskfleet-acme.service").succeeded
        assert served(BALANCERS["lb2"]).serial_number == before
        told = run("playbooks/status.yml").output
        assert re.search(r"counter has no new certificate: Problem connecting to server .*curl returned with", told), (
            told
        )
        assert not run("site.yml").changed
    host("lb2").check_output("systemctl restart flaskfleet-acme.service")
    assert served(BALANCERS["lb2"]).serial_number != before
    assert "has no new certificate" not in run("playbooks/status.yml", status_strict=True).output


def test_a_certificate_whose_key_is_lost_is_revoked_and_replaced() -> None:
    """As roles/nginx/README.md has it."""
    before = served(BALANCERS["lb1"])
    revoke = f"dehydrated --config /etc/flaskfleet/acme/dehydrated --revoke {STATE}/certs/counter/cert.pem"
    host("lb1").check_output(f"{revoke} && flaskfleet-acme counter")
    assert served(BALANCERS["lb1"]).serial_number != before.serial_number
    ask = "curl -sSf --noproxy '*' -k https://127.0.0.1:15000/cert-status-by-serial/%x"
    assert json.loads(host("directory").check_output(ask % before.serial_number))["Status"] == "Revoked"


def test_what_nginx_refuses_is_taken_back() -> None:
    """The site is served on with what it had."""
    before = served(BALANCERS["lb1"]).serial_number
    host("lb1").check_output("echo 'nonsense;' >/etc/nginx/servers/broken.conf")
    try:
        make_due("lb1")
        done = host("lb1").run("flaskfleet-acme")
        assert done.rc == 1 and 'unknown directive "nonsense"' in done.stderr
    finally:
        host("lb1").check_output("rm /etc/nginx/servers/broken.conf")
    assert served(BALANCERS["lb1"]).serial_number == before
    host("lb1").check_output("flaskfleet-acme")  # what was got then is served now
    assert served(BALANCERS["lb1"]).serial_number != before


def test_a_name_more_is_in_the_certificate_without_a_lost_request() -> None:
    names = [*NAMES, "more.counter.example.org"]
    with clients():
        run("site.yml", changed_apps={"counter": {"server_names": names}})
    assert names_of(served(ADDRESS, names[-1])) == sorted(names)
    with clients():
        run("site.yml")
    assert names_of(served(ADDRESS)) == NAMES


def test_a_wildcard_is_proved_by_a_dns_record() -> None:
    names = {"counter": {"server_names": [NAMES[0], "*.counter.example.org"]}}
    play = Play("site.yml", host("app1"), "--limit", "all", variables={"changed_apps": names})
    assert play.wait() == 2 and "'*.counter.example.org' needs a DNS record for its certificate" in play.output
    hook = str(PROJECT / "molecule/acme/dns-hook.sh")
    run("site.yml", changed_apps=names, nginx_acme_dns_hook=hook)
    assert names_of(served(ADDRESS, "any.counter.example.org")) == ["*.counter.example.org", NAMES[0]]


def test_a_name_that_the_directory_refuses_is_told() -> None:
    """By the run, which fails as its last step, and by status.yml, until the name is another."""
    names = {"hello": {"server_names": ["refused.example.org"]}}
    play = Play("site.yml", host("app1"), "--limit", "all", variables={"changed_apps": names})
    assert play.wait() == 2 and "hello has no new certificate: " in play.output, play.output
    assert "hello has no new certificate: " in run("playbooks/status.yml").output
    run("site.yml")
    assert "has no new certificate" not in run("playbooks/status.yml", status_strict=True).output


def test_without_a_directory_nothing_of_it_is_left() -> None:
    run("site.yml", nginx_acme_directory="")
    for name in BALANCERS:
        assert host(name).run("systemctl is-active flaskfleet-acme.timer").stdout.strip() == "inactive"
        assert not host(name).file("/etc/flaskfleet/acme/dehydrated").exists
    assert curl("%{http_code}", f"http://{NAMES[0]}/healthz") == "200"
    run("site.yml")
    assert names_of(served(ADDRESS)) == NAMES
