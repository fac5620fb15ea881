"""What balancers pass on, and what happens when one of them or an app server is gone."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from faults import eventually
from fleet import (
    APP_SERVERS,
    BALANCERS,
    VIP,
    await_answers,
    clients,
    container,
    docker,
    holders,
    host,
    kill,
    problems,
    start,
)

WITHIN = 5  # seconds until the address answers again


def ask(url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Ask hello through the address."""
    connection = http.client.HTTPConnection(VIP, 80, timeout=1)
    try:
        connection.request("GET", url, headers={"Host": "hello.lab", **(headers or {})})
        answer = connection.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())
    finally:
        connection.close()


def answers() -> bool:
    """Whether the address answers."""
    with suppress(OSError, http.client.HTTPException, AssertionError):
        return bool(ask("/version"))
    return False


def test_every_app_server_answers_through_the_address() -> None:
    assert {ask("/version")["host"] for _ in range(30)} == {*APP_SERVERS}


def test_a_client_cannot_forge_its_address() -> None:
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Request-ID": "f" * 32}
    told, honest = ask("/echo", forged), ask("/echo")
    assert told["remote_addr"] == honest["remote_addr"]
    assert told["peer_addr"] in {"172.30.77.121", "172.30.77.122"}
    assert told["scheme"] == "http"
    assert "192.0.2.1" not in json.dumps(told)
    assert "f" * 32 not in json.dumps(told)


def test_one_balancer_has_the_address() -> None:
    assert len(holders()) == 1


class Fault:
    """Something that happens to a balancer, and its end."""

    def __init__(self, begin: Callable[[str], Any], heal: Callable[[str], Any]) -> None:
        self.begin, self.heal = begin, heal


CUT = "nft add table inet cut; nft 'add chain inet cut {} {{ type filter hook {} priority -300; policy drop; }}'"
FAULTS = {
    "stopped": Fault(lambda name: docker("stop", container(name)), start),
    "killed": Fault(kill, start),
    "cut off": Fault(
        lambda name: [host(name).check_output(CUT.format(way, way)) for way in ("input", "output")],
        lambda name: host(name).check_output("nft delete table inet cut"),
    ),
    "its nginx hangs": Fault(
        lambda name: host(name).check_output("pkill -STOP nginx"),
        lambda name: host(name).check_output("pkill -CONT nginx"),
    ),
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Fault:
    """Each fault in turn."""
    return FAULTS[request.param]


def test_the_address_answers_again_without_the_balancer_that_had_it(fault: Fault) -> None:
    (name,) = eventually(lambda: len(holders()) == 1 and holders(), "one holder")
    assert answers()
    fault.begin(name)
    try:
        since = time.monotonic()
        # Not the last answers of one that is going down.
        eventually(lambda: [other for other in BALANCERS if other != name and VIP in addresses(other)], "a holder")
        eventually(answers, "an answer", WITHIN)
        took = time.monotonic() - since
        print(f"answers again after {took:.1f} s")
        assert took < WITHIN
    finally:
        fault.heal(name)
    eventually(lambda: len(holders()) == 1, "one holder after healing")
    assert answers()


def addresses(name: str) -> str:
    """What addresses a host has."""
    return host(name).run("ip -4 -oneline address").stdout


@pytest.fixture
def without_app3() -> Iterator[None]:
    yield
    start("app3")


def test_a_killed_app_server_loses_only_its_own_requests(without_app3: None) -> None:
    def connections() -> int:
        shown = "ss -Htn state established dst 172.30.77.113 dport = :80 | wc -l"
        return sum(int(host(name).check_output(shown)) for name in BALANCERS)

    with clients(rate=200) as load:
        await_answers(load)
        had = connections()
        kill("app3")
        eventually(lambda: connections() == 0, "the end of what it had")
        await_answers(load)
    start("app3")
    found = problems(load)
    print(f"{len(load.results)} requests, {had} connections when it was killed: {found}")
    assert len(found.pop("failed", [])) <= had
    # A GET that it had is asked again of another one; a POST is not.
    posts = {one.number for one in load.results if one.kind == "post"}
    assert posts & found.pop("twice", {}).keys() == set()
    assert found == {}
