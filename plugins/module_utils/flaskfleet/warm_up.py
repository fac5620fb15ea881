"""Warming up a release beside the live one, and discarding one that does not become live."""

from __future__ import annotations

import os
import time
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from . import health, pruning, release_log, secret_files, shared_folders, static_links
from .app import App
from .files import group_id, point_symlink, remove_trees, user_id, write_file
from .paths import ReleaseFailed
from .programs import RUNNING
from .secret_files import Secrets
from .services import uwsgi_workers
from .users import run_as


def provide_files(app: App, release: str, secrets: Secrets) -> None:
    """Give a staged release its secrets and its shared paths, for its next start.

    If it runs with other secrets and is not live, it is stopped.
    """
    secret_files.store(app.paths, secrets)
    if not secret_files.has_set(app.paths, release, secrets):
        if release != app.paths.live():
            app.programs.drain_and_stop({release} & app.programs.registered())
        secret_files.link(app.paths, release, secrets)
    shared_folders.seed(app.paths, release)


def warm_up(app: App, release: str) -> None:
    """Run a release beside the live one until every worker has answered its health path.

    :raises ReleaseFailed: it did not get warm; it is discarded, and the message has its log.
    """
    program = app.programs.name(release)
    try:
        if not (app.paths.conf_d / f"{program}.conf").exists():
            content = (app.paths.path(release) / "supervisor.conf").read_bytes()
            write_file(app.paths.trial / f"{program}.conf", content, 0o640)
        before = release_log.size(app.paths, release)
        app.supervisor.start(app.programs.name(release))
        if problem := _await_workers(app, release):
            log = release_log.excerpt(app.paths, release, before)
            removal = "" if _was_live(app, release) else "The release was removed, and its log file with it. "
            raise ReleaseFailed(f"{app.name} {release} did not get warm: {problem}. {removal}Its log:\n{log}")
        static_links.link(app.paths, release)
        point_symlink(app.paths.home / "next", f"releases/{release}")
    except xmlrpc.client.Fault as fault:
        discard(app, release)
        raise ReleaseFailed(
            f"{app.name} {release} did not get warm: Supervisor refused its program ({fault.faultString})"
        ) from fault
    except BaseException:  # whatever fails, also a full disk, leaves nothing running
        discard(app, release)
        raise


def _await_workers(app: App, release: str) -> str | None:
    """Wait until each worker has answered; the problem in words if one does not, else None."""
    run, entry = app.paths.path(release) / "run", app.paths.entry(release)
    timeout, processes = entry["health"]["timeout_seconds"], entry["processes"] or os.cpu_count() or 1
    started = time.monotonic()
    pid = 0
    problem, refusal = "it does not listen", ""
    before: dict[int, int] = {}  # each worker's requests when a health check last failed: only later ones count

    def requests_by_worker() -> dict[int, int]:
        workers = uwsgi_workers(str(run / "stats.sock"), max(0.1, timeout - (time.monotonic() - started)))
        return {worker.id: worker.requests for worker in workers if worker.status != "cheap"}

    def check_health(_: int) -> str | None:
        return health.probe(app.paths, release, max(0.1, timeout - (time.monotonic() - started)))

    with ThreadPoolExecutor(max(2, processes)) as pool:
        while time.monotonic() - started < timeout:
            state = next(iter(app.supervisor.processes(app.programs.name(release))), None)
            pid = pid or (state["pid"] if state else 0)
            if not state or state["statename"] not in RUNNING or state["pid"] != pid:
                return "its program ended"
            if (run / "uwsgi.sock").exists():
                with suppress(OSError):
                    before = requests_by_worker() if refusal and problem == refusal else before
                problem = next(filter(None, pool.map(check_health, range(processes))), None) or ""
                refusal = problem or refusal
                with suppress(OSError):
                    idle = [worker for worker, count in requests_by_worker().items() if count <= before.get(worker, 0)]
                    if not problem and not idle:
                        return None
                    problem = problem or f"workers {idle[:10]} have not answered"
            time.sleep(0.05)
    return f"{refusal or problem}, after {timeout} seconds"


def discard(app: App, release: str) -> None:
    """Kill a release that is not live; remove it unless it was live once."""
    program = app.programs.name(release)
    app.supervisor.kill(program)
    for folder in (app.paths.trial, app.paths.conf_d):
        (folder / f"{program}.conf").unlink(missing_ok=True)
    app.supervisor.rpc.reloadConfig()
    if app.paths.target("next") == release:
        (app.paths.home / "next").unlink()
        static_links.unlink(app.paths)
    if not _was_live(app, release):
        pruning.remove_release(app.paths, release)
        pruning.prune_environments(app.paths)
        secret_files.prune(app.paths)
    restore_links(app)


def _was_live(app: App, release: str) -> bool:
    return bool(app.paths.journal().last(release))


def restore_links(app: App) -> None:
    """Point links below shared paths at the live release's files again: its `exec` does."""
    live = app.paths.live()
    if live and app.paths.entry(live).get("shared_paths"):
        run_as(user_id(app.name), group_id(app.name), [str(app.paths.path(live) / "exec"), "true"])


def clean_up(app: App, target: str | None, keep_warm: bool) -> None:
    """Stop and remove what interrupted runs left behind, except what ``target`` can use."""
    journal, live = app.paths.journal(), app.paths.live()
    for release in {*app.programs.registered(), *app.paths.on_disk()} - {live}:
        if release == target and not app.paths.path(release).exists():
            app.supervisor.kill(app.programs.name(release))
        elif release != target and not journal.last(release):
            discard(app, release)
    remove_trees(*(app.paths.home / "releases").glob(".*"))
    app.programs.drain_and_stop(app.programs.registered() - {live, target, app.paths.previous() if keep_warm else None})
