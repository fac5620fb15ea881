"""Checks of one host's variables against each other, and against the controller's disk.

Each variable is sound by itself, see variable_checks.py.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from module_utils.flaskfleet.shared import below, overlaps, place, served_at

from . import packing, requirements, sources
from .entries import Entry, access_rules, complete
from .release_contents import contents
from .server_blocks import normalized, split_url, urls_of
from .sources import Fetched, SourceError
from .variable_checks import HIDDEN, Problem

WHEN = ("before_switch", "after_switch")
RESERVED_PREFIX = "FLASKFLEET_"
Fetch = Callable[[dict[str, Any]], Fetched]


def check_consistency(values: dict[str, Any], fetch: Fetch | None, is_balanced: bool = False) -> Iterator[Problem]:
    """What is wrong between variables that are sound by themselves.

    :param values: the host's variables, with the defaults of its roles.
    :param fetch: gets a source to the controller; without it, sources are not checked.
    :param is_balanced: whether it is an app server behind load balancers.
    """
    apps = complete(values.get("flask_apps") or {})
    yield from _check_ports(values, apps, is_balanced)
    yield from _check_permitted(values)
    yield from _check_settings(values)
    yield from check_places(apps)
    stop = values.get("supervisor_stop_timeout_seconds")
    for name, app in apps.items():
        where = f"flask_apps.{name}"
        yield from _check_reachable(where, app, values.get("nginx_enabled", True))
        yield from _check_addresses(where, app)
        yield from _check_networks(f"{where}.allow", app["allow"])
        yield from _check_access_rules(where, app)
        yield from _check_stop_times(where, app, int(stop or 0))
        yield from _check_commands(where, app)
        yield from _check_environment(where, app)
        yield from _check_paths(where, app)
        if fetch:
            yield from _check_source(where, app, fetch)
        yield from _check_wheels(where, app)


def _check_ports(values: dict[str, Any], apps: dict[str, Entry], is_balanced: bool) -> Iterator[Problem]:
    ports = daemon_ports(values, is_balanced) if values.get("nginx_enabled", True) else {}
    ports |= {
        f"flask_apps.{name}.http": int(app["http"].rpartition(":")[2]) for name, app in apps.items() if app["http"]
    }
    for name, port in ports.items():
        for other in sorted(other for other in ports if other < name and ports[other] == port):
            yield Problem(name, port, f"is also {other}; choose another port for one of them")


def daemon_ports(values: dict[str, Any], is_balanced: bool) -> dict[str, int]:
    """The ports that daemons listen on, by variable: ``<role>_…_port``, that of https where there are certificates.

    Behind load balancers nginx has no client to serve with ``nginx_certificates``, or with those of an ACME
    directory.
    """
    ports = {name: int(value) for name, value in values.items() if name.endswith("_port")}
    has_own = values.get("nginx_certificates") or values.get("nginx_acme_directory")
    if not values.get("tls_ca_permitted") and (is_balanced or not has_own):
        ports.pop("nginx_https_port", None)
    return ports


def _check_permitted(values: dict[str, Any]) -> Iterator[Problem]:
    """What the fleet's CA is for: names, addresses, and networks."""
    yield from _check_networks("tls_ca_permitted", [one for one in values.get("tls_ca_permitted") or [] if "/" in one])


def _check_networks(variable: str, networks: list[str]) -> Iterator[Problem]:
    """A network is one, without host bits."""
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            yield Problem(variable, network, f"is no network ({error}); correct it")


def _check_settings(values: dict[str, Any]) -> Iterator[Problem]:
    if "uwsgi_listen" in values and int(values["uwsgi_listen"]) > int(values["base_somaxconn"]):
        yield Problem(
            "uwsgi_listen",
            values["uwsgi_listen"],
            f"is more than base_somaxconn ({values['base_somaxconn']}); raise that",
        )
    for path in values.get("base_ca_certificates") or []:
        if not Path(path).is_file():
            yield Problem("base_ca_certificates", path, "there is no such file on the controller; correct the path")


