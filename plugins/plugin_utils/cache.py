"""The controller's cache: files that runs have fetched, packed and built, for later runs.

One process at a time uses a folder of it (flock). A new entry is complete before it is renamed to its place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .rendering import PROJECT

CACHE = PROJECT / ".cache"
KEPT_SECONDS = 86400  # a run may still use a younger entry


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Lock a folder of the cache; yields an empty folder in it, for unfinished and discarded entries."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        aside = folder / "aside"
        if aside.exists():  # left by a run that was killed
            shutil.rmtree(aside)
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def settle(made: Path, final: Path) -> None:
    """Rename a complete entry to its final name, durably."""
    os.sync()
    made.rename(final)


def prune(paths: Iterable[Path], kept: int, aside: Path) -> None:
    """Discard paths that were not used for a day, by modification time; the ``kept`` newest stay."""
    by_age = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_age[kept:]:
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.rename(aside / f"old-{path.name}")
