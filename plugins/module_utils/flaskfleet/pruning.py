"""Removing releases, and the environments, wheels and secrets that only they used."""

from __future__ import annotations

from contextlib import suppress

from . import secret_files, wheels
from .environments import used_wheels
from .files import remove_trees
from .journal import release_id
from .paths import AppPaths


def remove_release(paths: AppPaths, release: str) -> None:
    """Remove a release. It is renamed first, so that a half-removed one does not count as a release."""
    for log in paths.logs.glob(f"{release}.log*"):
        log.unlink()
    renamed = paths.path(f".{release}")
    remove_trees(renamed)
    with suppress(FileNotFoundError):
        paths.path(release).rename(renamed)
    remove_trees(renamed)


def prune(paths: AppPaths, keep: int, stay: set[str | None]) -> None:
    """Remove old releases, and the environments, wheels and secrets that only they used.

    :param keep: how many of the releases that were live last stay. ``stay``: further releases that stay.
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
    remaining = set(map(release_id, paths.on_disk()))
    if journal.hooks.keys() - remaining:
        journal.hooks = {id: done for id, done in journal.hooks.items() if id in remaining}
        journal.save()
    prune_environments(paths)
    secret_files.prune(paths)


def prune_environments(paths: AppPaths) -> None:
    """Remove environments, and wheels of the host, that no release on disk uses."""
    used = {paths.target(f"releases/{release}/venv") for release in paths.on_disk()} | {paths.target("router")}
    remove_trees(*(environment for environment in paths.venvs.glob("*") if environment.name not in used))
    wheels.prune({sha256 for venvs in paths.home.parent.glob("*/venvs") for sha256 in used_wheels(venvs)}, paths.pool)
