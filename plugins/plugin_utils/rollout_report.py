"""The report at the end of a rollout, and the hosts whose rollback is not confirmed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from module_utils.flaskfleet.journal import release_id

from .rollouts import HOST_AND_BALANCER, REGISTERED, Result, registered

STEM = "Rollout | "  # of the names of tasks
DRAINED = "drained"  # in what the module drain returns, unless it failed


def unconfirmed_hosts(hosts: Iterable[str], hostvars: Any) -> list[str]:
    """The hosts whose rollback is not confirmed: a switch was attempted, and the host may serve the new release."""
    return [host for host in hosts if _unconfirmed(hostvars[host])]


def failure(hosts: Iterable[str], hostvars: Any, quarantined: list[Result]) -> list[str]:
    """The state of a fleet after a rollout that failed, and the cause, in words.

    :param quarantined: what the load balancers returned when unconfirmed hosts were to be quarantined.
    """
    hosts = list(hosts)
    unconfirmed = unconfirmed_hosts(hosts, hostvars)
    lives: dict[str, set[str]] = {}
    for app, one in (item for host in hosts for item in _rolled_back(hostvars[host]).items()):
        lives.setdefault(app, set()).add(release_id(one["live"] or ""))
    differing = [app for app, releases in lives.items() if len(releases) > 1]
    if not any(_attempted(hostvars[host]) for host in hosts):
        first = "The rollout ended before the first switch: every host serves what it served before."
    elif unconfirmed:
        first = f"The rollout was rolled back, except on {', '.join(unconfirmed)}."
    elif differing:
        first = (
            f"The rollout was rolled back. As before it, the hosts run different releases of {', '.join(differing)}: "
            "deploy or roll back."
        )
    else:
        first = "The rollout was rolled back: no host serves another release than the other hosts."
    lines = [first, *_causes(hosts, hostvars)]
    for host in hosts:
        if host in unconfirmed:
            answers = {one[HOST_AND_BALANCER][1]: one for one in quarantined if one[HOST_AND_BALANCER][0] == host}
            lines.append(_describe_unconfirmed(host, hostvars[host], answers))
        else:
            is_live = ", ".join(f"{app} {one['live']} is live" for app, one in _rolled_back(hostvars[host]).items())
            lines.append(f"- {host}: {is_live or _describe_silent(hostvars[host])}")
    return lines


def _causes(hosts: Iterable[str], hostvars: Any) -> list[str]:
    """Which task failed on which hosts, and why: the first line of its message."""
    causes: dict[str, list[str]] = {}
    for host in hosts:
        variables = hostvars[host]
        task = str((variables.get("ansible_failed_task") or {}).get("name", ""))
        if task.startswith(STEM):  # and not an earlier role's
            message = str(variables["ansible_failed_result"].get("msg", "")).partition("\n")[0]
            message = message.removesuffix(" Its log:")
            causes.setdefault(f'{message} (task "{task.removeprefix(STEM)}")', []).append(host)
        elif any(
            (variables.get(REGISTERED[phase]) or {}).get("unreachable") for phase in ("warm", "canary", "switched")
        ):
            causes.setdefault("does not answer", []).append(host)
    return [f"Cause on {', '.join(where)}: {cause}" for cause, where in causes.items()]


def _describe_silent(variables: Any) -> str:
    """Why a host that was not told to switch tells of no app."""
    result = variables.get(REGISTERED["rolled_back"]) or {}
    if result.get("failed"):
        return f"was not told to switch; {result.get('msg')}"
    return "has none of the apps" if "apps" in result else "does not answer, and was not told to switch"


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
        results = {phase: registered(hostvars[host], phase) for phase in ("warm", "canary", "switched", "retired")}
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
        elif not retired.get("apps") and any(
            one.get("switching") for one in registered(hostvars[host], "warm").values()
        ):
            lines.append(f"- {host}: does not answer since its switch; the next rollout retires its old release")
    return lines


def _attempted(variables: Any) -> set[str]:
    """The apps whose switch was attempted, whatever came of it; of a host that did not answer, all that were warm."""
    attempted: set[str] = set()
    for phase in ("canary", "switched"):
        result = variables.get(REGISTERED[phase]) or {}
        if result and not result.get("skipped"):
            warm = registered(variables, "warm").items()
            attempted |= set(result.get("apps") or [app for app, one in warm if one.get("switching")])
    return attempted


def _rolled_back(variables: Any) -> dict[str, Result]:
    """The results of the apps that were rolled back, or needed no rollback."""
    return {app: one for app, one in registered(variables, "rolled_back").items() if not one.get("failed")}


def _unconfirmed(variables: Any) -> dict[str, str]:
    """The apps whose switch was attempted and whose rollback is not confirmed, with the reason.

    A host that was rebooted in between has no lock any more, and so nothing to roll back; it starts what is live.
    """
    warm, results = registered(variables, "warm"), registered(variables, "rolled_back")
    whole = variables.get(REGISTERED["rolled_back"]) or {}
    reasons = {}
    for app in sorted(_attempted(variables)):
        result = results.get(app)
        if result is None and whole.get("failed"):
            reasons[app] = f"{app} was not rolled back: {whole.get('msg')}"
        elif result is None:
            reasons[app] = "does not answer, and may have switched"
        elif result.get("failed"):
            reasons[app] = f"{app} was not rolled back: {result['failed']}"
        elif result.get("locked_by"):
            continue  # another run has broken this run's lock, and answers for the host now
        elif release_id(result["live"] or "") != release_id(warm[app]["before"] or ""):
            reasons[app] = f"{app} {result['live']} is live, and was not rolled back: the host has lost this run's lock"
    return reasons


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3] + " UTC"
