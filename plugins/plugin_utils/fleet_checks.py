"""Checks of hosts against each other: what balancers need to know of the app servers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from . import fleet
from .consistency_checks import check_places
from .entries import ACCESS_RULES, access_rules, complete
from .server_blocks import urls_of
from .variable_checks import HIDDEN, Problem

VIRTUAL = ("keepalived_virtual_ip", "keepalived_second_virtual_ip")


def check_fleet(groups: dict[str, list[str]], hostvars: Any) -> list[Problem]:
    """What is wrong between hosts: balancers must know the app servers' addresses and the names of their apps."""
    balancers, servers = groups.get("load_balancers", []), groups.get("app_servers", [])
    if not balancers:
        return []
    if both := sorted({*balancers} & {*servers}):
        words = "can't be an app server, too: its nginx is the one or the other; leave it in one of the groups"
        return [Problem("load_balancers", name, words) for name in both]
    taken: dict[str, str] = {}
    try:
        problems = [*_check_addresses([*balancers, *servers], hostvars, taken), *_check_apps(servers, hostvars)]
    except ValueError as error:
        variable, _, words = str(error).partition(": ")
        return [Problem(variable, HIDDEN, words)]
    problems += _check_names(servers)
    problems += _check_access_rules(servers, hostvars)
    problems += _check_body_limits(balancers, servers, hostvars)
    problems += _check_virtual_addresses(balancers, hostvars, taken)
    return problems


def _check_addresses(names: list[str], hostvars: Any, taken: dict[str, str]) -> Iterator[Problem]:
    """Each host has an address of its own, all of one family. ``taken`` becomes the hosts by their addresses."""
    for name in names:
        address = fleet.address(hostvars[name], name)
        yield from _check_address(address, name, taken)
        taken[address] = name
    if len({_family(address) for address in taken}) > 1:
        # A balancer that sends to the other family comes from an address that the app server does not know.
        words = "are of both families, and balancers reach app servers by one; give base_address, all IPv4 or all IPv6"
        yield Problem("base_address", {name: address for address, name in taken.items()}, words)


def _family(address: str) -> str:
    """The family of an address, also of one with a prefix length. Raises ValueError for what is none."""
    return f"IPv{ipaddress.ip_interface(address).version}"


def _check_address(address: str, name: str, taken: dict[str, str]) -> Iterator[Problem]:
    ip = ipaddress.ip_address(address)
    if ip.is_loopback:
        words = f"is no address under which others reach {name}; give base_address in its variables"
    elif ip.version == 6 and ip.is_link_local:
        words = f"of {name} is of one link only, and means nothing to others; give another one as base_address"
    elif address in taken:
        words = f"is the address of {taken[address]}, too; give {name} its own"
    else:
        return
    yield Problem("base_address", address, words)


def _check_apps(servers: list[str], hostvars: Any) -> Iterator[Problem]:
    apps = fleet.balanced(servers, hostvars)
    yield from check_places({app["name"]: app for app in apps})
    for app in apps:
        if app["redirects"] and "*" in next(iter(app["server_names"]), "*"):
            words = "lead to the first of the server_names that all app servers have, and there is none; add one"
            yield Problem(f"flask_apps.{app['name']}.redirects", app["redirects"], words)
        if not urls_of(app):
            words = "have no name in common on all app servers, under which clients could ask a balancer; add one"
            yield Problem(f"flask_apps.{app['name']}.server_names", HIDDEN, words)


def _check_access_rules(servers: list[str], hostvars: Any) -> Iterator[Problem]:
    """Balancers apply the access rules of an app for all its servers: these have to agree."""
    rules: dict[str, list[dict[str, Any]]] = {}
    for host in servers:
        for name, entry in complete(hostvars[host].get("flask_apps") or {}).items():
            rules.setdefault(name, []).append(access_rules(entry))
    for name, those in rules.items():
        for option in ACCESS_RULES:
            if any(one.get(option) != those[0].get(option) for one in those):
                words = "differs between app servers, and balancers apply it for all of them; set it in group_vars"
                yield Problem(f"flask_apps.{name}.{option}", HIDDEN, words)


def _check_names(servers: list[str]) -> Iterator[Problem]:
    if not servers:
        yield Problem("app_servers", HIDDEN, "has no host that load_balancers could send requests to; add one")
    for name in servers:
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
            words = "is no name for a host behind a balancer; use letters, digits, -, _ and dots"
            yield Problem("app_servers", name, words)


def _check_body_limits(balancers: list[str], servers: list[str], hostvars: Any) -> Iterator[Problem]:
    takes = {name: int(fleet.nginx(hostvars[name], "client_max_body_mb")) for name in [*balancers, *servers]}
    if min(takes[name] for name in balancers) < max((takes[name] for name in servers), default=0):
        words = "is less on a balancer than on an app server, whose clients it would refuse; set it in group_vars/all"
        yield Problem("nginx_client_max_body_mb", takes, words)


def _check_virtual_addresses(balancers: list[str], hostvars: Any, taken: dict[str, str]) -> Iterator[Problem]:
    """All balancers have the same virtual addresses, and they are no host's own."""
    for variable in VIRTUAL:
        virtual = {name: str(hostvars[name].get(variable) or "") for name in balancers}
        for given in sorted({*virtual.values()} - {""}):
            yield from _check_virtual_address(variable, given, taken)
        if len(set(virtual.values())) > 1:
            words = "differs between balancers; set it for the group load_balancers"
            yield Problem(variable, virtual, words)
    for name in balancers:
        first, second = (hostvars[name].get(variable) for variable in VIRTUAL)
        if second and not first:
            yield Problem(VIRTUAL[1], second, f"is the second address; give {VIRTUAL[0]}, too, or this one there")
            return


def _check_virtual_address(variable: str, given: str, taken: dict[str, str]) -> Iterator[Problem]:
    """The first one is of the family of the hosts' own addresses, by which balancers reach each other."""
    try:
        address, family = str(ipaddress.ip_interface(given).ip), _family(given)
    except ValueError as error:
        yield Problem(variable, given, f"is no address ({error}); correct it")
        return
    families = {_family(own) for own in taken}
    if address in taken:
        yield Problem(variable, given, f"is {taken[address]}'s own address; choose a free one")
    elif variable == VIRTUAL[0] and family not in families:
        words = f"is {family}, and the hosts' own addresses are not; give one of their family, and this as {VIRTUAL[1]}"
        yield Problem(variable, given, words)
    elif variable == VIRTUAL[1] and {family} == families:
        yield Problem(variable, given, f"is {family}, as {VIRTUAL[0]} has to be; give one of the other family")
