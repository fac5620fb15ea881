"""Hosts that are taken out of their balancers and come back, while clients ask."""

from __future__ import annotations

import re

import pytest
from fleet import (
    APP_SERVERS,
    BALANCERS,
    app_servers,
    await_answers,
    clients,
    container,
    docker,
    done,
    fails,
    host,
    kept_out,
    live,
    problems,
    start,
    tickers,
)
from rollouts import WHO

NOTHING = {"lb1": [], "lb2": []}


def asked(name: str) -> int:
    """How many requests of the balancers a host has had."""
    return int(host(name).check_output("grep -c work /var/log/nginx/counter.access.log"))


def test_four_hard_stops_of_drained_hosts_lose_no_request() -> None:
    with clients() as load:
        for name in (*APP_SERVERS, "app1"):
            drained = done("drain", "-e", f"host={name}", reason="a new disk").output
            assert f"{name} gets no requests any more, and its last one is done: lb1, lb2" in drained
            assert kept_out() == {balancer: [name] for balancer in BALANCERS}
            before = asked(name)
            await_answers(load)
            assert asked(name) == before
            assert (sum(tickers().values()), tickers()[name]) == (1, 0), "what runs on one host has moved"
            docker("kill", container(name))
            start(name)
            assert f"{name} answers" in done("undrain", "-e", f"host={name}").output
            await_answers(load)
    assert kept_out() == {}
    assert problems(load) == {}


def test_a_drained_host_is_named_with_its_reason_and_nobody_drains_the_last_one() -> None:
    for name in ("app1", "app2"):
        done("drain", "-e", f"host={name}", reason="a new disk")
    try:
        output = fails("drain", "-e", "host=app3", reason="a new disk")
        assert re.search(
            rf"app3 can't be taken out, nobody would be left to answer: app1 is out since \S+Z, by {WHO}: a new disk; "
            "app2 is out",
            output,
        )
        assert kept_out() == {balancer: ["app1", "app2"] for balancer in BALANCERS}
    finally:
        for name in ("app1", "app2"):
            done("undrain", "-e", f"host={name}")


def test_a_reload_of_an_app_servers_nginx_loses_no_request() -> None:
    with clients() as load:
        done("site", "--tags", "nginx", nginx_client_max_body_mb=17)
        done("site", "--tags", "nginx")
    assert problems(load) == {}


@pytest.fixture
def upgradable() -> str:
    """A package of which each app server has a version before the one that the distribution has now."""
    for one in app_servers():
        one.check_output("apt-get -qq install --reinstall --yes hostname")
    return ""


def test_a_host_is_removed_and_joins_on_the_release_of_the_fleet() -> None:
    (release,) = live()
    with clients() as load:
        done("remove_host", "-e", "host=app3")
        assert live(["app1", "app2"]) == {release}
        done("deploy", "--limit", "app1,app2")
