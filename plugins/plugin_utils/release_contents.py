"""The files of a source that are part of a release: no caches, no version control, no excluded files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pathspec import GitIgnoreSpec

from .sources import SourceError

VERSION_CONTROL_AND_CACHES = {
    ".git", ".hg", ".svn", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".tox",
}  # fmt: skip
ENVIRONMENTS = {".venv", "venv", "node_modules"}
NOTHING: Mapping[str, Any] = {}


class Contents(NamedTuple):
    """The files of a source that are part of a release, and those that are not."""

    files: list[Path]  # and links, sorted by path
    left_out: list[str]  # the topmost excluded paths below the source, without version control and caches


def contents(source: Path | None, options: Mapping[str, Any] = NOTHING, static: Iterable[str] = ()) -> Contents:
    """The files of a source that are part of a release, and the paths that are left out.

    Below a folder that nginx serves, folders named like environments are included, because pages load them.

    :param source: None for a package, which has no source.
    :param options: ``exclude`` (patterns of gitignore(5); ``!`` includes a path again) and ``gitignore`` (whether the
        source's .gitignore files count, too) of an app's source.
    :param static: the folders that nginx serves, below the source.
    :raises SourceError: a file can't be part of a release.
    """
    found = Contents([], [])
    if source:
        exclude = GitIgnoreSpec.from_lines(options.get("exclude") or ())
        served = [real_path(source / folder) for folder in static]
        _walk(source, _Rules(source, exclude, bool(options.get("gitignore")), served), found)
    return Contents(sorted(found.files), sorted(found.left_out))


class _Rules(NamedTuple):
    """The rules of exclusion. ``ignored`` has the patterns of .gitignore files by folder, the deepest last."""

    source: Path
    exclude: GitIgnoreSpec
    gitignore: bool
    served: list[Path]
    ignored: tuple[tuple[Path, GitIgnoreSpec], ...] = ()
    only_served: bool = False

    def below(self, folder: Path) -> _Rules:
        """The rules for the files in a folder."""
        ignore_file = folder / ".gitignore"
        if not (self.gitignore and ignore_file.is_file()):
            return self
        patterns = GitIgnoreSpec.from_lines(ignore_file.read_text().splitlines())
        return self._replace(ignored=(*self.ignored, (folder, patterns)))

    def is_excluded(self, path: Path, is_folder: bool) -> bool | None:
        """Whether a pattern excludes a path (True) or includes it again (False); None if no pattern matches."""
        for base, patterns in ((self.source, self.exclude), *reversed(self.ignored)):
            excluded = patterns.check_file(f"{path.relative_to(base)}{'/' * is_folder}").include
            if excluded is not None:
                return excluded
        return None


def _walk(folder: Path, rules: _Rules, found: Contents) -> None:
    rules = rules.below(folder)
    real_folder = real_path(folder)
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        is_folder = stat.S_ISDIR(mode)
        real = real_folder / path.name
        is_served = any(real.is_relative_to(served) for served in rules.served)
        is_cache = path.name in VERSION_CONTROL_AND_CACHES or path.suffix == ".pyc"
        is_environment = (path.name in ENVIRONMENTS or rules.only_served) and not is_served
        excluded = rules.is_excluded(path, is_folder)
        if excluded or (excluded is None and (is_cache or is_environment)):
            if not rules.only_served and (excluded or not is_cache or is_served):
                name = f"{path.relative_to(rules.source)}{'/' * is_folder}"
                found.left_out.append(name.encode(errors="backslashreplace").decode())
            if not excluded and not is_cache and is_folder and any(one.is_relative_to(real) for one in rules.served):
                _walk(path, rules._replace(only_served=True), found)
            continue
        _check_names(path, *([os.readlink(path)] if stat.S_ISLNK(mode) else []))
        if stat.S_ISLNK(mode):
            if Path(os.readlink(path)).is_absolute():
                raise SourceError(f"{path}: the link is absolute and would lead elsewhere on a host; make it relative")
            if not real_path(path).is_relative_to(real_path(rules.source)):
                raise SourceError(f"{path}: the link leads out of the source; copy what it points at")
            found.files.append(path)
        elif is_folder:
            _walk(path, rules._replace(only_served=False), found)
        elif stat.S_ISREG(mode):
            found.files.append(path)
        else:
            raise SourceError(f"{path}: neither a file nor a link; remove it from the source")


def _check_names(path: Path, *targets: str) -> None:
    """Refuse a name that is not UTF-8, because archives and Python on a host need UTF-8 names."""
    try:
        for name in (path.name, *targets):
            name.encode()
    except UnicodeEncodeError as error:
        shown = ascii(os.fsencode(path))[2:-1]
        raise SourceError(f"{shown}: the name is not UTF-8; rename it, or leave it out by source.exclude") from error


def real_path(path: Path) -> Path:
    """A path with all links resolved, also if it does not exist or is a loop."""
    return Path(os.path.realpath(path))
