"""Taking an app server out of its balancers, as the controller sees it: what it has to answer, and to agree to."""

from __future__ import annotations

from typing import Any

from module_utils.flaskfleet.journal import release_id

from .entries import Entry, complete
from .rollouts import has_ended

Result = dict[str, Any]


def health_checks(apps: dict[str, Entry], balanced: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What nginx must answer before clients meet the host: of each app a ``server_name`` and how its health is asked.

    :param balanced: the apps as balancers have them, whose names are those that all hosts answer to.
    :returns: with them the ``servers`` of the app, as address and port by name.
    """
    sites = {site["name"]: site for site in balanced}
    return [
        {
            "server_name": sites[name]["server_names"][0].replace("*", "www"),
            **{name: app["health"][name] for name in ("path", "method", "headers", "status")},
            "servers": {server["name"]: server["address"] for server in sites[name]["servers"]},
        }
        for name, app in complete(apps).items()
        if name in sites
    ]


def longest_request(apps: dict[str, Entry]) -> int:
    """The seconds after which the last request of all apps is ended."""
    return max((app["harakiri_seconds"] for app in complete(apps).values()), default=0)


def singleton_apps(apps: dict[str, Entry]) -> list[str]:
    """The apps with a program that runs on one host only."""
    programs = {name: app["programs"].values() for name, app in complete(apps).items()}
    return [name for name, those in programs.items() if any(one["run_on"] == "one" for one in those)]


def disagreements(seen: list[Result], host: str, out: list[str]) -> list[str]:
    """What a host runs that the hosts whom clients meet do not, in words.

    :param seen: what the module ``rollout`` told on each (``item``), by task; one that did not answer has no say.
    :param out: the hosts that clients do not meet.
    """
    told = _apps(seen)
    if host not in told:
        return [f"{host} does not answer"]
    problems = []
    for app, mine in told[host].items():
        if mine["rollout"]:
            problems.append(f"{app}: a {mine['rollout']['what']} by {mine['rollout']['by']} goes on")
        elif not mine["live"]:
            problems.append(f"{app}: no release is live on {host}; site.yml gives it the one of the others")
        others: dict[str, list[str]] = {}
        for other, apps in told.items():
            live = apps.get(app, {}).get("live")
            if mine["live"] and live and other not in (host, *out) and release_id(live) != release_id(mine["live"]):
                others.setdefault(live, []).append(other)
        if others:
            words = ", ".join(f"{live} on {', '.join(hosts)}" for live, hosts in others.items())
            problems.append(f"{app}: {mine['live']} is live on {host} and {words}; deploy or roll back")
    return problems


def drained(seen: list[Result], kind: str | None = None) -> list[str]:
    """The hosts that at least one balancer leaves out, for whatever reason or those of one kind.

    :param seen: what the module ``drain`` told on each, by task; one that did not answer has no say.
    """
    flags = (flag for one in seen for flag in one.get("drained", {}).values())
    return sorted({flag["host"] for flag in flags if kind in (None, flag["kind"])})


def left_out(seen: list[Result]) -> list[str]:
    """The hosts that a run has taken out for its work, and could not put back because it was killed."""
    flags = (flag for one in seen for flag in one.get("drained", {}).values())
    return sorted({flag["host"] for flag in flags if flag["kind"] == "run" and has_ended(flag.get("process", ""))})


def singletons_heir(seen: list[Result], app: str, host: str, out: list[str]) -> str | None:
    """The host that runs an app's singletons when ``host`` does not: where they are, or the first that clients meet."""
    others = {name: apps[app] for name, apps in _apps(seen).items() if name != host and apps.get(app, {}).get("live")}
    there = [name for name, one in others.items() if one["singletons"]]
    return next(iter([*there, *(name for name in others if name not in out)]), None)


def singletons_here(seen: list[Result], app: str, host: str) -> bool | None:
    """Whether a host is to run an app's singletons: where no other one does. None where one that is silent may."""
    others = [one for one in seen if one["item"] != host]
    if any(one["apps"][app]["singletons"] for one in others if app in one.get("apps", {})):
        return False
    return None if any("apps" not in one for one in others) else True


def _apps(seen: list[Result]) -> dict[str, Any]:
    return {one["item"]: one["apps"] for one in seen if "apps" in one}
