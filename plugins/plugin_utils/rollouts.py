"""A rollout as the controller sees it: whose it is, where a rollback leads to, and what is told at its end."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Container, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from module_utils.flaskfleet.journal import release_id

NOBODY = "nobody"
PROC = Path("/proc")
Result = dict[str, Any]


def owner() -> dict[str, str]:
    """Whose rollout it is: the ``process`` of this run, which is the parent of its workers, and ``by`` whom."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return {"process": _token(os.getppid()), "by": f"{user}@{socket.gethostname()}"}


def has_ended(process: str) -> bool:
    """Whether a controller's process was one of this machine, and is gone. Of others nobody knows that."""
    here, _, began = process.rpartition(" ")
    where, _, pid = here.rpartition(" ")
    if where != _here() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # another person's, of which /proc may tell nothing (hidepid, see proc(5))
        return _began(int(pid)) not in (began, "?")
    return _began(int(pid)) != began


def _token(pid: int) -> str:
    """What tells a process from any other one: ``<boot> <namespace> <pid> <when it began>``, see proc(5)."""
    return f"{_here()} {pid} {_began(pid)}"


def _here() -> str:
    """This boot of this machine, and this container on it, if it is one; machines may share a name. Linux tells it."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} ?"


def _began(pid: int) -> str:
    """When a process began, in ticks of the clock: a number is given to another process later."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "?"


def taking_over(execute: Callable[..., Result]) -> Result:
    """The result of a module, which takes over from a rollout of this controller whose process is gone.

    :param execute: runs the module with further arguments.
    """
    result = execute()
    holder = result.get("holder", {}).get("process", NOBODY)
    return execute(take_over=holder) if result.get("failed") and has_ended(holder) else result


def rollback_target(claims: dict[str, Result], app: str, asked: str, ship: bool = False) -> dict[str, Any]:
    """The release that all hosts go back to.

    A rollback that was interrupted is finished. Otherwise it is the one that every host has live or had live before:
    the same, whether all hosts have made the last switch or only some.

    :param claims: what the module ``rollout`` told, by host. ``asked``: ``previous``, or a release's name. ``ship``:
        whether hosts that lack it are to get it.
    :returns: its id as ``release``, the hosts that are ``lacking`` it, and one ``donor`` that has it as ``name``; where
        there is none, why, in words, as ``problem``.
    """
    apps = {host: claim["apps"][app] for host, claim in claims.items() if app in claim["apps"]}
    release = release_id(asked) if asked != "previous" else _interrupted(apps) or _common(apps)
    if not release:
        seen = (f"{host}: {one['live']} is live, {one['before'] or 'nothing'} was before" for host, one in apps.items())
        return {
            "release": None, "lacking": [], "donor": None, "name": None,
            "problem": f"{app}: there is no release that all hosts can go back to ({'; '.join(seen)}); name one: "
            "-e release=<id>",
        }  # fmt: skip
    having = {
        host: name for host, one in apps.items() for name in one["on_disk"] if release in (name, release_id(name))
    }
    lacking = [host for host in apps if host not in having]
    problem = ""
    if not having:
        problem = f"{app}: no host has a release {release}; playbooks/status.yml tells which there are"
    elif lacking and not ship:
        problem = (
            f"{app}: {', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no release {release}, and "
            f"{', '.join(having)} {'has' if len(having) == 1 else 'have'} it; -e ship=true brings it there first"
        )
    donor, name = next(iter(having.items()), (None, None))
    return {"release": release, "lacking": lacking, "donor": donor, "name": name, "problem": problem}


