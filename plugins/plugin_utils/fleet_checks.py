"""Checks of hosts against each other: what balancers need to know of the app servers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from . import fleet
from .variable_checks import HIDDEN, Problem


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
    problems += _check_body_limits(balancers, servers, hostvars)
    problems += _check_virtual_addresses(balancers, hostvars, taken)
    return problems


def _check_addresses(names: list[str], hostvars: Any, taken: dict[str, str]) -> Iterator[Problem]:
    """Each host has an address of its own. ``taken`` becomes the hosts by their addresses."""
    for name in names:
        address = fleet.address(hostvars[name], name)
        yield from _check_address(address, name, taken)
        taken[address] = name


def _check_address(address: str, name: str, taken: dict[str, str]) -> Iterator[Problem]:
    ip = ipaddress.ip_address(address)
    if ip.is_loopback:
        words = f"is no address under which others reach {name}; give base_address in its variables"
    elif ip.version != 4:
        words = f"of {name} is no IPv4 address, and there is nothing else between hosts; give one as base_address"
    elif address in taken:
        words = f"is the address of {taken[address]}, too; give {name} its own"
    else:
        return
    yield Problem("base_address", address, words)


def _check_apps(servers: list[str], hostvars: Any) -> Iterator[Problem]:
    for app in fleet.balanced(servers, hostvars):
        if not app["server_names"]:
            words = "have no name in common on all app servers, under which clients could ask a balancer; add one"
            yield Problem(f"flask_apps.{app['name']}.server_names", HIDDEN, words)


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
    """All balancers have the same virtual address, and it is no host's own."""
    virtual = {name: str(hostvars[name].get("keepalived_virtual_ip") or "") for name in balancers}
    for ip in sorted(set(virtual.values())):
        if ip.partition("/")[0] in taken:
            words = f"is {taken[ip.partition('/')[0]]}'s own address; choose a free one"
            yield Problem("keepalived_virtual_ip", ip, words)
    if len(set(virtual.values())) > 1:
        words = "differs between balancers; set it for the group load_balancers"
        yield Problem("keepalived_virtual_ip", virtual, words)
