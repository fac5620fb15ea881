"""Variables of a fleet for the configuration of its hosts: addresses, and the app servers of each app."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from .entries import Entry, access_rules, complete, role_options
from .server_blocks import normalized, urls_of

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


def nginx_name(name: str) -> str:
    r"""A server name as nginx has it.

    Every name does not mean those by which hosts of the fleet ask each other: where nginx verifies clients, it refuses
    (421) a request for another name than the handshake's, if it knows that.

    >>> nginx_name("blog.example.lan")
    'blog.example.lan'
    >>> print(nginx_name("*"))
    ~^(?!.*\.flaskfleet\.internal$).
    """
    return r"~^(?!.*\.flaskfleet\.internal$)." if name == "*" else bracketed(name)


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

    :param hosts: the app servers. An app is balanced over those that serve it through their nginx, under the URLs
        that it has on all of them.
    """
    apps: dict[str, list[tuple[str, Entry]]] = {}
    for host in hosts:
        if nginx(hostvars[host], "enabled"):
            for name, entry in complete(hostvars[host].get("flask_apps") or {}).items():
                if urls_of(entry):
                    apps.setdefault(name, []).append((host, entry))
    return [
        {
            "name": name,
            "server_names": _shared([entry["server_names"] for _, entry in served]),
            "urls": _shared([entry["urls"] for _, entry in served]),
            "redirects": _shared([entry["redirects"] for _, entry in served]),
            "https": all(entry["https"] for _, entry in served),
            "access": access_rules(served[0][1]),
            "read_timeout_seconds": max(entry["harakiri_seconds"] for _, entry in served) + 10,
            "max_body_mb": max((entry["max_body_mb"] for _, entry in served if entry["max_body_mb"]), default=None),
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


def _shared(urls: list[list[str]]) -> list[str]:
    """The names or URLs that all hosts have, in the order of the first one."""
    others = [set(map(normalized, those)) for those in urls[1:]]
    return [url for url in urls[0] if all(normalized(url) in those for those in others)]


def pools(servers: list[Server]) -> Iterator[dict[str, Any]]:
    """The upstreams of an app: without drained hosts, and for each one and each two drained hosts if any is left.

    >>> [pool["suffix"] for pool in pools([{"name": "a"}, {"name": "b"}, {"name": "c"}])]
    ['', '.a', '.b', '.c', '.a.b', '.a.c', '.b.c']
    """
    for drained in _drained(server["name"] for server in servers):
        if len(drained) < len(servers):
            yield {
                "suffix": _suffix(drained),
                "servers": [server for server in servers if server["name"] not in drained],
            }


def pools_by_drained(apps: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The upstream of each app for the hosts that are drained, of which the app may be on some only.

    :param apps: as of :func:`balanced`.
    :returns: the app's name followed by the drained hosts, and the upstream's name, where that is not the app's. Where
        all of an app's hosts are drained, it is.

    >>> wiki = {"name": "wiki", "servers": [{"name": "a"}, {"name": "c"}]}
    >>> blog = {"name": "blog", "servers": [{"name": "b"}]}
    >>> list(pools_by_drained([wiki, blog]))
    [('wiki.a', 'wiki.a'), ('wiki.c', 'wiki.c'), ('wiki.a.b', 'wiki.a'), ('wiki.b.c', 'wiki.c')]
    """
    hosts = {server["name"] for app in apps for server in app["servers"]}
    for app in apps:
        own = {server["name"] for server in app["servers"]}
        for drained in _drained(hosts):
            out = [name for name in drained if name in own]
            if 0 < len(out) < len(own):
                yield f"{app['name']}{_suffix(drained)}", f"{app['name']}{_suffix(out)}"


def _drained(names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """None, each one and each two of them, in the order in which nginx looks for their flags."""
    known = sorted(names)
    for size in range(3):
        yield from combinations(known, size)


def _suffix(drained: Iterable[str]) -> str:
    return "".join(f".{name}" for name in drained)
