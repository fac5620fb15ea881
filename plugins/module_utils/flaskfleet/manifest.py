"""What a release was when it was written: the sha256 of each of its files."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from .files import read_json
from .paths import AppPaths

OF_ITS_HOST = {"run", "venv", "secrets", "next", "previous", "manifest.json"}  # in a release's directory


def edited(paths: AppPaths, release: str) -> list[str]:
    """The files of a release that are not as they were written, in words."""
    written = read_json(paths.path(release) / "manifest.json") or {}
    there = of(paths.path(release))
    there.pop("manifest.json", None)
    words = {name: "edited" for name in written if written[name] != there.get(name)}
    words |= {name: "removed" for name in written.keys() - there.keys()}
    words |= {name: "added" for name in there.keys() - written.keys()}
    if (link := paths.target(f"releases/{release}/secrets")) and not (paths.home / "secrets" / link).is_dir():
        words["secrets"] = "removed"
    return [f"{paths.path(release) / name} was {word}" for name, word in sorted(words.items())]


def of(release: Path) -> dict[str, str]:
    """The sha256 of each file of a release that is never to change, by path; not of what the app's user may write."""
    found = {}
    for folder, folders, names in os.walk(release):
        folders[:] = sorted(set(folders) - ({"__pycache__"} | (OF_ITS_HOST if folder == str(release) else set())))
        for path in (Path(folder, name) for name in names):
            if stat.S_ISREG(path.lstat().st_mode):
                found[str(path.relative_to(release))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
