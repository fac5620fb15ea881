"""Static files of a release and of the one before or after it: further names of the same files, never edited."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .files import remove_trees
from .paths import AppPaths


def link(paths: AppPaths, release: str) -> None:
    """Let the live release and the one that is to follow it have each other's static files.

    For uWSGI alone, where nginx does not serve them: it serves no file outside a map's own folder, so these are
    further names of the same files. A page of one release may ask the other one for its assets.
    """
    live = paths.live()
    if live and live != release:
        for one, neighbour, other in ((live, "next", release), (release, "previous", live)):
            remove_trees(paths.path(one) / neighbour)
            link_tree(paths.path(other) / "static", paths.path(one) / neighbour)


def unlink(paths: AppPaths) -> None:
    """Let the live release have nothing of one that is not to follow it."""
    if live := paths.live():
        remove_trees(*(paths.path(live) / "next").glob("*"))


def link_tree(source: Path, target: Path) -> None:
    """Copy a folder, its files as further names of the same ones: they are never edited."""
    shutil.copytree(source, target, copy_function=os.link, symlinks=True, dirs_exist_ok=True)
