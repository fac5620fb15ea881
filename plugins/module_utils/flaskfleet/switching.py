"""Switching an app to a warm release, watching it, rolling back, retiring what is not live."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from . import health, pruning, release_log, warm_up
from .app import App
from .canary import Mark, Traffic, traffic, watch
from .files import point_symlink, write_file
from .journal import now, record_change, release_id
from .paths import AppPaths, ReleaseFailed


def switch(app: App, release: str, by: str, what: str) -> float:
    """Persist the program of a warm release, then point ``current`` at it.

    A ``rollback`` voids the release that was live: it is switched to again only by force.

    :returns: when that was, in epoch seconds.
    :raises ReleaseFailed: the release does not run any more.
    """
    program, old = app.programs.name(release), app.paths.live()
    if not app.supervisor.is_running(program):
        log = release_log.excerpt(app.paths, release)
        warm_up.discard(app, release)
        raise ReleaseFailed(f"{app.name} {release} ended before the switch. Its log:\n{log}")
    journal = app.paths.journal()
    entry = {"release": release, "since": now(), "by": by, "what": what, "source": app.paths.record(release)["source"]}
    journal.history.append(entry)
    if what == "rollback" and old:
        journal.voided[release_id(old)] = {"since": entry["since"], "by": by}
    write_file(app.paths.conf_d / f"{program}.conf", (app.paths.path(release) / "supervisor.conf").read_bytes(), 0o640)
    (app.paths.trial / f"{program}.conf").unlink(missing_ok=True)
    journal.save()
    if old and release_id(old) != release_id(release):
        point_symlink(app.paths.home / "previous", f"releases/{old}")
    at = _point_current(app.paths, release)
    record_change(app.paths.audit_file, {"app": app.name, "from": old, **entry})
    return at


def _point_current(paths: AppPaths, release: str) -> float:
    """Point ``current`` at a release: the switch itself. When that was, in epoch seconds."""
    point_symlink(paths.logs / "current.log", f"{release}.log")
    point_symlink(paths.home / "current", f"releases/{release}")
    at = time.time()
    (paths.home / "next").unlink(missing_ok=True)
    return at


def roll_back(app: App, keep_warm: bool) -> bool:
    """Undo this rollout on the host, the switch too; whether there was anything to undo.

    The release from before still runs: only :func:`retire` stops it.
    """
    rollout, live = app.rollout_lock.record(), app.paths.live()
    if app.rollout_lock.restore_interrupted():
        return False
    before: str = rollout.get("before") or ""
    switched = bool(live and before) and live == rollout.get("target") and before != live
    if live and switched:
        if not app.programs.is_running(before):
            app.programs.start(before, swap=False)
        _point_current(app.paths, before)
        app.paths.journal().save()  # loading the journal has dropped the entry of the release that is not live any more
        if previous := app.paths.previous():
            point_symlink(app.paths.home / "previous", f"releases/{previous}")
        record_change(
            app.paths.audit_file,
            {"app": app.name, "from": live, "release": before, "since": now(), "by": rollout["by"],
             "what": f"undone {rollout['what']}", "source": app.paths.record(before).get("source")},
        )  # fmt: skip
        app.programs.swap_further()
        app.programs.drain_and_stop({live})
        warm_up.restore_links(app)
    changed = bool(switched or app.programs.registered() - {app.paths.live()})
    warm_up.clean_up(app, None, keep_warm)
    pruning.prune_environments(app.paths)
    app.rollout_lock.release()
    return changed


def traffic_since_switch(app: App) -> Traffic:
    """The requests that the live release answered since this rollout's switch, as nginx has logged them."""
    mark, live = app.rollout_lock.record().get("log"), app.paths.live()
    return traffic(Mark(**mark).since(), live) if mark and live else Traffic()


def watch_canary(app: App, canary: dict[str, Any]) -> Traffic:
    """Watch the live release of the canary.

    :param canary: ``seconds``, ``requests`` and ``failed_percent``, see ``canary.watch``.
    :raises ReleaseFailed: too many requests fail; the message has the end of the release's log.
    """
    live = app.paths.live()
    assert live
    timeout = app.paths.entry(live)["harakiri_seconds"]
    judged, refusal = watch(lambda: traffic_since_switch(app), lambda: health.probe(app.paths, live, timeout), **canary)
    if refusal:
        log = release_log.excerpt(app.paths, live, app.rollout_lock.record().get("said", 0))
        raise ReleaseFailed(f"{app.name} {live} failed on the canary: {refusal}. Its log:\n{log}")
    return judged


def is_settled(app: App, keep_warm: bool) -> bool:
    """Whether the live release runs, and no program that an interrupted run left behind."""
    live = app.paths.live()
    stay = {live, app.paths.previous() if keep_warm else None}
    return live is not None and app.programs.is_running(live) and not app.programs.registered() - stay


def retire(app: App, keep: int, keep_warm: bool) -> None:
    """Start the live release's programs, drain and stop the other releases, and prune.

    :param keep: how many releases stay on disk. ``keep_warm``: the previous release keeps running for a rollback.
    """
    live = app.paths.live()
    assert live
    program = app.programs.name(live)
    registered, written = app.paths.conf_d / f"{program}.conf", app.paths.path(live) / "supervisor.conf"
    is_serving = _same_content(registered, written) and app.supervisor.is_running(program)
    try:
        app.programs.swap_further() if is_serving else app.programs.start(live)
    finally:
        try:
            warm_up.clean_up(app, None, keep_warm)
            pruning.prune(app.paths, keep, {*app.programs.registered()})
        finally:
            app.rollout_lock.release()


def _same_content(registered: Path, written: Path) -> bool:
    return registered.exists() and registered.read_bytes() == written.read_bytes()
