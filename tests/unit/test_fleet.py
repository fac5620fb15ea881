"""What hosts need to know of each other: addresses, and the app servers of each app."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, SOCK_STREAM
from typing import Any

import pytest
from plugin_utils import fleet


def app(**options: Any) -> dict[str, Any]:
    """An entry of flask_apps."""
    return {"source": {"path": "/x"}, "wsgi": "blog:app", "server_names": ["blog.lan"], "urls": [], **options}


def hosts(*addresses: str, **variables: Any) -> dict[str, dict[str, Any]]:
    """Variables of app servers with these addresses, by name."""
    return {
        f"app{number}": {"ansible_host": address, "flask_apps": {"blog": app()}, **variables}
        for number, address in enumerate(addresses, 1)
    }


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ansible_host": "10.0.0.7"}, "10.0.0.7"),
        ({"ansible_host": "10.0.0.7", "base_address": "192.168.1.7"}, "192.168.1.7"),
        ({"ansible_host": "FD00:0::7"}, "fd00::7"),
        ({"ansible_host": "localhost"}, "127.0.0.1"),
        ({}, "127.0.0.1"),
    ],
    ids=["as Ansible reaches it", "as it says itself", "IPv6", "a name", "its own name"],
)
def test_a_host_has_an_address(variables: dict[str, str], expected: str) -> None:
    assert fleet.address(variables, "localhost") == expected


V4, V6, OTHER_V6 = (
    (family, SOCK_STREAM, 6, "", (address, 0))
    for family, address in ((AF_INET, "10.0.0.7"), (AF_INET6, "fd00::7"), (AF_INET6, "fd00::8"))
)


@pytest.mark.parametrize(
    ("resolved", "expected"), [([V6, V4], "10.0.0.7"), ([V6, OTHER_V6], "fd00::7")], ids=["both families", "IPv6"]
)
def test_a_name_stands_for_its_first_ipv4_address_or_else_ipv6(
    monkeypatch: pytest.MonkeyPatch, resolved: list[Any], expected: str
) -> None:
    monkeypatch.setattr(fleet.socket, "getaddrinfo", lambda *_, **__: resolved)
    assert fleet.address({}, "app7") == expected


def test_a_name_that_cannot_be_resolved_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(fleet.socket, "getaddrinfo", fail)
    words = r"^base_address: 'app7' of app7 can't be resolved \(Name .* known\); give the host's address in its var"
    with pytest.raises(ValueError, match=words):
        fleet.address({}, "app7")


def test_addresses_are_in_the_order_of_the_hosts() -> None:
    assert fleet.addresses(["app2", "app1"], hosts("10.0.0.1", "10.0.0.2")) == ["10.0.0.2", "10.0.0.1"]


def test_an_app_is_balanced_over_the_hosts_that_have_it() -> None:
    known = hosts("10.0.0.1", "10.0.0.2", "10.0.0.3")
    known["app2"] |= {"nginx_weight": 3, "nginx_http_port": 8080}
    known["app3"]["flask_apps"] = {}
    assert fleet.balanced(["app1", "app2", "app3"], known) == [
        {
            "name": "blog",
            "server_names": ["blog.lan"],
            "urls": [],
            "redirects": [],
            "https": True,
            "access": {},
            "read_timeout_seconds": 40,
            "max_body_mb": None,
            "servers": [
                {"name": "app1", "address": "10.0.0.1:80", "secure_address": "10.0.0.1:443", "weight": 1},
                {"name": "app2", "address": "10.0.0.2:8080", "secure_address": "10.0.0.2:443", "weight": 3},
            ],
        }
    ]


def test_an_ipv6_address_of_an_app_server_is_in_brackets() -> None:
    (app_,) = fleet.balanced(["app1"], hosts("fd00::1"))
    assert app_["servers"] == [
        {"name": "app1", "address": "[fd00::1]:80", "secure_address": "[fd00::1]:443", "weight": 1}
    ]


FACTS = {
    "interfaces": ["lo", "br-lan", "eth0"],
    "lo": {"device": "lo", "ipv4": {"address": "127.0.0.1"}, "ipv6": [{"address": "::1"}]},
    "br_lan": {"device": "br-lan", "ipv4": {"address": "10.0.0.3"}},
    "eth0": {"device": "eth0", "ipv6": [{"address": "fe80::2"}, {"address": "fd00::3"}]},
    "default_ipv4": {"interface": "br-lan"},
    "default_ipv6": {"interface": "eth0"},
}


@pytest.mark.parametrize(
    ("address", "interface"),
    [("10.0.0.3", "br-lan"), ("fd00::3", "eth0"), ("10.0.0.9", "br-lan"), ("fd00::9", "eth0")],
    ids=["IPv4", "IPv6", "the default for IPv4", "the default for IPv6"],
)
def test_the_interface_of_an_address_is_found(address: str, interface: str) -> None:
    assert fleet.interface(FACTS, address) == interface


def test_a_host_without_the_address_and_a_default_route_is_reported() -> None:
    with pytest.raises(ValueError, match="no interface has fd00::9; give an address of the host's own"):
        fleet.interface({**FACTS, "default_ipv6": {}}, "fd00::9")


def test_an_app_that_a_host_wants_without_https_is_served_without() -> None:
    known = hosts("10.0.0.1", "10.0.0.2")
    known["app2"]["flask_apps"] = {"blog": app(https=False)}
    assert not fleet.balanced(["app1", "app2"], known)[0]["https"]


def test_the_longest_time_of_all_hosts_counts() -> None:
    known = hosts("10.0.0.1", "10.0.0.2")
    known["app2"]["flask_apps"] = {"blog": app(harakiri_seconds=90)}
    assert fleet.balanced(["app1", "app2"], known)[0]["read_timeout_seconds"] == 100


def test_a_balancer_answers_to_the_names_that_all_hosts_have() -> None:
    known = hosts("10.0.0.1", "10.0.0.2")
    for host, variables in known.items():
        variables["flask_apps"] = {
            "blog": app(server_names=[f"{host}.lan", "Blog.lan" if host == "app1" else "blog.lan"])
        }
    assert fleet.balanced(["app1", "app2"], known)[0]["server_names"] == ["Blog.lan"]


@pytest.mark.parametrize(
    "variables",
    [{"nginx_enabled": False}, {"flask_apps": {"blog": app(server_names=[])}}, {"flask_apps": None}],
    ids=["without nginx", "an app without a name", "without apps"],
)
def test_an_app_without_nginx_is_not_balanced(variables: dict[str, Any]) -> None:
    assert fleet.balanced(["app1"], hosts("10.0.0.1", **variables)) == []


@pytest.mark.parametrize(
    ("names", "suffixes"),
    [
        ("a", [""]),
        ("ab", ["", ".a", ".b"]),
        ("abc", ["", ".a", ".b", ".c", ".a.b", ".a.c", ".b.c"]),
    ],
    ids=["one", "two", "three"],
)
def test_there_is_an_upstream_for_each_one_and_two_drained_hosts(names: str, suffixes: list[str]) -> None:
    pools = list(fleet.pools([{"name": name} for name in names]))
    assert [pool["suffix"] for pool in pools] == suffixes
    for pool in pools:
        assert {server["name"] for server in pool["servers"]} == set(names) - set(pool["suffix"].split("."))
