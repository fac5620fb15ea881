"""A rollout as the controller sees it: its release, and the order in which hosts switch."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sized
from typing import Any

from module_utils.flaskfleet.journal import release_id

# The variables that tasks of the role flask_app register on a host, by what they hold.
REGISTERED = {
    "present": "__flask_app_present",
    "warm": "__flask_app_warm",
    "canary": "__flask_app_canary",
    "switched": "__flask_app_switched",
    "rolled_back": "__flask_app_rolled_back",
    "retired": "__flask_app_retired",
}
# The loop variables of these tasks: a host; a host and a load balancer.
HOST, HOST_AND_BALANCER = "__flask_app_host", "__flask_app_pair"
Result = dict[str, Any]


def rollback_targets(gathered: dict[str, Result], asked: str, ship: bool = False) -> dict[str, dict[str, Any]]:
    """The release of each app of the hosts that all of them roll back to, see :func:`rollback_target`."""
    apps = sorted({app for result in gathered.values() for app in result["apps"]})
    return {app: rollback_target(gathered, app, asked, ship) for app in apps}


def rollback_target(gathered: dict[str, Result], app: str, asked: str, ship: bool = False) -> dict[str, Any]:
    """The release that all hosts roll back to.

    A rollback that was interrupted is finished. Otherwise it is the release that every host has live or had live
    before: the same one, whether all hosts have made the last switch or only some.

    :param gathered: results of the module ``app_lock``, by host. ``asked``: ``previous``, or a release's name.
        ``ship``: whether hosts that lack the release get it.
    :returns: its id as ``release``, the hosts ``lacking`` it, and a ``source_host`` that has it as ``name``; if there
        is none, the reason as ``problem``.
    """
    apps = {host: result["apps"][app] for host, result in gathered.items() if app in result["apps"]}
    release = release_id(asked) if asked != "previous" else _interrupted(apps) or _common(apps)
    if not release:
        return {
            "release": None, "lacking": [], "source_host": None, "name": None,
            "problem": f"{app}: the hosts have no release in common to roll back to ({_describe(apps)}); name a "
            "release: -e release=<id>",
        }  # fmt: skip
    having = {
        host: name for host, one in apps.items() for name in one["on_disk"] if release in (name, release_id(name))
    }
    lacking = [host for host in apps if host not in having]
    problem = ""
    if not having:
        problem = f"{app}: no host has a release {release}; playbooks/status.yml lists the releases on disk"
    elif lacking and not ship:
        problem = (
            f"{app}: {', '.join(lacking)} {_has(lacking)} no release {release}, and {', '.join(having)} "
            f"{_has(having)} it; -e ship=true uploads it first"
        )
    source_host, name = next(iter(having.items()), (None, None))
    return {"release": release, "lacking": lacking, "source_host": source_host, "name": name, "problem": problem}


def _interrupted(apps: dict[str, Result]) -> str:
    """The release of an interrupted rollback, if it is live on some host already."""
    for one in apps.values():
        interrupted = one["interrupted"]
        if interrupted.get("what") == "rollback" and interrupted["target"] == one["live"]:
            return release_id(one["live"] or "")
    return ""


def _common(apps: dict[str, Result]) -> str:
    """The release that was live before on all hosts; if some are ahead of others, the one that is live on these."""
    live = {release_id(one["live"] or "") for one in apps.values()}
    if len(live) == 1:
        found = {release_id(one["before"] or "") for one in apps.values()}
    else:
        found = set.intersection(
            *({release_id(one["live"] or ""), release_id(one["before"] or "")} for one in apps.values())
        )
    return found.pop() if len(found) == 1 else ""


def _describe(apps: dict[str, Result]) -> str:
    """What is live on each host and what was before, in words."""
    return "; ".join(
        f"{host}: {one['live']} is live, {one['before'] or 'no release'} was before" for host, one in apps.items()
    )


def _has(hosts: Sized) -> str:
    return "has" if len(hosts) == 1 else "have"


def fleet_release(gathered: list[Result], app: str) -> dict[str, Any]:
    """The release that is live on the app servers, for a new host.

    :param gathered: results of the module ``app_lock``, by task; a host that does not answer has no say.
    :returns: its id as ``release`` and a ``source_host`` that has it as ``name``; None if no host has one. The reason
        as ``problem`` if the hosts have more than one, a rollout holds the lock, or only a host that does not answer
        may have one.
    """
    apps = {one[HOST]: one["apps"][app] for one in gathered if app in one.get("apps", {})}
    live = {host: one["live"] for host, one in apps.items() if one["live"]}
    silent = [one[HOST] for one in gathered if "apps" not in one]
    problem = ""
    if locks := [one["lock"] for one in apps.values() if one["lock"].get("target")]:
        problem = f"{app}: a {locks[0]['what']} by {locks[0]['by']} holds the lock; run the playbook again when it ends"
    elif len(set(map(release_id, live.values()))) > 1:
        runs = ", ".join(f"{host} {release}" for host, release in live.items())
        problem = f"{app}: the app servers run more than one release ({runs}); deploy or roll back there first"
    elif silent and not live:
        problem = (
            f"{app}: no app server that answers has a release, and these do not answer: {', '.join(silent)}; run the "
            "playbook again when they do, or remove them from the inventory"
        )
    source_host, name = next(iter(live.items()), (None, None))
    return {"release": release_id(name) if name else None, "source_host": source_host, "name": name, "problem": problem}


def singletons(gathered: dict[str, Result], apps: Iterable[str], hosts: list[str], host: str) -> dict[str, bool]:
    """Whether a host runs the singletons of apps, by app: where they are, or on the first host.

    :param gathered: results of the module ``app_lock``, by host.
    :param hosts: all app servers; an app is left out if some of them are not part of the rollout and may have them.
    """
    if len(hosts) < 2:
        return dict.fromkeys(apps, True)
    if not set(hosts) <= gathered.keys():
        return {}
    return {app: host == _singletons_host(gathered, app) for app in apps}


def _singletons_host(gathered: dict[str, Result], app: str) -> str | None:
    apps = {host: result["apps"][app] for host, result in gathered.items() if app in result.get("apps", {})}
    return next((host for host, one in apps.items() if one["singletons"]), next(iter(apps), None))


def hooks_done(results: Iterable[Result]) -> dict[str, dict[str, dict[str, str]]]:
    """The ``before_switch`` commands that hosts have run, by app and the release's id: which, and when.

    :param results: of the modules ``app_lock`` and ``flask_app``.
    """
    done: dict[str, dict[str, dict[str, str]]] = {}
    for result in results:
        for app, one in result.get("apps", {}).items():
            for release, commands in one.get("hooks", {}).items():
                done.setdefault(app, {}).setdefault(release, {}).update(commands)
    return done


def switch_order(hosts: Iterable[str], hostvars: Any, host: str, drained: Container[str] = ()) -> dict[str, list[str]]:
    """The apps that a host switches, because another release of them is warm there.

    A deploy begins on the first host of an app; if there are more, that is its canary. A release that was live before
    needs none.

    :param drained: hosts without clients. They come last, because clients judge the canary.
    :returns: those that it switches ``first``, those of them that have hooks to run (``hooked``) and those whose
        ``canary`` the host is, and the ``others``.
    """
    warm = {one: registered(hostvars[one], "warm") for one in hosts}
    order: dict[str, list[str]] = {"first": [], "hooked": [], "canary": [], "others": []}
    for app, result in warm.get(host, {}).items():
        if not result.get("switching"):
            continue
        switching = [one for one, apps in warm.items() if apps.get(app, {}).get("switching")]
        is_first = result["switching"] == "deploy" and host == min(switching, key=lambda one: one in drained)
        order["first" if is_first else "others"].append(app)
        if is_first and result.get("hooked"):
            order["hooked"].append(app)
        if is_first and len(switching) > 1:
            order["canary"].append(app)
    return order


def joining_hosts(hosts: Iterable[str], hostvars: Any, app: str) -> list[str]:
    """The hosts that have no release of an app while other app servers may have one, in their order."""
    return [
        host
        for host in hosts
        for one in (hostvars[host].get(REGISTERED["present"]) or {}).get("results", [])
        if one.get("app") == app and one.get("joining")
    ]


def registered(variables: Any, phase: str) -> dict[str, Result]:
    """The results of a task of app_rollout by app; none of a task that was skipped, or a host that did not answer."""
    apps: dict[str, Result] = (variables.get(REGISTERED[phase]) or {}).get("apps", {})
    return apps
