"""Variables of a fleet for the configuration of its hosts: addresses, and the app servers of each app."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from .entries import Entry, complete, role_options

Server = dict[str, Any]


def address(variables: Any, name: str) -> str:
    """The address under which the other hosts reach a host: ``base_address``, or Ansible's.

    :param variables: the host's, like ``hostvars[name]``. A host name is resolved on the controller; one with addresses
        of both families stands for its IPv4 address.
    :raises ValueError: the name can't be resolved.
    """
    given = variables.get("base_address") or variables.get("ansible_host") or name
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        pass
    try:
        resolved = socket.getaddrinfo(given, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"base_address: {given!r} of {name} can't be resolved ({error}); give the host's address in its variables"
        ) from error
    families = {family: str(socket_address[0]) for family, _, _, _, socket_address in reversed(resolved)}
    return families.get(socket.AF_INET) or families[socket.AF_INET6]


def bracketed(name: str) -> str:
    """A name or an address as URLs and nginx have it: an IPv6 address in brackets (RFC 3986, 3.2.2).

    >>> bracketed("fd00::1"), bracketed("10.12.28.20"), bracketed("blog.example.lan")
    ('[fd00::1]', '10.12.28.20', 'blog.example.lan')
    """
    return f"[{name.lower()}]" if ":" in name else name


def interface(facts: Any, address: str) -> str:
    """The network interface that has an address, or else the one of the default route.

    :param facts: ``ansible_facts`` with the subset ``network``.
    :raises ValueError: there is neither.
    """
    devices = [facts.get(name.replace("-", "_"), {}) for name in facts["interfaces"]]
    for device in devices:
        if address in [one.get("address") for one in [device.get("ipv4", {}), *device.get("ipv6", [])]]:
            return str(device["device"])
    default = facts.get("default_ipv6" if ":" in address else "default_ipv4", {})
    if "interface" not in default:
        raise ValueError(f"base_address: no interface has {address}; give an address of the host's own")
    return str(default["interface"])


def facing_clients(groups: dict[str, list[str]]) -> list[str]:
    """The hosts that clients ask: the balancers, or without any the app servers."""
    return groups.get("load_balancers") or groups.get("app_servers", [])


def addresses(hosts: list[str], hostvars: Any) -> list[str]:
    """The addresses of hosts, in their order."""
    return [address(hostvars[name], name) for name in hosts]


def http_addresses(hosts: list[str], hostvars: Any) -> list[str]:
    """The addresses of hosts with the ports of their http."""
    return [str(_server(name, hostvars[name])["address"]) for name in hosts]


def balanced(hosts: list[str], hostvars: Any) -> list[dict[str, Any]]:
    """The apps for ``nginx_balanced`` of the role nginx.

    :param hosts: the app servers. An app is balanced over those that serve it through their nginx, under the names
        that it has on all of them.
    """
    apps: dict[str, list[tuple[str, Entry]]] = {}
    for host in hosts:
        if nginx(hostvars[host], "enabled"):
            for name, entry in complete(hostvars[host].get("flask_apps") or {}).items():
                if entry["server_names"]:
                    apps.setdefault(name, []).append((host, entry))
    return [
        {
            "name": name,
            "server_names": _shared_names([entry for _, entry in served]),
            "https": all(entry["https"] for _, entry in served),
            "read_timeout_seconds": max(entry["harakiri_seconds"] for _, entry in served) + 10,
            "servers": [_server(host, hostvars[host]) for host, _ in served],
        }
        for name, served in apps.items()
    ]


def nginx(variables: Any, name: str) -> Any:
    """A variable of the role nginx on any host. Its default comes from the specs, because other roles don't see it."""
    return variables.get(f"nginx_{name}", role_options("nginx")[f"nginx_{name}"]["default"])


def _server(host: str, variables: Any) -> Server:
    own = bracketed(address(variables, host))
    return {
        "name": host,
        "address": f"{own}:{nginx(variables, 'http_port')}",
        "secure_address": f"{own}:{nginx(variables, 'https_port')}",
        "weight": int(nginx(variables, "weight")),
    }


def _shared_names(entries: list[Entry]) -> list[str]:
    """The server names that all hosts have, in the order of the first one."""
    others = [{name.lower() for name in entry["server_names"]} for entry in entries[1:]]
    return [name for name in entries[0]["server_names"] if all(name.lower() in names for names in others)]


def pools(servers: list[Server]) -> Iterator[dict[str, Any]]:
    """The upstreams of an app: without drained hosts, and for each one and each two drained hosts if any is left.

    >>> [pool["suffix"] for pool in pools([{"name": "a"}, {"name": "b"}, {"name": "c"}])]
    ['', '.a', '.b', '.c', '.a.b', '.a.c', '.b.c']
    """
    for size in range(min(3, len(servers))):
        for drained in combinations([server["name"] for server in servers], size):
            suffix = "".join(f".{name}" for name in drained)
            yield {"suffix": suffix, "servers": [server for server in servers if server["name"] not in drained]}
