"""The phases of a rollout on a host, and what each one undoes if it fails.

=============  =====================================================  =============================================
warm_up        acquires the lock unless this run holds it; stages     what was staged is removed, and the lock is
               the target and runs it beside the live release         released
before_switch  runs the hooks that have to pass before the switch     the new release is removed, the lock released
switch         ``current`` moves to the new release                   the new release is removed if it has ended
watch          judges what clients of the canary get                  nothing: roll_back does
confirm        asks the new release for its health path               nothing: roll_back does
roll_back      undoes all that this run has done, the switch too
after_switch   in a deploy runs the hooks that follow the switch      nothing: the new release stays
retire         starts the further programs, stops and removes old     nothing: the next run finishes it
               releases, releases the lock
=============  =====================================================  =============================================

Each phase is taken for all apps before the next one begins, and holds an app's step lock while it works on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from . import health, hooks, release_log, secret_files, staging, switching, targets, uploads
from . import warm_up as warming
from .app import App
from .canary import Mark
from .host_module import explain
from .journal import release_id
from .paths import ReleaseFailed
from .uploads import Result, Wanted


class RolloutFailed(Exception):
    """A phase failed for an app. ``results`` are those of all apps, ``holder`` is the record of a lock in the way."""

    def __init__(self, problems: list[str], results: dict[str, Result], holder: dict[str, Any] | None) -> None:
        self.results = results
        self.holder = holder
        super().__init__("\n".join(problems))


class Run:
    """The apps of one call, with the ``results`` by app and the ``problems`` in words."""

    def __init__(self, apps: Iterable[tuple[App, Wanted]]) -> None:
        self.apps = list(apps)
        self.results: dict[str, Result] = {app.name: {"changed": False, "said": []} for app, _ in self.apps}
        self.problems: list[str] = []
        self.holder: dict[str, Any] | None = None

    def each(self, do: Callable[[App, Wanted], Result]) -> None:
        """Call a function for each app, also after it has failed for one."""
        for app, wanted in self.apps:
            result = self.results[app.name]
            try:
                found = do(app, wanted)
                said = [*result["said"], *found.get("said", [])]
                result |= {**found, "changed": result["changed"] or found["changed"], "said": said}
            except Exception as error:  # any error: the other apps must still be rolled back
                problem = explain(app.name, error)
                result["failed"] = "\n".join(filter(None, [result.get("failed"), problem]))
                self.problems.append(problem)
                self.holder = self.holder or getattr(error, "holder", None)
            with suppress(OSError):
                result["live"] = app.paths.live()

    def end(self) -> dict[str, Result]:
        """The results.

        :raises RolloutFailed: something failed.
        """
        if self.problems:
            raise RolloutFailed(self.problems, self.results, self.holder)
        return self.results


def run(phases: Iterable[str], apps: list[tuple[App, Wanted]]) -> dict[str, Result]:
    """Take phases one after the other; the result of each app by its name.

    If a phase fails for an app, it is still taken for the other apps, so that all problems are reported together. Of
    the later phases only ``retire`` is taken. If another run holds the lock of one app, no app is warmed up.

    :raises RolloutFailed: with the results.
    """
    run = Run(apps)
    for phase in phases:
        if phase == "warm_up":
            run.each(check_lock)
        if run.problems and phase != "retire":
            continue
        if phase in ("warm_up", "retire"):
            os.nice(10)  # live releases get the CPU first; no later phase of this call starts anything live
        run.each(partial(take, phase))
    return run.end()


def take(phase: str, app: App, wanted: Wanted) -> Result:
    """Take one phase for one app."""
    # Without the step lock, because a hook of another run may hold that for long.
    if phase == "roll_back" and not app.rollout_lock.is_held_by(wanted["holder"]["process"]):
        return {"changed": False, "release": app.paths.live(), "locked_by": app.rollout_lock.record().get("by")}
    if phase == "warm_up":
        check_lock(app, wanted)
    with app.rollout_lock.one_step():
        return PHASES[phase](app, wanted)


def acquire_lock(app: App, wanted: Wanted, what: str, **further: Any) -> Wanted:
    """Acquire the lock, or change its record; break the lock if ``force`` is set or its holder has ended.

    :returns: the lock's record.
    """
    break_lock = wanted["force"] or app.rollout_lock.is_held_by(*wanted["break_holders"])
    return app.rollout_lock.acquire({**wanted["holder"], "what": what, **further}, break_lock)


def check_lock(app: App, wanted: Wanted) -> Result:
    """Check that no other run holds the lock.

    :raises Locked: another run does, and ``force`` is not set.
    """
    if not wanted["force"]:
        app.rollout_lock.check(wanted["holder"]["process"], *wanted["break_holders"])
    return {"changed": False}


def renew_lock(app: App, wanted: Wanted, **further: Any) -> Wanted:
    """Renew this run's lock; its record."""
    return app.rollout_lock.renew(wanted["holder"]["process"], **further)


