"""Static files of the release before and after a release, as hard links. They are never edited."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .files import remove_trees
from .paths import AppPaths


def link(paths: AppPaths, release: str) -> None:
    """Link the static files of the live release and of its successor into each other.

    A page of one release may ask the other one for its assets. Hard links, because uWSGI, which serves them if nginx
    does not, serves no file outside a static map's own folder.
    """
    live = paths.live()
    if live and live != release:
        for owner, folder, source in ((live, "next", release), (release, "previous", live)):
            remove_trees(paths.path(owner) / folder)
            link_tree(paths.path(source) / "static", paths.path(owner) / folder)


def unlink(paths: AppPaths) -> None:
    """Remove the static files of a successor that was discarded from the live release."""
    if live := paths.live():
        remove_trees(*(paths.path(live) / "next").glob("*"))


def link_tree(source: Path, target: Path) -> None:
    """Copy a folder with hard links for its files."""
    shutil.copytree(source, target, copy_function=os.link, symlinks=True, dirs_exist_ok=True)
