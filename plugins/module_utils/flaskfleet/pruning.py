"""Removing releases, and what only they have used."""

from __future__ import annotations

from contextlib import suppress

from . import secret_files, wheels
from .environments import used_wheels
from .files import remove_trees
from .journal import release_id
from .paths import AppPaths


def remove_release(paths: AppPaths, release: str) -> None:
    """Take a release off the disk: first out of sight, so that a half-removed one is none."""
    for log in paths.logs.glob(f"{release}.log*"):
        log.unlink()
    gone = paths.path(f".{release}")
    remove_trees(gone)
    with suppress(FileNotFoundError):
        paths.path(release).rename(gone)
    remove_trees(gone)


def prune(paths: AppPaths, keep: int, stay: set[str | None]) -> None:
    """Take releases off the disk with all that only they have.

    :param keep: how many of those that were live last are left. ``stay``: further ones that are.
    """
    journal, live = paths.journal(), paths.live()
    stay = {live, paths.target("previous"), *stay}
    ids = {release_id(live or "")}
    for release in journal.newest_first():
        if len(ids) < keep and release in paths.on_disk() and release_id(release) not in ids:
            ids.add(release_id(release))
            stay.add(release)
    for release in paths.on_disk():
        if release not in stay:
            remove_release(paths, release)
    left = set(map(release_id, paths.on_disk()))
    if journal.hooks.keys() - left:
        journal.hooks = {id: done for id, done in journal.hooks.items() if id in left}
        journal.save()
    prune_environments(paths)
    secret_files.prune(paths)


def prune_environments(paths: AppPaths) -> None:
    """Remove environments that nothing on disk uses."""
    used = {paths.target(f"releases/{release}/venv") for release in paths.on_disk()} | {paths.target("router")}
    remove_trees(*(environment for environment in paths.venvs.glob("*") if environment.name not in used))
    wheels.keep({sha256 for venvs in paths.home.parent.glob("*/venvs") for sha256 in used_wheels(venvs)}, paths.pool)
