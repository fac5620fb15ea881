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


def of_ipv6(**changed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The fleet with IPv6 addresses."""
    hosts = fleet()
    for number, variables in enumerate(hosts.values(), 1):
        variables["ansible_host"] = f"fd00::{number}"
        if "keepalived_virtual_ip" in variables:
            variables["keepalived_virtual_ip"] = "fd00::9/64"
    return {name: {**variables, **changed.get(name, {})} for name, variables in hosts.items()}


SECOND = "keepalived_second_virtual_ip"


@pytest.mark.parametrize(
    "hosts",
    [
        fleet(),
        of_ipv6(),
        fleet(lb1={SECOND: "fd00::9/64"}, lb2={SECOND: "fd00::9/64"}),
        of_ipv6(lb1={SECOND: "10.0.0.9"}, lb2={SECOND: "10.0.0.9"}),
    ],
    ids=["IPv4", "IPv6", "IPv4 with clients of both", "IPv6 with clients of both"],
)
def test_nothing_is_wrong_with_a_fleet(hosts: dict[str, dict[str, Any]]) -> None:
    assert check_fleet(FLEET, hosts) == []


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("fd00::9", "", "keepalived_virtual_ip: 'fd00::9' is IPv6, and the hosts' own addresses are not; give one"),
        ("10.0.0.9", "10.0.0.8", f"{SECOND}: '10.0.0.8' is IPv4, as keepalived_virtual_ip has to be; give one of the"),
        ("", "fd00::9", f"{SECOND}: 'fd00::9' is the second address; give keepalived_virtual_ip, too"),
        ("10.0.0.999", "", "keepalived_virtual_ip: '10.0.0.999' is no address"),
        ("10.0.0.9", "fd00::9/129", f"{SECOND}: 'fd00::9/129' is no address"),
    ],
    ids=["the other family", "twice one family", "only the second", "no IPv4", "no IPv6"],
)
def test_a_shared_address_has_the_family_of_the_hosts_and_the_second_one_the_other(
    first: str, second: str, words: str
) -> None:
    given = {"keepalived_virtual_ip": first, SECOND: second}
    (problem,) = check_fleet(FLEET, fleet(lb1=given, lb2=given))
    assert str(problem).startswith(words)


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
        ({"app1": {"base_address": "fd00::1"}}, "base_address: .*'app1': 'fd00::1'.* are of both families, and bal"),
        ({"lb2": {SECOND: "fd00::9"}}, f"{SECOND}: .* differs between balancers"),
        (
            {
                "app2": {
                    "flask_apps": {
                        "blog": {
                            "source": {"path": "/x"},
                            "wsgi": "blog:app",
                            "server_names": ["blog.lan"],
                            "allow": ["10.0.0.0/8"],
                        }
                    }
                }
            },
            "flask_apps.blog.allow: differs between app servers, and balancers apply it for all of them; set it in",
        ),
        (
            {
                "app2": {
                    "flask_apps": {"wiki": {"source": {"path": "/x"}, "wsgi": "w:app", "server_names": ["blog.lan"]}}
                }
            },
            "flask_apps.blog.server_names: 'blog.lan' is claimed by apps blog, wiki; give it to one app",
        ),
        ({"app1": {"nginx_client_max_body_mb": 200}}, "nginx_client_max_body_mb: .*'lb1': 100.* is less on a balancer"),
    ],
    ids=[
        "no name in common",
        "two virtual addresses",
        "a virtual address that is taken",
        "no address",
        "the same address",
        "an address of its own",
        "both families",
        "two second addresses",
        "an access rule",
        "a name of two apps",
        "a limit of the balancer's",
    ],
)
def test_problems_between_hosts_are_reported(changed: dict[str, dict[str, Any]], words: str) -> None:
    problem, *_ = check_fleet(FLEET, fleet(**changed))
    assert re.search(words, str(problem)), problem


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("fe80::1", "base_address: 'fe80::1' of app1 is of one link only, and means nothing to others; give another"),
        ("::1", "base_address: '::1' is no address under which others reach app1; give base_address in its variables"),
        ("fd00:0::2", "base_address: 'fd00::2' is the address of app1, too; give app2 its own"),
        ("fd00::9", "keepalived_virtual_ip: 'fd00::9/64' is app1's own address; choose a free one"),
    ],
)
def test_problems_with_ipv6_addresses_are_reported(address: str, words: str) -> None:
    (problem,) = check_fleet(FLEET, of_ipv6(app1={"ansible_host": address}))
    assert str(problem).startswith(words)


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
