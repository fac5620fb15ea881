"""Hosts that do not fit together are refused before the first change."""

from __future__ import annotations

import re
from typing import Any

import pytest
from plugin_utils.fleet_checks import check_fleet

FLEET = {"app_servers": ["app1", "app2"], "load_balancers": ["lb1", "lb2"]}


def fleet(**changed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The valid variables of a fleet, changed for some hosts."""
    app = {"source": {"path": "/x"}, "wsgi": "blog:app", "server_names": ["blog.lan"]}
    hosts = {
        "app1": {"ansible_host": "10.0.0.1", "flask_apps": {"blog": app}},
        "app2": {"ansible_host": "10.0.0.2", "flask_apps": {"blog": app}},
        "lb1": {"ansible_host": "10.0.0.3", "keepalived_virtual_ip": "10.0.0.9"},
        "lb2": {"ansible_host": "10.0.0.4", "keepalived_virtual_ip": "10.0.0.9"},
    }
    return {name: {**variables, **changed.get(name, {})} for name, variables in hosts.items()}


def test_nothing_is_wrong_with_a_fleet() -> None:
    assert check_fleet(FLEET, fleet()) == []


OTHER = {"blog": {"source": {"path": "/x"}, "wsgi": "blog:app", "server_names": ["other.lan"]}}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"app2": {"flask_apps": OTHER}}, "flask_apps.blog.server_names: have no name in common on all app servers"),
        ({"lb2": {"keepalived_virtual_ip": "10.0.0.8"}}, "keepalived_virtual_ip: .* differs between balancers"),
        (
            {"lb1": {"ansible_host": "10.0.0.9"}},
            "keepalived_virtual_ip: '10.0.0.9' is lb1's own address; choose",
        ),
        ({"app1": {"ansible_host": "no.such.name.invalid"}}, "base_address: .* of app1 can't be resolved"),
        ({"app2": {"ansible_host": "10.0.0.1"}}, "base_address: '10.0.0.1' is the address of app1, too; give app2 its"),
        ({"lb1": {"ansible_host": "127.0.1.1"}}, "base_address: '127.0.1.1' is no address .* others reach lb1; give"),
        ({"app1": {"base_address": "fd00::1"}}, "base_address: 'fd00::1' of app1 is no IPv4 address"),
        ({"app1": {"nginx_client_max_body_mb": 200}}, "nginx_client_max_body_mb: .*'lb1': 100.* is less on a balancer"),
    ],
    ids=[
        "no name in common",
        "two virtual addresses",
        "a virtual address that is taken",
        "no address",
        "the same address",
        "an address of its own",
        "IPv6",
        "a limit of the balancer's",
    ],
)
def test_problems_between_hosts_are_reported(changed: dict[str, dict[str, Any]], words: str) -> None:
    (problem,) = check_fleet(FLEET, fleet(**changed))
    assert re.search(words, str(problem)), problem


def test_a_host_is_of_one_kind() -> None:
    (problem,) = check_fleet({**FLEET, "load_balancers": ["lb1", "app1"]}, fleet())
    assert str(problem).startswith("load_balancers: 'app1' can't be an app server, too")


def test_balancers_without_app_servers_are_refused() -> None:
    (problem,) = check_fleet({"load_balancers": ["lb1", "lb2"]}, fleet())
    assert "has no host that load_balancers could send requests to" in str(problem)


def test_a_host_name_that_nginx_cannot_have_is_refused() -> None:
    hosts = {**fleet(), "a b": fleet()["app1"]}
    (problem,) = check_fleet({**FLEET, "app_servers": ["a b"]}, hosts)
    assert "is no name for a host behind a balancer" in str(problem)
