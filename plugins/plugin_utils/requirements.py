"""The requirements of an app, read on the controller into the lines of one requirements file.

No code of the app runs and nothing uses the network. The tools that wrote lock files export them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from packaging.dependency_groups import DependencyGroupResolver
from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel, Pylock
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .entries import Entry
from .exporters import EXPORTERS, exported
from .requirements_text import logical_lines, read_text, read_toml
from .sources import Fetched, SourceError

OPTION = re.compile(r"(?P<option>-[a-zA-Z]|--[a-z-]+)(?:\s*=\s*|\s+|(?<=^-[a-zA-Z]))(?P<value>.*)")
PASSED_ON = {
    "-i", "--index-url", "--extra-index-url", "--no-index", "--no-binary", "--only-binary", "--prefer-binary",
    "--require-hashes", "--pre", "--trusted-host", "--use-feature",
}  # fmt: skip
OTHER_FILE = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
THE_PROJECT = re.compile(r"\./?\s*(\[(?P<extras>[\w., -]*)\])?(\s*;.*)?")
A_PATH = re.compile(r"[.~]?/|\.|[\w.-]+/|file:|.* @ file:|[^ ]*\.(whl|zip|tar\.gz)$")
FROM_REPOSITORY = re.compile(r"(git|hg|svn|bzr)\+")
VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
LOCK_MARKER = re.compile(r"""['"]([\w.-]+)['"]\s+(not\s+in|in)\s+(extras|dependency_groups)""")
LOCK_ANEW = "lock the file anew (uv pip compile --generate-hashes)"


class Required(NamedTuple):
    """What pip installs for an app."""

    lines: str  # of a requirements file that includes no other file
    constraints: str = ""  # of a file that pip's option -c names
    project: str | None = None  # the extras of the project itself, like "[mail]" or ""; None: it is not installed
    resolved: bool = True  # whether the lines have the project's dependencies; if not, only building it reveals them


def required(found: Fetched, entry: Entry) -> Required:
    """What pip installs for an app.

    :raises SourceError: a requirement can't be read, or can't be installed on a host; the message has file and line.
    """
    reader = _Reader(found.folder)
    if entry["install"]:
        reader.install(entry["extras"])
    if found.folder:
        reader.read(found.folder / entry["requirements"], entry["extras"], entry["groups"])
    else:
        if entry["install"] or entry["extras"] or entry["groups"]:
            raise SourceError("install, extras and groups are of a source; leave them out, or write name[extra]==1.0")
        reader.add(entry["source"]["package"], "source.package")
    for line in entry["further_requirements"]:
        reader.add(line, "further_requirements")
    return reader.result()


