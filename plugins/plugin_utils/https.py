"""Which site is served with which certificate: one of ``nginx_certificates``, of the fleet's own CA, or of ACME."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from . import authority, fleet
from .certificates import Decrypt, Unusable, check_certificate, covers, is_address, read_names
from .entries import sites
from .server_blocks import server_blocks
from .variable_checks import HIDDEN, Problem

ISSUED = "fleet"  # the name of the certificate of the fleet's own CA
ACME = "acme-"  # what the names of certificates begin with that an ACME directory issues, each for one site
CA_ENDS_SOON = timedelta(days=365)
Certificates = dict[str, dict[str, str]]


def chosen(blocks: list[dict[str, Any]], given: Certificates, permitted: list[str], has_acme: bool) -> dict[str, str]:
    """By server block the name of its certificate: the first given one that covers all its names, or an issued one.

    :param blocks: as of :func:`server_blocks`.
    :param permitted: ``tls_ca_permitted``. The fleet's own CA issues what that permits, and without an ACME directory
        all that is left.
    """
    covered = {name: read_names(one["certificate"]) for name, one in (given or {}).items()}
    found = {}
    for block in blocks:
        names = block["server_names"]
        name = next((name for name, those in covered.items() if all(covers(those, one) for one in names)), None)
        if name is None and permitted:
            is_permitted = all(authority.is_named_in(permitted, one) for one in names)
            name = ISSUED if is_permitted or not has_acme else None
        if name is None and has_acme:
            name = f"{ACME}{block['owner']}"
        if name and block["https"]:
            found[block["name"]] = name
    return found


def used(
    served: list[dict[str, Any]],
    given: Certificates,
    issued: dict[str, Any],
    permitted: list[str] | None = None,
    has_acme: bool = False,
) -> list[dict[str, Any]]:
    """The certificates that server blocks are served with.

    :param served: ``nginx_sites`` or ``nginx_balanced``.
    :param given: ``nginx_certificates``.
    :param issued: the record of the one that the fleet's own CA has issued to the host, or ``{}``.
    :param permitted, has_acme: see :func:`chosen`.
    :returns: each with ``name``, ``path`` for nginx, what a block ``includes``, the names of its ``sites``, their
        ``server_names``, whether it ``has_address`` besides them (a client that asks for one names no host in its
        handshake, RFC 6066, 3), and ``certificate`` and ``key`` as they are given.
    """
    blocks = server_blocks(served)
    found = chosen(blocks, given, permitted or [], has_acme)
    covered = {name.lower() for name in issued.get("names", [])}
    certificates = []
    for name in dict.fromkeys([*(given or {}), *found.values()]):
        sites_of = [block for block in blocks if found.get(block["name"]) == name]
        if name == ISSUED:  # a site waits for the certificate that has its names
            sites_of = [site for site in sites_of if all(covers(covered, one) for one in site["server_names"])]
        server_names = [server_name for site in sites_of for server_name in site["server_names"]]
        if sites_of:
            certificates.append(
                {
                    **given.get(name, {}),
                    **_files(name, issued),
                    "name": name,
                    "sites": [site["name"] for site in sites_of],
                    "server_names": [one for one in server_names if not is_address(one)],
                    "has_address": any(map(is_address, server_names)),
                }
            )
    return certificates


def _files(name: str, issued: dict[str, Any]) -> dict[str, Any]:
    """Where nginx finds a certificate, and what a site that is served with it includes."""
    own = f"tls/{name}.conf"
    if name == ISSUED:
        return {"path": f"/etc/flaskfleet/tls/{issued['id']}.pem", "includes": [own]}
    if name.startswith(ACME):
        served = f"/var/lib/flaskfleet/acme/served/{name.removeprefix(ACME)}"
        # Without a match nginx includes nothing: the site is served over http until it has its certificate.
        return {"path": f"{served}.pem", "includes": ["acme.conf", f"{served}[.]conf"]}
    return {"path": f"tls/{name}.pem", "includes": [own]}


def inner_name(group: str) -> str:
    """The name that each host of a group proves to others of the fleet that it has, see ``nginx_upstream_tls``.

    >>> inner_name("app_servers"), inner_name("load_balancers")
    ('app-servers.flaskfleet.internal', 'load-balancers.flaskfleet.internal')
    """
    return f"{group.replace('_', '-')}.flaskfleet.internal"


def map_source(name: str) -> str:
    r"""A server name as the source of nginx's ``map``, which has parameters of its own by some names.

    >>> print(map_source("blog.example.lan"), map_source("default"))
    blog.example.lan \default
    """
    return f"\\{name}" if name.lower() in ("default", "hostnames", "include", "volatile") else name


def names_for_ca(
    served: list[dict[str, Any]], given: Certificates, permitted: list[str], has_acme: bool = False
) -> list[str]:
    """The server names for which the fleet's own CA issues the certificate."""
    blocks = server_blocks(served)
    found = chosen(blocks, given, permitted, has_acme)
    issued = [block["server_names"] for block in blocks if found.get(block["name"]) == ISSUED]
    return sorted({name.lower() for names in issued for name in names})