def fleet_release(seen: list[Result], app: str) -> dict[str, Any]:
    """The release that hosts have live, for one that joins them.

    :param seen: what the module ``rollout`` told on each, by task; one that did not answer has no say.
    :returns: its id as ``release``, one ``donor`` that has it as ``name``; None where no host has one; where there is
        more than one, a rollout goes on, or only a host that does not answer could tell, why that is no answer, as
        ``problem``.
    """
    apps = {one["__flask_app_host"]: one["apps"][app] for one in seen if app in one.get("apps", {})}
    live = {host: one["live"] for host, one in apps.items() if one["live"]}
    silent = [one["__flask_app_host"] for one in seen if "apps" not in one]
    problem = ""
    if going_on := [one["rollout"] for one in apps.values() if one["rollout"].get("target")]:
        problem = f"a {going_on[0]['what']} by {going_on[0]['by']} goes on; run this again when it has ended"
    elif len(set(map(release_id, live.values()))) > 1:
        runs = ", ".join(f"{host} {release}" for host, release in live.items())
        problem = f"{app}: the hosts run more than one release ({runs}); deploy or roll back on those first"
    elif silent and not live:
        problem = (
            f"{app}: {', '.join(silent)} can't be asked which release the fleet runs, and nobody else has one; run "
            "this again when all answer, or take who is gone out of the inventory"
        )
    donor, name = next(iter(live.items()), (None, None))
    return {"release": release_id(name) if name else None, "donor": donor, "name": name, "problem": problem}


def singletons_host(claims: dict[str, Result], app: str, hosts: list[str]) -> str | None:
    """The host that runs the programs of an app that run on one: where they are, or the first one.

    :param hosts: all that may; None where some of them are not part of the rollout, whom nobody has asked.
    """
    apps = {host: claim["apps"][app] for host, claim in claims.items() if app in claim.get("apps", {})}
    if not set(hosts) <= claims.keys():
        return None
    return next((host for host, one in apps.items() if one["singletons"]), next(iter(apps), None))


def _interrupted(apps: dict[str, Result]) -> str:
    """What an interrupted rollback led to, if some host has it live already."""
    for one in apps.values():
        left = one["interrupted"]
        if left.get("what") == "rollback" and left["target"] == one["live"]:
            return release_id(one["live"] or "")
    return ""


def _common(apps: dict[str, Result]) -> str:
    """The release before, the same for all hosts; where some are ahead of others, the one that these have live."""
    live = {release_id(one["live"] or "") for one in apps.values()}
    if len(live) == 1:
        found = {release_id(one["before"] or "") for one in apps.values()}
    else:
        found = set.intersection(
            *({release_id(one["live"] or ""), release_id(one["before"] or "")} for one in apps.values())
        )
    return found.pop() if len(found) == 1 else ""


def hooks_done(told: Iterable[Result], app: str) -> dict[str, dict[str, str]]:
    """The ``before_switch`` commands that hosts have run, by the release's id: which, and when.

    :param told: results of the modules ``rollout`` and ``app_release``.
    """
    done: dict[str, dict[str, str]] = {}
    for one in told:
        for release, commands in one.get("apps", {}).get(app, {}).get("hooks", {}).items():
            done.setdefault(release, {}).update(commands)
    return done


def movers(hosts: Iterable[str], hostvars: Any, app: str, out: Container[str] = ()) -> list[str]:
    """The hosts on which another release of an app is warm and to be made live, in their order.

    :param out: hosts that balancers leave out. They come last: no client tells how the first one does there.
    """
    found = (host for host in hosts if _of(_results(hostvars[host], "warm"), app).get("switching"))
    return sorted(found, key=lambda host: host in out)


def joining(hosts: Iterable[str], hostvars: Any, app: str) -> list[str]:
    """The hosts that have no release of an app while others may have one, in their order."""
    return [host for host in hosts if _of(_results(hostvars[host], "present"), app).get("joining")]


def strays(hosts: Iterable[str], hostvars: Any) -> list[str]:
    """The hosts that may serve what the others went back from: told to make an app live, and it is not undone."""
    return [host for host in hosts if _attempted(hostvars[host]) - {one["app"] for one in _undone(hostvars[host])}]


