"""An app's secrets. A set is never edited; a running release keeps the set that it was started with.

``/srv/<app>/secrets/<set>/`` has ``env/`` with a file per variable, and ``files/``. A release has a link to its set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .files import fsync_path, fsync_tree, group_id, point_symlink, remove_trees, write_file
from .paths import AppPaths


@dataclass(frozen=True)
class Secrets:
    """A set of secrets: variables and files, by name and by path. Equal sets have equal ids."""

    id: str
    env: dict[str, str]
    files: dict[str, str]

    @property
    def contents(self) -> dict[str, bytes]:
        """The set's files, by path."""
        found = {f"env/{name}": f"{value}\n".encode() for name, value in self.env.items()}
        return found | {f"files/{path}": content.encode() for path, content in self.files.items()}


def store(paths: AppPaths, secrets: Secrets) -> bool:
    """Write a set unless it exists and is complete; whether it was written."""
    final = paths.home / "secrets" / secrets.id
    if (final / "env").is_dir() and _read_files(final) == secrets.contents:
        return False
    aside, gid = final.with_name(f".{secrets.id}"), group_id(paths.name)
    remove_trees(aside)
    _make_folder(aside, gid)
    _make_folder(aside / "env", gid)
    for path, content in secrets.contents.items():
        for parent in reversed(Path(path).parents):
            _make_folder(aside / parent, gid)
        write_file(aside / path, content, 0o640, 0, gid)
    fsync_tree(aside)
    remove_trees(final)
    aside.rename(final)
    fsync_path(final.parent)
    return True


def link(paths: AppPaths, release: str, secrets: Secrets) -> None:
    """Link a release to a set on disk, which its next start reads."""
    point_symlink(paths.path(release) / "secrets", f"../../secrets/{secrets.id}")


def has_set(paths: AppPaths, release: str, secrets: Secrets) -> bool:
    """Whether a release is linked to this set."""
    return paths.target(f"releases/{release}/secrets") == secrets.id


def prune(paths: AppPaths) -> None:
    """Remove the sets that no release on disk is linked to.

    Releases of earlier versions have no set: they read files that lie directly in the folder ``secrets``.
    """
    used = {paths.target(f"releases/{release}/secrets") for release in paths.on_disk()}
    for path in (paths.home / "secrets").glob("*"):
        if path.is_dir() and path.name not in used:
            remove_trees(path)
        elif path.is_file() and None not in used:
            path.unlink()


def _read_files(folder: Path) -> dict[str, bytes]:
    """The contents of all files below a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _make_folder(path: Path, gid: int) -> None:
    """Create a folder that root writes and a group reads."""
    path.mkdir(exist_ok=True)
    os.chown(path, 0, gid)
    path.chmod(0o750)
