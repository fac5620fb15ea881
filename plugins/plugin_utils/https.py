"""Which site is served with which certificate: one of ``nginx_certificates``, or the one of the fleet's own CA."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from . import authority, fleet
from .certificates import Decrypt, Unusable, check_certificate, covers, is_address, read_names
from .entries import sites
from .variable_checks import HIDDEN, Problem

ISSUED = "fleet"  # the name of the certificate of the fleet's own CA
# What hosts of the fleet prove to each other, see nginx_upstream_tls.
INNER_NAMES = ("app-servers.flaskfleet.internal", "load-balancers.flaskfleet.internal")
CA_ENDS_SOON = timedelta(days=365)
Certificates = dict[str, dict[str, str]]


def used(served: list[dict[str, Any]], given: Certificates, issued: dict[str, Any]) -> list[dict[str, Any]]:
    """The certificates that sites are served with: of each site the first that covers all its server names.

    :param served: ``nginx_sites`` or ``nginx_balanced``.
    :param given: ``nginx_certificates``.
    :param issued: the record of the one that the fleet's own CA has issued to the host, or ``{}``.
    :returns: each with ``name``, ``path`` for nginx, the names of its ``sites``, their ``server_names``, whether it
        ``has_address`` besides them (a client that asks for one names no host in its handshake, RFC 6066, 3), and
        ``certificate`` and ``key`` as they are given.
    """
    covered = {name: read_names(one["certificate"]) for name, one in (given or {}).items()}
    if issued:
        covered[ISSUED] = {name.lower() for name in issued["names"]}
    found = {site["name"]: _covering(site["server_names"], covered) for site in served if site["https"]}
    certificates = []
    for name in covered:
        sites_of = [site for site in served if found.get(site["name"]) == name]
        server_names = [server_name for site in sites_of for server_name in site["server_names"]]
        if sites_of:
            path = f"/etc/flaskfleet/tls/{issued['id']}.pem" if name == ISSUED else f"tls/{name}.pem"
            certificates.append(
                {
                    **given.get(name, {}),
                    "name": name,
                    "path": path,
                    "sites": [site["name"] for site in sites_of],
                    "server_names": [one for one in server_names if not is_address(one)],
                    "has_address": any(map(is_address, server_names)),
                }
            )
    return certificates


def map_source(name: str) -> str:
    r"""A server name as the source of nginx's ``map``, which has parameters of its own by some names.

    >>> print(map_source("blog.example.lan"), map_source("default"))
    blog.example.lan \default
    """
    return f"\\{name}" if name.lower() in ("default", "hostnames", "include", "volatile") else name


def uncovered(served: list[dict[str, Any]], given: Certificates) -> list[str]:
    """The server names of the sites that are to be served over https and that no given certificate covers."""
    covered = {name for one in used(served, given, {}) for name in one["sites"]}
    sites_left = [site for site in served if site["https"] and site["name"] not in covered]
    return sorted({name.lower() for site in sites_left for name in site["server_names"]})


def check_https(groups: dict[str, list[str]], hostvars: Any, decrypt: Decrypt) -> Iterator[Problem]:
    """What is wrong with the certificates of the hosts that clients reach, and with the names that none covers.

    :param decrypt: reads a file on the controller, which ansible-vault may have encrypted.
    """
    servers, balancers = groups.get("app_servers", []), groups.get("load_balancers", [])
    balanced = fleet.balanced(servers, hostvars) if balancers else []
    yield from _check_upstreams(groups, hostvars)
    yield from _check_one_authority(groups, hostvars)
    for host in fleet.facing_clients(groups):
        variables = hostvars[host]
        if not fleet.nginx(variables, "enabled"):
            continue
        given = fleet.nginx(variables, "certificates") or {}
        served = balanced if balancers else sites(variables.get("flask_apps") or {})
        roots = list(variables.get("base_ca_certificates") or [])
        problems = [problem for name, one in given.items() for problem in check_certificate(name, one, roots, decrypt)]
        if not problems and variables.get("tls_ca_permitted"):
            inner = INNER_NAMES if balancers else ()
            problems += _check_authority(variables, [*uncovered(served, given), *inner])
        elif not problems and given:
            problems += _check_names(served, given)
        elif not problems and fleet.nginx(variables, "http3"):
            words = "needs https; give nginx_certificates or tls_ca_permitted, or leave it false"
            problems.append(Problem("nginx_http3", True, words))
        yield from problems


def _hosts(groups: dict[str, list[str]]) -> list[str]:
    return [*groups.get("load_balancers", []), *groups.get("app_servers", [])]


def _check_upstreams(groups: dict[str, list[str]], hostvars: Any) -> Iterator[Problem]:
    balancers = groups.get("load_balancers", [])
    if any(fleet.nginx(hostvars[host], "upstream_tls") for host in balancers):
        for host in _hosts(groups):
            if fleet.nginx(hostvars[host], "enabled") and not hostvars[host].get("tls_ca_permitted"):
                words = f"needs the fleet's own CA, and {host} has no tls_ca_permitted; set that in group_vars/all"
                yield Problem("nginx_upstream_tls", True, words)


def _check_one_authority(groups: dict[str, list[str]], hostvars: Any) -> Iterator[Problem]:
    """All hosts have one CA: where the inventory has several sources, each host's is beside its own."""
    folders = {
        host: hostvars[host]["inventory_dir"] for host in _hosts(groups) if hostvars[host].get("tls_ca_permitted")
    }
    contents = {path: Path(path).read_bytes() for folder in {*folders.values()} for path in authority.trusted(folder)}
    for path, content in contents.items():
        if b"PRIVATE KEY" in content:
            words = "has a private key in it, and would be copied to every host; leave the certificate alone in it"
            yield Problem("tls_ca_permitted", path, words)
    found = {tuple(map(contents.get, authority.trusted(folder))) for folder in {*folders.values()}}
    if len(found) > 1:
        words = "have different CAs; put the same files into the folder ca of each inventory"
        yield Problem("tls_ca_permitted", sorted({*folders.values()}), words)