def failure(hosts: Iterable[str], hostvars: Any, quarantined: list[Result]) -> list[str]:
    """Where a fleet is after a rollout that was taken back, in words.

    :param quarantined: what the balancers told, each about a host, when strays were to be quarantined.
    """
    hosts = list(hosts)
    astray = strays(hosts, hostvars)
    lives: dict[str, set[str]] = {}
    for one in (one for host in hosts for one in _undone(hostvars[host])):
        lives.setdefault(one["app"], set()).add(release_id(one["live"] or ""))
    split = [app for app, releases in lives.items() if len(releases) > 1]
    if astray:
        lines = [f"The rollout was taken back, except on {', '.join(astray)}."]
    elif split:
        lines = [f"The rollout was taken back. As before, hosts differ in {', '.join(split)}: deploy or roll back."]
    else:
        lines = ["The rollout was taken back: no host serves a release that the others do not."]
    for host in hosts:
        is_live = ", ".join(f"{one['app']} {one['live']} is live" for one in _undone(hostvars[host]))
        if host not in astray:
            lines.append(f"- {host}: {is_live or 'does not answer, and was not told to switch'}")
            continue
        failed = [one for one in _results(hostvars[host], "undone") if one.get("failed")]
        problem = "; ".join(f"{one['app']} was not taken back: {one['msg']}" for one in failed)
        told = {one["__flask_app_pair"][1]: one for one in quarantined if one["__flask_app_pair"][0] == host}
        out = [balancer for balancer, one in told.items() if "drained" in one]
        lines.append(
            f"- {host}: {problem or 'does not answer, and may have switched'}. "
            + (f"{', '.join(out)} sends it nothing. " if len(out) == 1 else "")
            + (f"{', '.join(out)} send it nothing. " if len(out) > 1 else "")
            + "".join(
                f"{name} does: {one.get('msg', 'it does not answer')}. "
                for name, one in told.items()
                if name not in out
            )
            + "When it is back, deploy or roll back again: it is let in when it runs what the others run"
        )
    return lines


def summary(hosts: Iterable[str], hostvars: Any) -> list[str]:
    """What a rollout has done, a line per host and app."""
    lines = []
    for host in hosts:
        results = {step: _results(hostvars[host], step) for step in ("warm", "first", "others", "retired")}
        for warm in results["warm"]:
            app = warm["app"]
            if not warm.get("switching"):
                lines.append(f"{host}: {app} {warm['live']} was live already")
                continue
            at = _of(results["first"], app).get("at") or _of(results["others"], app).get("at")
            traffic = _of(results["retired"], app).get("traffic")
            words = [
                f"staged and warm in {warm['seconds']} s" if "seconds" in warm else "",
                f"switched at {_clock(at)}" if at else "was switched before",
                f"{traffic['requests']} requests since, {traffic['failed']} failed" if traffic else "",
            ]
            lines.append(f"{host}: {app} {warm['before']} → {warm['release']}: {', '.join(filter(None, words))}")
    return lines


def left(hosts: Iterable[str], hostvars: Any) -> list[str]:
    """What a rollout could not drain, stop and prune in the end, in words."""
    lines = []
    for host in hosts:
        if retired := hostvars[host].get("__flask_app_retired"):
            ended_badly = [one for one in retired.get("results", []) if one.get("failed") or one.get("unreachable")]
            lines += [f"- {host}: {one['__flask_app']['app']}: {one['msg']}" for one in ended_badly]
        elif any(one.get("switching") for one in _results(hostvars[host], "warm")):
            lines.append(f"- {host}: does not answer since its switch")
    return lines


def _attempted(variables: Any) -> set[str]:
    """The apps that a host was told to make live, however that ended."""
    items = [
        one for step in ("first", "others") for one in (variables.get(f"__flask_app_{step}") or {}).get("results", [])
    ]
    return {one["__flask_app"]["app"] for one in items if not one.get("skipped")}


def _undone(variables: Any) -> list[Result]:
    """What a host told that took back what it had done, or had nothing to take back."""
    return [one for one in _results(variables, "undone") if not one.get("failed")]


def _results(variables: Any, step: str) -> list[Result]:
    """The results of a step on a host, as tasks/rollout.yml of flask_app registers them; those of skipped items not."""
    registered = variables.get(f"__flask_app_{step}") or {}
    return [one for one in registered.get("results", []) if "app" in one]


def _of(results: list[Result], app: str) -> Result:
    return next((one for one in results if one["app"] == app), {})


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3] + " UTC"