class _Reader:
    """Collects requirements. A file may include others below ``source``."""

    def __init__(self, source: Path | None) -> None:
        self.source = source
        self.lines: list[tuple[str, str, str]] = []  # file and line, the text as written, the text without comments
        self.constraints: list[str] = []
        self.extras: set[str] | None = None  # of the project, if it is to be installed
        self.has_dependencies = False  # whether the lines have the project's
        self.dynamic: Path | None = None  # the file that declares its dependencies as dynamic

    def read(self, path: Path, extras: Iterable[str] = (), groups: Iterable[str] = ()) -> None:
        """Read a file of any supported kind, or the project if the path is its folder."""
        if self.source and path.resolve() == self.source.resolve():
            self.install(extras)
            return
        if not path.is_file():
            raise SourceError(f"requirements: there is no file {path}; name one below the source")
        if path.name == "pyproject.toml":
            self._read_project(path, extras, groups)
        elif re.fullmatch(r"pylock(\.[^.]+)?\.toml", path.name):
            self._read_pylock(path, extras, groups)
        elif path.name in EXPORTERS:
            self.add(exported(path, [*extras], [*groups]), str(path))
        else:
            self._read_file(path, ())
            if self.extras is not None:
                self.install(extras)
            elif extras:
                raise SourceError(f"{path}: extras are of the project, which it does not name; add install: true")
            if groups:
                raise SourceError(f"{path}: groups are of a pyproject.toml or a lock file; leave them out")

    def install(self, extras: Iterable[str]) -> None:
        """Install the project itself, too."""
        self.extras = {*(self.extras or ()), *extras}

    def add(self, text: str, where: str, above: tuple[Path, ...] = (), is_constraint: bool = False) -> None:
        """Read the text of a requirements file. ``above`` are the files that include it, and itself as the last one."""
        for number, written, line in logical_lines(text):
            place = f"{where}:{number}" if above or "\n" in text.strip() else where
            if not line:
                continue
            if found := VARIABLE.search(line):
                raise SourceError(
                    f"{place}: {line!r} needs the variable {found[0]}, which no host has; write its value"
                )
            option = OPTION.fullmatch(line) if line.startswith("-") else None
            name, value = (option["option"], option["value"].strip("\"' ")) if option else (line.split()[0], "")
            if name in OTHER_FILE and above:
                self._read_other_file(above, value, f"{place}: {line!r}", is_constraint or OTHER_FILE[name] == "-c")
                continue
            if name in ("-e", "--editable"):
                written, line = written.replace(line, value), value
            elif name in PASSED_ON or (name in ("-f", "--find-links") and value.startswith("https://")):
                self.lines.append((place, written, ""))
                continue
            elif name.startswith("-"):
                raise SourceError(f"{place}: {line!r} can't be used here; remove it, or name wheels in `wheels`")
            self._add_requirement(line, written, place, is_constraint)

    def _add_requirement(self, line: str, written: str, place: str, is_constraint: bool) -> None:
        if project := THE_PROJECT.fullmatch(line):
            if not self.source or is_constraint:
                raise SourceError(f"{place}: {line!r} there is no project to install; remove the line")
            self.install(filter(None, re.split(r"[\s,]+", project["extras"] or "")))
            return
        is_address = line.startswith(("https://", "http://")) or FROM_REPOSITORY.match(line)
        if A_PATH.match(line) and not is_address:
            raise SourceError(
                f"{place}: {line!r} is a path, which hosts do not have; build a wheel of it (pip wheel --no-deps) and "
                "name that in `wheels`"
            )
        if not is_address:
            try:
                name = Requirement(re.split(r"\s--?[a-z]", line)[0]).name
            except InvalidRequirement as error:
                words = str(error).partition("\n")[0]
                raise SourceError(f"{place}: {line!r} can't be read: {words}; write it as in PEP 508") from error
            if canonicalize_name(name) == "uwsgi" and not is_constraint:
                raise SourceError(f"{place}: {line!r} would replace the uWSGI that was built for hosts; remove it")
        if is_constraint:
            self.constraints.append(written)
        else:
            self.lines.append((place, written, line))

    def _read_file(self, path: Path, above: tuple[Path, ...], is_constraint: bool = False) -> None:
        self.add(read_text(path), str(path), (*above, path), is_constraint)

    def _read_other_file(self, above: tuple[Path, ...], name: str, place: str, is_constraint: bool) -> None:
        """Read the file that a line names, relative to its own file, as pip does."""
        path = above[-1].parent / name
        if not self.source or not path.resolve().is_relative_to(self.source.resolve()):
            raise SourceError(f"{place} is not below the source; copy it there")
        if not path.is_file():
            raise SourceError(f"{place} there is no file {path}")
        if path.resolve() in {one.resolve() for one in above}:
            raise SourceError(f"{place} is read already, and would be read for ever; remove the line")
        self._read_file(path, above, is_constraint)

    def _read_project(self, path: Path, extras: Iterable[str], groups: Iterable[str]) -> None:
        """Add the dependencies of a ``pyproject.toml``, with those of extras and groups."""
        whole = read_toml(path)
        project = whole.get("project")
        if project is None and not groups:
            raise SourceError(f"{path}: it has no [project]; name a lock file in requirements instead")
        self._add_dependencies(path, project or {}, extras)
        try:
            resolver = DependencyGroupResolver(whole.get("dependency-groups", {}))
            for group in groups:
                for requirement in resolver.resolve(group):
                    self.add(str(requirement), f"{path}: dependency-groups.{group}")
        except (LookupError, ValueError, TypeError, ExceptionGroup) as error:
            reasons = getattr(error, "exceptions", [error])
            raise SourceError(f"{path}: dependency-groups: {'; '.join(map(str, reasons))}") from error

    def _add_dependencies(self, path: Path, project: dict[str, Any], extras: Iterable[str]) -> None:
        if {"dependencies", "optional-dependencies"} & {*project.get("dynamic", [])}:
            self.dynamic = path
            return
        self.has_dependencies = True
        for line in project.get("dependencies", []):
            self.add(line, f"{path}: dependencies")
        optional = {canonicalize_name(name): lines for name, lines in project.get("optional-dependencies", {}).items()}
        pending, seen = [canonicalize_name(extra) for extra in extras], set[str]()
        while pending:
            extra = pending.pop(0)
            if extra not in optional:
                raise SourceError(
                    f"{path}: there is no extra {extra!r}; it has {', '.join(sorted(optional)) or 'none'}"
                )
            for line in optional[extra] if extra not in seen else ():
                same = re.match(r"\s*([\w.-]+)\s*\[([^\]]*)\]", line)
                if same and canonicalize_name(same[1]) == canonicalize_name(project.get("name", "")):
                    pending += [canonicalize_name(one.strip()) for one in same[2].split(",")]
                else:
                    self.add(line, f"{path}: optional-dependencies.{extra}")
            seen.add(extra)

    def _read_pylock(self, path: Path, extras: Iterable[str], groups: Iterable[str]) -> None:
        """Add the packages of a lock file of PEP 751, with the hashes of all their files."""
        try:
            lock = Pylock.from_dict(read_toml(path))
        except Exception as error:  # packaging raises several kinds
            raise SourceError(f"{path}: it can't be read: {error}; write it anew") from error
        chosen: dict[str, set[str]] = {
            "extras": {canonicalize_name(extra) for extra in extras},
            "dependency_groups": {*groups} or {*(lock.default_groups or ())},
        }
        for wanted, known in ((extras, lock.extras), (groups, lock.dependency_groups)):
            if unknown := {*wanted} - {*(known or ())}:
                raise SourceError(f"{path}: it was locked without {', '.join(sorted(unknown))}; lock it with them")
        for package in lock.packages:
            self.add(_locked_line(package, chosen, path), f"{path}: {package.name}")

    def result(self) -> Required:
        """All requirements that were read.

        :raises SourceError: only some lines have hashes, so that pip would refuse the others.
        """
        hashed = any("--hash=" in line for _, _, line in self.lines)
        if self.dynamic and self.extras is None:
            raise SourceError(
                f"{self.dynamic}: its dependencies are dynamic; name a lock file, or install: true, which builds it"
            )
        if self.extras is not None and not hashed and not self.has_dependencies and self.source:
            path = self.source / "pyproject.toml"
            if path.is_file() and (project := read_toml(path).get("project")):
                self._add_dependencies(path, project, self.extras)
        for where, _, line in self.lines:
            if hashed and line and "--hash=" not in line:
                raise SourceError(
                    f"{where}: {line!r} has no --hash, and others have, so that pip would refuse it; {LOCK_ANEW}"
                )
        return Required(
            "".join(written for _, written, _ in self.lines),
            "".join(self.constraints),
            None if self.extras is None else f"[{','.join(sorted(self.extras))}]" if self.extras else "",
            self.extras is None or hashed or self.has_dependencies,
        )


def _locked_line(package: Package, chosen: dict[str, set[str]], path: Path) -> str:
    """A package of a lock file as a requirement with hashes. Its marker is false if no chosen extra or group has it."""
    if package.is_direct and not package.archive:
        raise SourceError(
            f"{path}: {package.name} is a path or a repository; build a wheel of it (pip wheel --no-deps) and name "
            "that in `wheels`"
        )
    others = (one for one in (package.sdist, package.archive) if one)
    files: list[PackageWheel | PackageSdist | PackageArchive] = [*(package.wheels or ()), *others]
    hashes = sorted({f"--hash={name}:{value}" for file in files for name, value in file.hashes.items()})
    what = f" @ {package.archive.url}" if package.archive else f"=={package.version}"

    def evaluated(match: re.Match[str]) -> str:
        is_chosen = (match[1] in chosen[match[3]]) == (match[2] == "in")
        return "python_version >= '3'" if is_chosen else "python_version < '3'"  # pip has no such marker

    marker = f" ; {LOCK_MARKER.sub(evaluated, str(package.marker))}" if package.marker else ""
    return " ".join([f"{package.name}{what}{marker}", *hashes])