def acme_sites(certificates: list[dict[str, Any]]) -> dict[str, list[str]]:
    """By app the names for which the ACME directory issues a certificate; by server block where no app is at its root.

    :param certificates: as of :func:`used`.
    """
    return {
        one["name"].removeprefix(ACME): sorted({name.lower() for name in one["server_names"]})
        for one in certificates
        if one["name"].startswith(ACME)
    }


def acme_is_due(recorded: dict[str, Any], wanted: dict[str, list[str]], directory: str) -> bool:
    """Whether a host lacks a certificate of the ACME directory, or has an expired one. It renews others by itself.

    :param recorded: the host's record, see roles/nginx/files/acme.py; ``{}`` for none.
    :param wanted: as of :func:`acme_sites`.
    """
    served = {site: one["served"] for site, one in recorded.get("sites", {}).items()}
    now = datetime.now(UTC).timestamp()
    return any(
        one.get("names") != names or one.get("directory") != directory or one["until"] < now
        for one, names in ((served.get(site, {}), names) for site, names in wanted.items())
    )


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
        if not problems:
            inner = list(map(inner_name, ("app_servers", "load_balancers"))) if balancers else []
            problems += _check_names(variables, served, given, inner)
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


def _check_names(
    variables: Any, served: list[dict[str, Any]], given: Certificates, inner: list[str]
) -> Iterator[Problem]:
    """The names of the sites, each for what its certificate comes from; ``inner`` are the CA's in any case."""
    permitted, has_acme = variables.get("tls_ca_permitted") or [], bool(fleet.nginx(variables, "acme_directory"))
    if permitted:
        yield from _check_authority(variables, [*names_for_ca(served, given, permitted, has_acme), *inner])
    if has_acme:
        blocks = server_blocks(served)
        found = chosen(blocks, given, permitted, has_acme)
        yield from _check_acme(variables, [one for one in blocks if found.get(one["name"], "").startswith(ACME)])
    if given and not permitted and not has_acme:
        yield from _check_covered(server_blocks(served), given)
    if fleet.nginx(variables, "http3") and not (given or permitted or has_acme):
        words = "needs https; give nginx_certificates, tls_ca_permitted or nginx_acme_directory, or leave it false"
        yield Problem("nginx_http3", True, words)


def _check_acme(variables: Any, wanted: list[dict[str, Any]]) -> Iterator[Problem]:
    hook = fleet.nginx(variables, "acme_dns_hook")
    if hook and not Path(hook).expanduser().is_file():
        yield Problem("nginx_acme_dns_hook", hook, "is no file on the controller; correct the path")
    for block in wanted:
        where = _where(block)
        for name in block["server_names"]:
            if is_address(name):
                words = (
                    "is an address, and ACME certificates are for names only; remove it, set https: false, or have the"
                )
                yield Problem(where, name, f"{words} fleet's own CA vouch for all names of the app (tls_ca_permitted)")
            elif name.startswith("*.") and not hook:
                words = "needs a DNS record for its certificate; give nginx_acme_dns_hook"
                yield Problem(where, name, f"{words}, or a certificate in nginx_certificates")


def _where(block: dict[str, Any]) -> str:
    """The option that has the names of a server block, of its first app."""
    if not block["places"]:
        return f"flask_apps.{block['name']}"  # it ends with .redirects
    app = block["places"][0]
    return f"flask_apps.{app['name']}.{'urls' if app['path'] else 'server_names'}"


def _check_covered(blocks: list[dict[str, Any]], given: Certificates) -> Iterator[Problem]:
    found = chosen(blocks, given, [], False)
    for block in blocks:
        if block["https"] and block["name"] not in found:
            words = (
                "no certificate of nginx_certificates covers all of them; add one that does, or set https: false for "
                "an app that is to stay with http"
            )
            yield Problem(_where(block), block["server_names"], words)


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