def _check_reachable(where: str, app: Entry, nginx_enabled: bool) -> Iterator[Problem]:
    if not app["http"] and not (urls_of(app) and nginx_enabled):
        way = "name at least one host name, or give http" if nginx_enabled else "nginx_enabled is false: give http"
        yield Problem(f"{where}.server_names", app["server_names"], f"nobody could reach the app; {way}")


def _check_access_rules(where: str, app: Entry) -> Iterator[Problem]:
    """nginx applies them, and uWSGI's own port knows none."""
    for option in access_rules(app) if app["http"] else []:
        words = "is nothing that the port of http would ask for; leave http out, or this"
        yield Problem(f"{where}.{option}", HIDDEN, words)


def check_places(apps: dict[str, Entry]) -> Iterator[Problem]:
    """What is asked for is one app's, and stands there once. Apps of one name agree about https.

    :param apps: entries, or the apps of a load balancer.
    """
    claims: dict[str, list[tuple[str, str, str]]] = {}  # app, option and value, by URL
    for name, app in apps.items():
        for option in ("server_names", "urls", "redirects"):
            for url in app[option]:
                claims.setdefault(normalized(url), []).append((name, option, url))
    for those in claims.values():
        names = sorted({name for name, _, _ in those})
        words = f"apps {', '.join(names)}" if len(names) > 1 else f"{names[0]} more than once"
        for name, option, value in those if len(those) > 1 else []:
            yield Problem(f"flask_apps.{name}.{option}", value, f"is claimed by {words}; give it to one app")
    for url, those in claims.items():
        name, option, value = those[0]
        lower = [other for other in claims if other.startswith(f"{url}/")]
        if option == "redirects" and lower:
            words = f"leads elsewhere, and {lower[0]} is an app's URL; remove one of them"
            yield Problem(f"flask_apps.{name}.redirects", value, words)
        for prefix in _served_by_nginx(apps[name]):
            # The longest path wins, and a load balancer knows no path of files.
            for other in lower:
                if f"{url}{prefix}/".startswith(f"{other}/"):
                    words = f"is below {other}, a URL of {claims[other][0][0]}; give one of them another path"
                    yield Problem(f"flask_apps.{name}.static", prefix, words)
    yield from _check_schemes(apps)


def _check_schemes(apps: dict[str, Entry]) -> Iterator[Problem]:
    schemes: dict[str, dict[str, bool]] = {}
    for name, app in apps.items():
        for url in urls_of(app):
            schemes.setdefault(split_url(url)[0].lower(), {})[name] = app["https"]
    for server_name, served in schemes.items():
        if len({*served.values()}) > 1:
            words = f"and other apps of {server_name} are served over https, to which all of a name leads; make it true"
            words += ", or theirs false"
            for name in sorted(name for name, is_served in served.items() if not is_served):
                yield Problem(f"flask_apps.{name}.https", False, words)


def _served_by_nginx(app: Entry) -> list[str]:
    """The URL prefixes, below those of an app, for which nginx has a location."""
    static = app.get("static", {})
    return [*static, *filter(None, (served_at(path, static) for path in app.get("shared_paths", [])))]


def _check_addresses(where: str, app: Entry) -> Iterator[Problem]:
    for option in ("server_names", "urls", "redirects"):
        for server_name, _ in map(split_url, app[option]):
            if ":" in server_name:
                yield from _check_address(f"{where}.{option}", server_name)
    if "*" in app["server_names"] + app["redirects"] and app["https"]:
        yield Problem(f"{where}.https", True, "no certificate has every name; make it false, or name names")
    if app["redirects"] and "*" in next(iter(app["server_names"]), "*"):
        words = "lead to the first of server_names, and there is none that is a name; give one"
        yield Problem(f"{where}.redirects", app["redirects"], words)


def _check_address(where: str, server_name: str) -> Iterator[Problem]:
    """nginx compares names as texts, and clients ask for an IPv6 address in its shortest form (RFC 5952)."""
    try:
        usual = str(ipaddress.IPv6Address(server_name))
    except ValueError as error:
        yield Problem(where, server_name, f"is no IPv6 address ({error}); correct it")
        return
    if server_name.lower() != usual:
        yield Problem(where, server_name, f"is not how clients write that address; write {usual}")