def remarks(groups: dict[str, list[str]], hostvars: Any) -> Iterator[str]:
    """What to report although nothing is wrong: the CA's end is near."""
    for folder in {
        hostvars[host]["inventory_dir"] for host in _hosts(groups) if hostvars[host].get("tls_ca_permitted")
    }:
        ends = authority.read_certificate(Path(folder) / "ca").not_valid_after_utc
        if ends - datetime.now(UTC) < CA_ENDS_SOON:
            yield f"The fleet's CA expires on {ends:%Y-%m-%d}: replace it before, see roles/tls/README.md"


def _check_names(served: list[dict[str, Any]], given: Certificates) -> Iterator[Problem]:
    left = {*uncovered(served, given)}
    for site in served:
        if site["https"] and left & {*map(str.lower, site["server_names"])}:
            words = (
                "no certificate of nginx_certificates covers all of them; add one that does, or set https: false for "
                "an app that is to stay with http"
            )
            yield Problem(f"flask_apps.{site['name']}.server_names", site["server_names"], words)


def _check_authority(variables: Any, names: list[str]) -> Iterator[Problem]:
    passphrase = str(variables.get("tls_ca_passphrase") or "")
    try:
        ca = authority.load(Path(variables["inventory_dir"]) / "ca", passphrase)
    except Unusable as error:
        yield Problem("tls_ca_permitted", HIDDEN, str(error))
        return
    for name in names:
        if not authority.is_permitted(ca.certificate, name):
            words = "is none that the fleet's CA may issue a certificate for; give one in nginx_certificates"
            words += ", set https: false for its app, or replace the CA by one for it (roles/tls/README.md)"
            yield Problem("server_names", name, words)


def _covering(server_names: list[str], certificates: dict[str, set[str]]) -> str | None:
    return next(
        (name for name, covered in certificates.items() if all(covers(covered, one) for one in server_names)), None
    )