def warm_up(app: App, wanted: Wanted) -> Result:
    """Stage the target and warm it up. If nothing is to be done, the lock is released again."""
    what = {"live": "restart", "inventory": "deploy"}.get(wanted["target"], "rollback")
    record = acquire_lock(app, wanted, what)
    try:
        result = _warm_up(app, wanted, what, record["interrupted"] or {})
    except BaseException:
        app.rollout_lock.release()
        raise
    if not ("switching" in result or "needs" in result):
        app.rollout_lock.release()
    return result


def _warm_up(app: App, wanted: Wanted, what: str, interrupted: Wanted) -> Result:
    release = targets.find(app, wanted, interrupted)
    live = app.paths.live()
    assert live
    secrets = uploads.secrets(wanted)
    if release is None and wanted["target"] == "inventory" and not secret_files.has_set(app.paths, live, secrets):
        release = live  # the same release with other secrets: a copy of it is warmed up
    if interrupted.get("target") != live:
        interrupted = {}
    if release is None and not interrupted and switching.is_settled(app, wanted["keep_warm"]):
        return {"changed": False, "release": live}
    staged = release is None or app.paths.path(release).exists()
    if not staged and (lack := uploads.needs(app, wanted, release, uploads.environment(wanted, *wanted["wheels"]))):
        return {"changed": False, "release": release, **lack}
    if release is None and interrupted:
        acquire_lock(app, wanted, **interrupted)
        return {"changed": True, "release": live, "before": interrupted["before"], "switching": interrupted["what"]}
    if release is None:
        switching.retire(app, wanted["keep_releases"], wanted["keep_warm"])
        return {"changed": True, "release": live}
    return _run_beside(app, wanted, what, release, live)


def _run_beside(app: App, wanted: Wanted, what: str, release: str, live: str) -> Result:
    """Stage a release unless it is staged, and run it beside the live one."""
    restart, started = release == live, time.monotonic()
    acquire_lock(app, wanted, what, target=release, before=live)
    warming.clean_up(app, None if restart else release, wanted["keep_warm"])
    staging.prepare(app.paths)
    if restart:
        release = staging.copy(app.paths, release)
        acquire_lock(app, wanted, what, target=release, before=live)
    elif not app.paths.path(release).exists():
        stage(app, wanted)
    try:
        warming.provide_files(app, release, uploads.secrets(wanted))
    except BaseException:
        warming.discard(app, release)
        raise
    warming.warm_up(app, release)
    seconds = round(time.monotonic() - started, 1)
    hooked = what == "deploy" and bool(wanted["hooks"]["before_switch"])
    return {
        "changed": True, "release": release, "before": live, "switching": what, "hooked": hooked, "seconds": seconds,
    }  # fmt: skip


def stage(app: App, wanted: Wanted) -> None:
    """Stage the release that the inventory asks for."""
    with uploads.archive(wanted) as archive:
        staging.stage(app.paths, uploads.release(wanted), archive, uploads.environment(wanted, *wanted["wheels"]))


