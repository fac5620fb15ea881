"""What outlives an app's releases, on the host: see shared.py for where it lies."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import shared
from .files import fsync_path, give, group_id, remove_trees, user_id, write_file
from .paths import WEB_GROUP, AppPaths, ReleaseFailed
from .users import run_as

# As the app: a folder or a file in its own folders, complete or not there. $1 seed, $2 place, $3 folder or file.
SEED = """
rm -rf "$2.new" && mkdir -p "${2%/*}"
if [ -e "$1" ]; then cp -R "$1" "$2.new"; elif [ "$3" = folder ]; then mkdir "$2.new"; else exit 0; fi
mv -T "$2.new" "$2"
"""


def seed(paths: AppPaths, release: str) -> None:
    """Make what a release shares with others, from what its source has there; what is there stays as it is.

    All in folders of the app's is made by the app's user.

    :raises ReleaseFailed: the app's user can't.
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
            status, said = run_as(uid, gid, ["sh", "-ec", SEED, "sh", str(seed), str(place), kind])
            if status:
                raise ReleaseFailed(f"{paths.name}: shared_paths: {path} can't be made at {place}: {said}")


def _make_media(paths: AppPaths, place: Path, seed: Path) -> None:
    """A folder of the app's that nginx may read, below folders of root's.

    :raises ReleaseFailed: a folder above it is the app's, shared as a whole by an earlier release: a link there
        may lead anywhere.
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
            give(place, uid, web)
        return
    aside = place.with_name(f".{place.name}.new")
    remove_trees(aside)
    aside.mkdir(parents=True)
    os.chown(aside, uid, web)
    aside.chmod(0o2750)
    if seed.exists():
        status, said = run_as(uid, group_id(paths.name), ["cp", "-R", f"{seed}/.", str(aside)], umask=0o022)
        if status:
            raise ReleaseFailed(f"{paths.name}: shared_paths: {place} can't be made: {said}")
    aside.rename(place)
    fsync_path(place.parent)


def link(aside: Path, entry: dict[str, Any], own_files: dict[str, str], secret_files: Iterable[str]) -> None:
    """Link a staged source to what is not part of it: shared paths, files of the inventory, secret files.

    :param aside: the release that is being staged. ``own_files``: contents by path. ``secret_files``: paths.
    """
    shared_paths = entry.get("shared_paths", [])
    for path in shared_paths:
        inside, seed = aside / "src" / path, aside / "seed" / path
        if os.path.lexists(inside):
            seed.parent.mkdir(parents=True, exist_ok=True)
            inside.rename(seed)
        _link(inside, aside / "src", f"../../../{shared.place(path, entry['static'])}")
    for path, content in own_files.items():
        target = aside / ("files" if shared.below(path, shared_paths) else "src") / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        write_file(target, content.encode())
    for path in secret_files:
        if not shared.below(path, shared_paths):
            (aside / "src" / path).unlink(missing_ok=True)
            _link(aside / "src" / path, aside / "src", f"../secrets/files/{path}")


def _link(path: Path, root: Path, target: str) -> None:
    """Make a link below ``root`` to what is ``target`` as seen from there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("../" * len(path.parent.relative_to(root).parts) + target)
