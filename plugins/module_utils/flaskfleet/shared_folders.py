"""Shared paths on the host: folders and files that outlive an app's releases. shared.py computes their places."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import shared
from .files import chown_tree, fsync_path, group_id, remove_trees, user_id, write_file
from .paths import WEB_GROUP, AppPaths, ReleaseFailed
from .users import run_as

# Runs as the app's user. Creates a folder or file, complete or not at all. $1 seed, $2 place, $3 folder or file.
SEED = """
rm -rf "$2.new" && mkdir -p "${2%/*}"
if [ -e "$1" ]; then cp -R "$1" "$2.new"; elif [ "$3" = folder ]; then mkdir "$2.new"; else exit 0; fi
mv -T "$2.new" "$2"
"""


def seed(paths: AppPaths, release: str) -> None:
    """Create a release's shared paths with what its source has there. An existing one stays as it is.

    The app's user creates what lies in the app's own folders.

    :raises ReleaseFailed: the app's user can't create one.
    """
    entry, uid, gid = paths.entry(release), user_id(paths.name), group_id(paths.name)
    if not os.path.lexists(paths.home / "shared/var"):
        run_as(uid, gid, ["mkdir", "-p", str(paths.home / "shared/var")])
    for path in entry.get("shared_paths", []):
        place = paths.home / shared.place(path, entry["static"])
        seed = paths.path(release) / "seed" / path
        kind = "folder" if seed.is_dir() or (not seed.exists() and shared.is_folder(path)) else "file"
        if shared.served_at(path, entry["static"]):
            _make_media(paths, place, seed)
        elif not os.path.lexists(place):
            status, output = run_as(uid, gid, ["sh", "-ec", SEED, "sh", str(seed), str(place), kind])
            if status:
                raise ReleaseFailed(f"{paths.name}: shared_paths: {path} can't be made at {place}: {output}")


def _make_media(paths: AppPaths, place: Path, seed: Path) -> None:
    """Create a folder that the app owns and nginx may read, below folders that root owns.

    :raises ReleaseFailed: the app owns a folder above it, which an earlier release shared as a whole. A link there
        could lead anywhere.
    """
    uid, web = user_id(paths.name), group_id(WEB_GROUP)
    for folder in (paths.home / parent for parent in place.relative_to(paths.home).parents):
        if os.path.lexists(folder) and (folder.is_symlink() or folder.lstat().st_uid != os.geteuid()):
            raise ReleaseFailed(
                f"{paths.name}: shared_paths: {place} lies in {folder}, which the app writes; share that, "
                "or move it away"
            )
    if place.exists():
        if place.stat().st_uid != uid:
            chown_tree(place, uid, web)
        return
    new = place.with_name(f".{place.name}.new")
    remove_trees(new)
    new.mkdir(parents=True)
    os.chown(new, uid, web)
    new.chmod(0o2750)
    if seed.exists():
        status, output = run_as(uid, group_id(paths.name), ["cp", "-R", f"{seed}/.", str(new)], umask=0o022)
        if status:
            raise ReleaseFailed(f"{paths.name}: shared_paths: {place} can't be made: {output}")
    new.rename(place)
    fsync_path(place.parent)


def link(release: Path, entry: dict[str, Any], own_files: dict[str, str], secret_files: Iterable[str]) -> None:
    """Link a release's source to its shared paths and secret files, and add the files of the inventory.

    :param release: the folder of the release that is being staged. ``own_files``: contents by path.
    :param secret_files: paths.
    """
    shared_paths = entry.get("shared_paths", [])
    for path in shared_paths:
        inside, seed = release / "src" / path, release / "seed" / path
        if os.path.lexists(inside):
            seed.parent.mkdir(parents=True, exist_ok=True)
            inside.rename(seed)
        _link(inside, release / "src", f"../../../{shared.place(path, entry['static'])}")
    for path, content in own_files.items():
        target = release / ("files" if shared.below(path, shared_paths) else "src") / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        write_file(target, content.encode())
    for path in secret_files:
        if not shared.below(path, shared_paths):
            (release / "src" / path).unlink(missing_ok=True)
            _link(release / "src" / path, release / "src", f"../secrets/files/{path}")


def _link(path: Path, root: Path, target: str) -> None:
    """Create a link at a path below ``root``; ``target`` is relative to ``root``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("../" * len(path.parent.relative_to(root).parts) + target)