def before_switch(app: App, wanted: Wanted) -> Result:
    """Run the hooks that have to pass before the switch."""
    release = renew_lock(app, wanted)["target"]
    try:
        return {"changed": True, "release": release, "said": run_hooks_before(app, wanted, release)}
    except (ReleaseFailed, OSError):
        app.rollout_lock.release()
        raise


def run_hooks_before(app: App, wanted: Wanted, release: str) -> list[str]:
    """Run the hooks before the switch, each once per release; if one fails, the release is discarded."""
    try:
        done = wanted["hooks_done"].get(release_id(release), {})
        commands = [command for command in wanted["hooks"]["before_switch"] if command not in done]
        return hooks.run(app.paths, release, commands, wanted["hooks"]["timeout_seconds"], once=True)
    except (ReleaseFailed, OSError):
        warming.discard(app, release)
        raise


def switch(app: App, wanted: Wanted) -> Result:
    """Switch to the warm release."""
    record = renew_lock(app, wanted)
    live, release = app.paths.live(), record["target"]
    if release == live:  # an interrupted run has switched to it
        return {"changed": False, "release": release}
    log = asdict(Mark.end(wanted["access_log"])) if wanted["access_log"] else None
    renew_lock(app, wanted, log=log, said=release_log.size(app.paths, release))
    return {"changed": True, "release": release, "at": switching.switch(app, release, record["by"], record["what"])}


def watch(app: App, wanted: Wanted) -> Result:
    """Watch the canary's error rate."""
    renew_lock(app, wanted)
    if not wanted["canary"]:  # no other host follows
        return {"changed": False, "release": app.paths.live()}
    traffic = asdict(switching.watch_canary(app, wanted["canary"]))
    return {"changed": False, "release": app.paths.live(), "traffic": traffic}


def confirm(app: App, wanted: Wanted) -> Result:
    """Check that the new release answers."""
    release = renew_lock(app, wanted)["target"]
    if app.paths.live() != release:
        raise ReleaseFailed(f"{app.name} {release} failed after the switch: {app.paths.live()} is live instead")
    if problem := health.probe(app.paths, release, app.paths.entry(release)["health"]["timeout_seconds"]):
        raise ReleaseFailed(f"{app.name} {release} failed after the switch: {problem}")
    return {"changed": False, "release": release}


def roll_back(app: App, wanted: Wanted) -> Result:
    """Undo this run on the host."""
    return {"changed": switching.roll_back(app, wanted["keep_warm"]), "release": app.paths.live()}


def after_switch(app: App, wanted: Wanted) -> Result:
    """Run the hooks that follow the switch."""
    live, record = app.paths.live(), renew_lock(app, wanted)
    assert live
    if record["what"] != "deploy":
        return {"changed": False, "release": live}
    return {"changed": True, "release": live, "said": run_hooks_after(app, wanted, live)}


def run_hooks_after(app: App, wanted: Wanted, release: str) -> list[str]:
    """Run the hooks after the switch."""
    commands, timeout = wanted["hooks"]["after_switch"], wanted["hooks"]["timeout_seconds"]
    return hooks.run(app.paths, release, commands, timeout, once=False)


def retire(app: App, wanted: Wanted) -> Result:
    """Stop and remove old releases, and release the lock."""
    renew_lock(app, wanted)
    traffic = asdict(switching.traffic_since_switch(app))
    if wanted["singletons"] is not None:
        app.programs.assign_singletons(wanted["singletons"])
    switching.retire(app, wanted["keep_releases"], wanted["keep_warm"])
    return {"changed": True, "release": app.paths.live(), "traffic": traffic}


PHASES: dict[str, Callable[[App, Wanted], Result]] = {
    "warm_up": warm_up,
    "before_switch": before_switch,
    "switch": switch,
    "watch": watch,
    "confirm": confirm,
    "roll_back": roll_back,
    "after_switch": after_switch,
    "retire": retire,
}
