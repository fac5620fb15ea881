"""A rollout as the controller sees it: its release and hosts, and the report at its end."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sized
from datetime import UTC, datetime
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
DRAINED = "drained"  # in what the module drain returns, unless it failed
Result = dict[str, Any]


# The release and the hosts of a rollout


def rollback_targets(
    gathered: dict[str, Result], apps: Iterable[str], asked: str, ship: bool = False
) -> dict[str, dict[str, Any]]:
    """The release of each app that all hosts roll back to, see :func:`rollback_target`."""
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
    :returns: those that it switches ``first``, those of them whose ``canary`` it is, and the ``others``.
    """
    warm = {one: _apps(hostvars[one], "warm") for one in hosts}
    order: dict[str, list[str]] = {"first": [], "canary": [], "others": []}
    for app, result in warm.get(host, {}).items():
        if not result.get("switching"):
            continue
        switching = [one for one, apps in warm.items() if apps.get(app, {}).get("switching")]
        is_first = result["switching"] == "deploy" and host == min(switching, key=lambda one: one in drained)
        order["first" if is_first else "others"].append(app)
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


def unconfirmed_hosts(hosts: Iterable[str], hostvars: Any) -> list[str]:
    """The hosts whose rollback is not confirmed: a switch was attempted, and the host may serve the new release."""
    return [host for host in hosts if _unconfirmed(hostvars[host])]


# The report at its end


def failure(hosts: Iterable[str], hostvars: Any, quarantined: list[Result]) -> list[str]:
    """The state of a fleet after a rollout that was rolled back, in words.

    :param quarantined: what the load balancers returned when unconfirmed hosts were to be quarantined.
    """
    hosts = list(hosts)
    unconfirmed = unconfirmed_hosts(hosts, hostvars)
    lives: dict[str, set[str]] = {}
    for app, one in (item for host in hosts for item in _rolled_back(hostvars[host]).items()):
        lives.setdefault(app, set()).add(release_id(one["live"] or ""))
    differing = [app for app, releases in lives.items() if len(releases) > 1]
    if unconfirmed:
        first = f"The rollout was rolled back, except on {', '.join(unconfirmed)}."
    elif differing:
        first = (
            f"The rollout was rolled back. As before it, the hosts run different releases of {', '.join(differing)}: "
            "deploy or roll back."
        )
    else:
        first = "The rollout was rolled back: no host serves another release than the other hosts."
    lines = [first]
    for host in hosts:
        if host in unconfirmed:
            answers = {one[HOST_AND_BALANCER][1]: one for one in quarantined if one[HOST_AND_BALANCER][0] == host}
            lines.append(_describe_unconfirmed(host, hostvars[host], answers))
        else:
            is_live = ", ".join(f"{app} {one['live']} is live" for app, one in _rolled_back(hostvars[host]).items())
            lines.append(f"- {host}: {is_live or 'does not answer, and was not told to switch'}")
    return lines


def _describe_unconfirmed(host: str, variables: Any, answers: dict[str, Result]) -> str:
    """Why a host's rollback is not confirmed, which load balancers have quarantined the host, and what to do.

    :param answers: of the load balancers, by name.
    """
    problem = "; ".join(dict.fromkeys(_unconfirmed(variables).values()))
    done = ", ".join(balancer for balancer, one in answers.items() if DRAINED in one)
    sentences = [
        problem,
        *([f"Quarantined on {done}"] if done else []),
        *(
            f"Not quarantined on {balancer}: {one.get('msg', 'it does not answer')}"
            for balancer, one in answers.items()
            if DRAINED not in one
        ),
        f"When {host} works again, deploy or roll back: {host} is undrained as soon as it runs the release of the "
        "other app servers",
    ]
    return f"- {host}: {'. '.join(sentences)}"


def summary(hosts: Iterable[str], hostvars: Any) -> list[str]:
    """What a rollout has done, a line per host and app."""
    lines = []
    for host in hosts:
        results = {phase: _apps(hostvars[host], phase) for phase in ("warm", "canary", "switched", "retired")}
        for app, warm in results["warm"].items():
            if not warm.get("switching"):
                lines.append(f"{host}: {app} {warm['live']} was live already")
                continue
            at = {**results["switched"], **results["canary"]}.get(app, {}).get("at")
            traffic = results["retired"].get(app, {}).get("traffic")
            words = [
                f"staged and warm in {warm['seconds']} s" if "seconds" in warm else "",
                f"switched at {_clock(at)}" if at else "switched by an earlier run",
                f"{traffic['requests']} requests since, {traffic['failed']} failed" if traffic else "",
            ]
            lines.append(f"{host}: {app} {warm['before']} → {warm['release']}: {', '.join(filter(None, words))}")
    return lines


def not_retired(hosts: Iterable[str], hostvars: Any) -> list[str]:
    """The hosts whose last phases have failed, and why, in words."""
    lines = []
    for host in hosts:
        retired = hostvars[host].get(REGISTERED["retired"]) or {}
        if problems := [one["failed"] for one in retired.get("apps", {}).values() if one.get("failed")]:
            lines += [f"- {host}: {problem}" for problem in problems]
        elif retired.get("failed"):
            lines.append(f"- {host}: {retired.get('msg')}")
        elif not retired.get("apps") and any(one.get("switching") for one in _apps(hostvars[host], "warm").values()):
            lines.append(f"- {host}: does not answer since its switch")
    return lines


# What the tasks have registered on a host


def _attempted(variables: Any) -> set[str]:
    """The apps whose switch was attempted, whatever came of it; of a host that did not answer, all that were warm."""
    attempted: set[str] = set()
    for phase in ("canary", "switched"):
        result = variables.get(REGISTERED[phase]) or {}
        if result and not result.get("skipped"):
            warm = _apps(variables, "warm").items()
            attempted |= set(result.get("apps") or [app for app, one in warm if one.get("switching")])
    return attempted


def _rolled_back(variables: Any) -> dict[str, Result]:
    """The results of the apps that were rolled back, or needed no rollback."""
    return {app: one for app, one in _apps(variables, "rolled_back").items() if not one.get("failed")}


def _unconfirmed(variables: Any) -> dict[str, str]:
    """The apps whose switch was attempted and whose rollback is not confirmed, with the reason.

    A host that was rebooted in between has no lock any more, and so nothing to roll back; it starts what is live.
    """
    warm, results = _apps(variables, "warm"), _apps(variables, "rolled_back")
    reasons = {}
    for app in sorted(_attempted(variables)):
        result = results.get(app)
        if result is None:
            reasons[app] = "does not answer, and may have switched"
        elif result.get("failed"):
            reasons[app] = f"{app} was not rolled back: {result['failed']}"
        elif release_id(result["live"] or "") != release_id(warm[app]["before"] or ""):
            reasons[app] = f"{app} {result['live']} is live, and was not rolled back: the host has lost this run's lock"
    return reasons


def _apps(variables: Any, phase: str) -> dict[str, Result]:
    """The results of a task of app_rollout by app; none of a task that was skipped, or a host that did not answer."""
    apps: dict[str, Result] = (variables.get(REGISTERED[phase]) or {}).get("apps", {})
    return apps


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3] + " UTC"
