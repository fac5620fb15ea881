"""Every variable of every role for every host, checked on the controller before anything changes anywhere.

``check_host`` checks each variable by itself (variable_checks.py), then the host's variables against each other
(consistency_checks.py). What spans hosts is in fleet_checks.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from . import sources
from .consistency_checks import Fetch, check_consistency, daemon_ports
from .entries import complete, role_options
from .release_contents import contents
from .rendering import PROJECT
from .sources import Fetched, SourceError
from .variable_checks import (
    HIDDEN,
    Problem,
    check_constraints,
    check_line_breaks,
    check_names,
    check_options,
    constraints,
)

SHOWN = 10  # of the paths that are left out


class Import(NamedTuple):
    """A role that a play imports, and the variables that the play sets for it."""

    hosts: str
    role: str
    wired: frozenset[str]


def role_imports(playbook: Path) -> list[Import]:
    """The roles that a playbook imports, by the pattern of its hosts."""
    return [
        Import(play["hosts"], task["ansible.builtin.import_role"]["name"], _wired(playbook, play, task))
        for play in yaml.safe_load(playbook.read_text())
        for task in play.get("tasks", [])
        if "ansible.builtin.import_role" in task
    ]


def _wired(playbook: Path, play: dict[str, Any], task: dict[str, Any]) -> frozenset[str]:
    files = [yaml.safe_load((playbook.parent / name).read_text()) for name in play.get("vars_files", [])]
    return frozenset(name for variables in [*files, task.get("vars", {})] for name in variables)


def once(fetch: Fetch) -> Fetch:
    """The same function with a memory: each source is fetched once, or fails once, however many hosts have it."""
    results: dict[str, Fetched | SourceError] = {}

    def fetch_once(source: dict[str, Any]) -> Fetched:
        key = json.dumps(source, sort_keys=True)
        if key not in results:
            try:
                results[key] = fetch(source)
            except SourceError as error:
                results[key] = error
        result = results[key]
        if isinstance(result, SourceError):
            raise result
        return result

    return fetch_once


def check_host(
    imports: list[Import], names: set[str], get: Callable[[str], Any], fetch: Fetch | None = sources.fetch,
    is_balanced: bool = False,
) -> list[Problem]:  # fmt: skip
    """What is wrong with the variables of one host.

    :param imports: the roles that the host gets.
    :param names: the variables that somebody has set for it.
    :param get: a variable's value, templated; raises where it can't be.
    :param fetch: gets a source to the controller, once the variables are sound by themselves; without it, sources are
        not checked.
    :param is_balanced: whether it is an app server behind load balancers.
    """
    problems = list(check_names(names, {name for item in imports for name in item.wired}))
    values: dict[str, Any] = {}
    for item in imports:
        options = role_options(item.role)
        given = {}
        for name in sorted(names & options.keys() - item.wired):
            try:
                given[name] = get(name)
            except Exception as error:  # whatever a lookup or a filter in the inventory raises
                problems.append(Problem(name, HIDDEN, f"can't be evaluated: {error}"))
        wanted = {name: spec for name, spec in options.items() if name not in item.wired}
        problems += check_options("", wanted, given)
        problems += check_constraints(constraints(item.role), given)
        values |= {name: given.get(name, spec.get("default")) for name, spec in wanted.items()}
    problems += check_line_breaks("", values)
    return problems or list(check_consistency(values, fetch, is_balanced))


def claims(
    imports: list[Import], names: set[str], get: Callable[[str], Any], is_balanced: bool = False
) -> dict[str, Any]:
    """What must be free on a host, or this project's: ports of daemons, users of apps, files that roles write.

    A port of :func:`daemon_ports` is one of the daemon that is named like the role, unless ``<role>_enabled`` is false.
    ``http3`` is whether the host's nginx has to know that, ``timers`` whether its systemd has to run some.

    :param is_balanced: as of :func:`check_host`.
    """
    options = {name: spec for item in imports for name, spec in role_options(item.role).items()}
    values = {name: get(name) if name in names else spec.get("default") for name, spec in options.items()}
    daemons = daemon_ports(values, is_balanced)
    switches = {"keepalived_enabled": values.get("keepalived_virtual_ip"), **values}
    faces_clients = not is_balanced and values.get("nginx_enabled", False)
    http3 = faces_clients and values.get("nginx_http3", False)
    timers = faces_clients and bool(values.get("nginx_acme_directory"))
    ports, files = [], []
    for item in imports:
        if switches.get(f"{item.role}_enabled", True):
            files += written_files(item.role)
            ports += [
                {"variable": name, "port": port, "program": item.role}
                for name, port in daemons.items()
                if name in role_options(item.role).keys() - item.wired
            ]
    has_apps = any(item.role == "flask_app" for item in imports) and "flask_apps" in names
    apps = get("flask_apps") if has_apps else {}
    for name, app in apps.items():
        if app.get("http"):
            port = int(app["http"].rpartition(":")[2])
            ours = [f"/etc/supervisor/conf.d/{name}-http.conf", f"--http {app['http']}\n"]
            ports.append({"variable": f"flask_apps.{name}.http", "port": port, "program": "uwsgi", "ours": ours})
    users = [{"variable": f"flask_apps.{name}", "name": name, "home": f"/srv/{name}"} for name in apps]
    take_over = values.get("base_take_over", [])
    needs = {"http3": http3, "timers": timers}
    return {"ports": ports, "users": users, "files": files, "take_over": take_over, **needs}


def written_files(role: str) -> list[str]:
    """The paths on a host that a role writes by config_tree, but those that are named after an app."""
    folder = PROJECT / "roles" / role / "templates"
    paths = sorted(f"/{template.relative_to(folder).with_suffix('')}" for template in folder.rglob("*.j2"))
    return [path for path in paths if "{" not in path]


def remarks(imports: list[Import], names: set[str], get: Callable[[str], Any]) -> list[str]:
    """What to report of a host's apps although nothing is wrong. Their sources were fetched."""
    has_apps = any(item.role == "flask_app" for item in imports) and "flask_apps" in names
    said = []
    for name, app in complete(get("flask_apps") if has_apps else {}).items():
        left_out = contents(sources.fetched(app["source"]).folder, app["source"], app["static"].values()).left_out
        if left_out:
            more = f" and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
            said.append(f"{name}: not part of the release are {', '.join(left_out[:SHOWN])}{more}")
    return said
