"""A release's manifest: the sha256 of each file when it was written."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from .files import read_json
from .paths import AppPaths

HOST_SPECIFIC = {"run", "venv", "secrets", "next", "previous", "manifest.json"}  # in a release's folder


def edited(paths: AppPaths, release: str) -> list[str]:
    """The files of a release that were edited, removed or added, in words."""
    written = read_json(paths.path(release) / "manifest.json") or {}
    on_disk = hashes(paths.path(release))
    on_disk.pop("manifest.json", None)
    changes = {name: "edited" for name in written if written[name] != on_disk.get(name)}
    changes |= {name: "removed" for name in written.keys() - on_disk.keys()}
    changes |= {name: "added" for name in on_disk.keys() - written.keys()}
    if (link := paths.target(f"releases/{release}/secrets")) and not (paths.home / "secrets" / link).is_dir():
        changes["secrets"] = "removed"
    return [f"{paths.path(release) / name} was {change}" for name, change in sorted(changes.items())]


def hashes(release: Path) -> dict[str, str]:
    """The sha256 of each file of a release, by path, without what differs between hosts or the app may write."""
    found = {}
    for folder, folders, names in os.walk(release):
        folders[:] = sorted(set(folders) - ({"__pycache__"} | (HOST_SPECIFIC if folder == str(release) else set())))
        for path in (Path(folder, name) for name in names):
            if stat.S_ISREG(path.lstat().st_mode):
                found[str(path.relative_to(release))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
