"""Drains as the controller sees them: what a host must answer, which hosts are drained, and when to undrain them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from module_utils.flaskfleet.journal import release_id

from .entries import Entry, complete
from .fleet import bracketed
from .run_identity import has_ended
from .server_blocks import split_url, urls_of

Result = dict[str, Any]


def health_checks(apps: dict[str, Entry], balanced: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The checks that a host must pass before clients reach it: for each app a ``server_name`` and its ``health``.

    :param balanced: the apps as load balancers have them, with the names that all hosts answer to.
    :returns: each with the ``servers`` of the app, address and port by name.
    """
    sites = {site["name"]: site for site in balanced}
    return [
        {
            "server_name": bracketed(server_name.replace("*", "flaskfleet-check")),
            **{option: app["health"][option] for option in ("method", "headers", "status")},
            "path": path + app["health"]["path"],
            "servers": {server["name"]: server["address"] for server in sites[name]["servers"]},
        }
        for name, app in complete(apps).items()
        if name in sites
        for server_name, path in [split_url(urls_of(sites[name])[0])]
    ]


def longest_request(apps: dict[str, Entry]) -> int:
    """The longest time in seconds that a request of any app may take."""
    return max((app["harakiri_seconds"] for app in complete(apps).values()), default=0)


def singleton_apps(apps: dict[str, Entry]) -> list[str]:
    """The apps that have a singleton."""
    programs = {name: app["programs"].values() for name, app in complete(apps).items()}
    return [name for name, options in programs.items() if any(program["run_on"] == "one" for program in options)]


def drained_hosts(results: list[Result], kind: str | None = None) -> list[str]:
    """The hosts that at least one load balancer has drained, for one kind or for any.

    :param results: of the module ``drain`` on each load balancer; one that did not answer is ignored.
    """
    return sorted({flag["host"] for flag in _flags(results) if kind in (None, flag["kind"])})


def interrupted_drains(results: list[Result]) -> list[str]:
    """The hosts that are drained for a run that has ended without undraining them.

    :param results: as for :func:`drained_hosts`.
    """
    return sorted(
        {flag["host"] for flag in _flags(results) if flag["kind"] == "run" and has_ended(flag.get("process", ""))}
    )


def undrain_problems(results: list[Result], host: str, drained: list[str]) -> list[str]:
    """Why a host may not be undrained, in words: it does not run the releases of the undrained hosts.

    :param results: of the module ``app_lock`` on each app server (``item``); one that did not answer is ignored.
    """
    apps_by_host = _apps_by_host(results)
    if host not in apps_by_host:
        return [f"{host} does not answer"]
    undrained = {name: apps for name, apps in apps_by_host.items() if name not in (host, *drained)}
    problems = []
    for app, state in apps_by_host[host].items():
        if lock := state["lock"]:
            problems.append(f"{app}: a {lock['what']} by {lock['by']} holds the lock; try again when it is done")
        elif not state["live"]:
            problems.append(f"{app}: no release is live on {host}; site.yml releases the fleet's")
        if state["live"] and (differing := _differing_hosts(undrained, app, state["live"])):
            others = ", ".join(f"{live} on {', '.join(names)}" for live, names in differing.items())
            problems.append(f"{app}: {state['live']} is live on {host} and {others}; deploy or roll back")
    return problems


def singletons_target(results: list[Result], app: str, host: str, drained: list[str]) -> str | None:
    """The host to run an app's singletons instead of ``host``: the one that runs them, or the first undrained.

    :param results: as for :func:`undrain_problems`.
    """
    states = {name: apps.get(app, {}) for name, apps in _apps_by_host(results).items() if name != host}
    released = {name: state for name, state in states.items() if state.get("live")}
    running = [name for name, state in released.items() if state["singletons"]]
    return next(iter([*running, *(name for name in released if name not in drained)]), None)


def should_run_singletons(results: list[Result], app: str, host: str) -> bool | None:
    """Whether a host should run an app's singletons: no other host does. None if a silent host may run them.

    :param results: as for :func:`undrain_problems`.
    """
    others = [result for result in results if result["item"] != host]
    if any(result["apps"][app]["singletons"] for result in others if app in result.get("apps", {})):
        return False
    return None if any("apps" not in result for result in others) else True


def _flags(results: list[Result]) -> Iterator[dict[str, Any]]:
    """The flags that load balancers have, see the module ``drain``."""
    return (flag for result in results for flag in result.get("drained", {}).values())


def _apps_by_host(results: list[Result]) -> dict[str, Any]:
    return {result["item"]: result["apps"] for result in results if "apps" in result}


def _differing_hosts(apps_by_host: dict[str, Any], app: str, live: str) -> dict[str, list[str]]:
    """The hosts with another release of an app live, by that release."""
    differing: dict[str, list[str]] = {}
    for host, apps in apps_by_host.items():
        other = apps.get(app, {}).get("live")
        if other and release_id(other) != release_id(live):
            differing.setdefault(other, []).append(host)
    return differing