def _check_stop_times(where: str, app: Entry, limit: int) -> Iterator[Problem]:
    """Supervisor waits for the slowest program. ``limit`` is how many seconds; 0: the host has no Supervisor."""
    times = [("harakiri_seconds", app["harakiri_seconds"], 30)]
    times += [
        (f"programs.{program}.stop_seconds", options["stop_seconds"], 15)
        for program, options in app["programs"].items()
    ]
    for option, seconds, margin in times:
        if limit and seconds + margin > limit:
            words = f"+ {margin} seconds is more than supervisor_stop_timeout_seconds ({limit}); raise that"
            yield Problem(f"{where}.{option}", seconds, words)


def _check_commands(where: str, app: Entry) -> Iterator[Problem]:
    commands = [(f"programs.{program}.command", options["command"]) for program, options in app["programs"].items()]
    commands += [(f"hooks.{when}", command) for when in WHEN for command in app["hooks"][when]]
    commands += [("build", command) for command in app["build"]]
    for option, command in commands:
        try:
            shlex.split(command)
        except ValueError as error:
            yield Problem(f"{where}.{option}", command, f"can't be read: {error}; close what you quote")


def _check_environment(where: str, app: Entry) -> Iterator[Problem]:
    for variable in sorted(app["env"].keys() & app["secret_env"].keys()):
        yield Problem(f"{where}.secret_env.{variable}", HIDDEN, "stands in env, too; keep one of them")
    for variable in sorted(app["env"].keys() | app["secret_env"].keys()):
        if variable.startswith(RESERVED_PREFIX):
            yield Problem(f"{where}.env.{variable}", HIDDEN, f"{RESERVED_PREFIX}… is set by the release; rename it")


def _check_paths(where: str, app: Entry) -> Iterator[Problem]:
    """Shared paths and files of the inventory lie apart from each other, also where nginx serves them."""
    paths, shared = [*app["files"], *app["secret_files"]], app["shared_paths"]
    places = {path: place(path, app["static"]) for path in shared}
    for path in sorted({*paths, *shared}):
        if (paths + shared).count(path) > 1:
            words = "stands more than once in files, secret_files and shared_paths; keep one of them"
        elif path in shared and below(path, shared):
            words = f"lies below {below(path, shared)}, which is shared as a whole; leave it out"
        elif above := below(path, paths):
            words = f"lies below {above}, which is a file of files or secret_files; rename one of them"
        elif path in shared and (
            # The app writes there: root makes no folder in it.
            inside := [one for one in shared if one != path and PurePosixPath(places[path]).is_relative_to(places[one])]
        ):
            words = f"is served below {inside[0]}, which is shared as a whole; give its folder of static another URL"
        else:
            continue
        yield Problem(f"{where}.{'shared_paths' if path in shared else 'files'}", path, words)


def _check_source(where: str, app: Entry, fetch: Fetch) -> Iterator[Problem]:
    (kind,) = (kind for kind in sources.KINDS if app["source"][kind] is not None)
    try:
        found = fetch(app["source"])
        files = contents(found.folder, app["source"], app["static"].values()).files
        requirements.required(found, app)
        served = packing.static_files(found.folder, files, app["static"])
    except (SourceError, OSError, UnicodeDecodeError) as error:
        yield Problem(f"{where}.source.{kind}", HIDDEN, str(error))
        return
    if app["build"] and not found.folder:
        yield Problem(f"{where}.build", app["build"], "a package is built already; leave it out")
    for prefix, folder in app["static"].items() if found.folder and not app["build"] else ():  # a build may make it
        is_empty = not any(Path(name).is_relative_to(f"static{prefix}") for name in served)
        if is_empty and not overlaps(folder, app["shared_paths"]):
            origin = sources.describe(found.record)
            yield Problem(f"{where}.static.{prefix}", folder, f"has no file below {origin}; correct the folder")


def _check_wheels(where: str, app: Entry) -> Iterator[Problem]:
    try:
        packing.further_wheels(app)
    except (SourceError, OSError) as error:
        yield Problem(f"{where}.wheels", HIDDEN, str(error))
