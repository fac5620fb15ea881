"""What runs do to apps that share a name: nobody else loses a request, and no access rule has a gap."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import testinfra
import websocket
from clients import asking
from conftest import PROJECT
from faults import Play
from testinfra.host import Host

SCENARIO = Path(__file__).parents[1]
IS_FLEET = SCENARIO.name == "ingress"
testinfra_hosts = ["docker://molecule-ingress-lb1" if IS_FLEET else "ansible://app_servers"]
INTRANET = "intranet.example.lan"
CA = PROJECT / ".cache" / SCENARIO.name / "ca/ca.pem"
in_a_fleet = pytest.mark.skipif(not IS_FLEET, reason="there is one server")


@pytest.fixture
def servers(host: Host) -> list[Host]:
    """The app servers behind the host that clients ask, or itself."""
    names = [f"molecule-ingress-app{number}" for number in (1, 2)]
    return [testinfra.get_host(f"docker://{name}") for name in names] if IS_FLEET else [host]


def run(playbook: str, on: Host, /, **variables: Any) -> Play:
    """Run a playbook to its end, which has to be a good one."""
    play = Play(playbook, on, *(["--limit", "all"] if IS_FLEET else []), variables=variables)
    assert play.wait() == 0, play.output
    return play


def status(address: str, url: str, **headers: str) -> int:
    """The status of an answer, by a connection of its own."""
    context = ssl.create_default_context(cafile=str(CA))
    client = http.client.HTTPSConnection(INTRANET, context=context, timeout=60)
    client.sock = context.wrap_socket(socket.create_connection((address, 443), 60), server_hostname=INTRANET)
    try:
        client.request("GET", url, headers=headers)
        return client.getresponse().status
    finally:
        client.close()


ANN = {"Authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}
WANTED = [("/closed/", {}, 403), ("/members/", {}, 401), ("/members/", ANN, 200), ("/limited/", {}, 200)]


@contextmanager
def watched(address: str) -> Iterator[None]:
    """Ask all the time while the block runs: nobody may be locked out, and nobody let in."""
    told: Counter[tuple[str, int, int]] = Counter()
    ends = threading.Event()

    def watch() -> None:
        while not ends.wait(0.1):
            for url, headers, wanted in WANTED:
                told[url, wanted, status(address, url, **headers)] += 1

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
    assert told and all(wanted == found for _, wanted, found in told), told


def test_an_app_comes_moves_and_goes_while_the_others_are_asked(host: Host, address: str, servers: list[Host]) -> None:
    moved = {"path12": {"urls": [f"{INTRANET}/moved/path12"]}}
    with asking(f"https://{address}/counter", INTRANET, [CA], servers):
        run("site.yml", host, gone_apps=["hello", "path12"])
        assert status(address, "/path12/") == 404
        run("playbooks/remove_app.yml", host, app="path12", purge=True, gone_apps=["hello", "path12"])
        run("site.yml", host)
        assert status(address, "/path12/") == 200
        run("site.yml", host, changed_apps=moved)
        assert (status(address, "/path12/"), status(address, "/moved/path12/")) == (404, 200)
        run("site.yml", host)
    assert status(address, "/path12/") == 200


def test_a_websocket_lives_on_while_its_app_is_deployed_and_ends_with_its_release(host: Host, address: str) -> None:
    """What is said before the switch is answered; the run waits for it, at most as long as a request may take."""
    context = ssl.create_default_context(cafile=str(CA))
    secure = context.wrap_socket(socket.create_connection((address, 443), 60), server_hostname=INTRANET)
    client = websocket.create_connection(f"ws://{INTRANET}/wiki/chat", socket=secure, timeout=30)
    play = Play("playbooks/deploy.yml", host, *(["--limit", "all"] if IS_FLEET else []),
                variables={"changed_apps": {"wiki": {"env": {"NUMBER": "1"}}}})  # fmt: skip
    client.send("before")
    assert client.recv() == "wiki:before"
    with pytest.raises((websocket.WebSocketException, OSError)):
        client.recv()  # nothing more comes: the app waits for the client until its time is over
    assert play.wait() == 0, play.output
    assert status(address, "/wiki/") == 200


def test_an_app_under_maintenance_leaves_the_others_alone(host: Host, address: str, servers: list[Host]) -> None:
    with asking(f"https://{address}/counter", INTRANET, [CA], servers):
        run("playbooks/maintenance.yml", host, app="path12", reason="a move")
        assert [status(address, url) for url in ("/path12/", "/path12/static/counter.css", "/path11/")] == [
            503,
            503,
            200,
        ]
        told = run("playbooks/status.yml", host).output
        assert re.search(r"maintenance\s+path12 since \S+Z: a move", told)
        run("playbooks/maintenance.yml", host, app="path12", maintenance=False)
        assert status(address, "/path12/") == 200


@in_a_fleet
def test_access_rules_hold_while_hosts_are_drained_and_undrained(host: Host, address: str) -> None:
    with watched(address):
        run("playbooks/drain.yml", host, host="app1", reason="a test")
        run("playbooks/undrain.yml", host, host="app1")
        run("playbooks/drain.yml", host, host="app2", reason="a test")
        run("playbooks/undrain.yml", host, host="app2")


def test_access_rules_hold_while_their_app_is_deployed(host: Host, address: str) -> None:
    for number in (1, 2):
        changed = {name: {"env": {"NUMBER": str(number)}} for name in ("closed", "members", "limited")}
        with watched(address):
            play = run("playbooks/deploy.yml", host, changed_apps=changed)
        assert play.changed


@in_a_fleet
def test_a_load_balancer_asks_an_app_that_is_closed_to_it(host: Host) -> None:
    """Or a host would be undrained without knowing whether the app answers through the load balancer."""
    for app in ("closed", "members"):
        ask = f"curl -s -o /dev/null -w '%{{http_code}}' -k --connect-to ::127.0.0.1: https://{INTRANET}/{app}/healthz"
        assert host.check_output(ask) == "200"


def test_a_run_that_has_nothing_to_do_changes_nothing(host: Host) -> None:
    assert run("site.yml", host).changed == 0


def test_hashes_of_passwords_are_in_no_output(host: Host) -> None:
    """Also where they change."""
    changed = {"members": {"basic_auth": {"eve": "$5$canary$canary"}}}
    play = Play("site.yml", host, "-vvv", "--check", "--diff", *(["--limit", "all"] if IS_FLEET else []),
                variables={"changed_apps": changed})  # fmt: skip
    assert play.wait() == 0, play.output
    assert "passwords/members" in play.output and "$5$" not in play.output
