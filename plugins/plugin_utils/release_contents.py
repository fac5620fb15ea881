"""Which files of a source are part of a release: neither caches nor version control, nor what is excluded."""

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
    """What of a source is part of a release."""

    files: list[Path]  # and links, by path
    left_out: list[str]  # the topmost paths that are not, below the source, but for version control and caches


def contents(source: Path | None, options: Mapping[str, Any] = NOTHING, static: Iterable[str] = ()) -> Contents:
    """What of a source is part of a release: no caches, environments and version control, nor what is excluded.

    Below a folder that nginx serves, what is named like an environment is part of it: pages load it.

    :param source: None, as a package has none, is an empty one.
    :param options: of it, ``exclude`` (patterns of gitignore(5), ``!`` brings back what is left out otherwise) and
        ``gitignore`` (whether the source's own files of that name count, too).
    :param static: the folders that nginx serves, below the source.
    :raises SourceError: something that can't be part of a release.
    """
    found = Contents([], [])
    if source:
        exclude = GitIgnoreSpec.from_lines(options.get("exclude") or ())
        served = [real_path(source / folder) for folder in static]
        _walk(source, _Rules(source, exclude, bool(options.get("gitignore")), served), found)
    return Contents(sorted(found.files), sorted(found.left_out))


class _Rules(NamedTuple):
    """What is left out; ``ignored`` has what the files .gitignore say, by their folder, the deepest one last."""

    source: Path
    exclude: GitIgnoreSpec
    gitignore: bool
    served: list[Path]
    ignored: tuple[tuple[Path, GitIgnoreSpec], ...] = ()
    only_served: bool = False

    def below(self, folder: Path) -> _Rules:
        """The rules for what is in a folder."""
        own = folder / ".gitignore"
        if not (self.gitignore and own.is_file()):
            return self
        return self._replace(ignored=(*self.ignored, (folder, GitIgnoreSpec.from_lines(own.read_text().splitlines()))))

    def is_excluded(self, path: Path, is_folder: bool) -> bool | None:
        """Whether a pattern excludes a path, or brings it back; None where none says anything."""
        for base, patterns in ((self.source, self.exclude), *reversed(self.ignored)):
            excluded = patterns.check_file(f"{path.relative_to(base)}{'/' * is_folder}").include
            if excluded is not None:
                return excluded
        return None


def _walk(folder: Path, rules: _Rules, found: Contents) -> None:
    rules = rules.below(folder)
    here = real_path(folder)
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        is_folder = stat.S_ISDIR(mode)
        real = here / path.name
        is_served = any(real.is_relative_to(one) for one in rules.served)
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
    """Refuse what is no text: an archive's names are UTF-8, and so are those that Python sees on a host."""
    try:
        for name in (path.name, *targets):
            name.encode()
    except UnicodeEncodeError as error:
        shown = ascii(os.fsencode(path))[2:-1]
        raise SourceError(f"{shown}: the name is not UTF-8; rename it, or leave it out by source.exclude") from error


def real_path(path: Path) -> Path:
    """Where a path leads to, also when that is nowhere or in a circle."""
    return Path(os.path.realpath(path))
