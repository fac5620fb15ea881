"""What an app requires, read on the controller: the lines of one requirements file that needs no other file.

Nothing of an app is run for that, and nothing asks the network: lock files are exported by the tools that wrote them.
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
OF_THE_LOCK = re.compile(r"""['"]([\w.-]+)['"]\s+(not\s+in|in)\s+(extras|dependency_groups)""")
LOCK_ANEW = "lock the file anew (uv pip compile --generate-hashes)"


class Required(NamedTuple):
    """What pip is to install for an app."""

    lines: str  # of a requirements file that names no other one
    constraints: str = ""  # of a file that pip's option -c names
    project: str | None = None  # the extras of the project itself, like "[mail]" or ""; None: it is not installed
    resolved: bool = True  # whether the lines have what the project needs; if not, only a build of it tells


def required(found: Fetched, entry: Entry) -> Required:
    """What pip is to install for an app.

    :raises SourceError: it can't be told, or needs what a host does not have; the message names file and line.
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
    """What was read so far; ``source`` is the folder that a file may name others of."""

    def __init__(self, source: Path | None) -> None:
        self.source = source
        self.lines: list[tuple[str, str, str]] = []  # where, as it is written, without comments
        self.constraints: list[str] = []
        self.extras: set[str] | None = None  # of the project, if it is to be installed
        self.has_dependencies = False  # those of the project are among the lines
        self.dynamic: Path | None = None  # the file that does not tell them

    def read(self, path: Path, extras: Iterable[str] = (), groups: Iterable[str] = ()) -> None:
        """Read a file, whatever it is."""
        if self.source and path.resolve() == self.source.resolve():
            self.install(extras)
            return
        if not path.is_file():
            raise SourceError(f"requirements: there is no file {path}; name one below the source")
        if path.name == "pyproject.toml":
            self._project(path, extras, groups)
        elif re.fullmatch(r"pylock(\.[^.]+)?\.toml", path.name):
            self._pylock(path, extras, groups)
        elif path.name in EXPORTERS:
            self.add(exported(path, [*extras], [*groups]), str(path))
        else:
            self._file(path, ())
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
        """Read the text of a requirements file, which is the last one of ``above``, if it is a file."""
        for number, written, line in logical_lines(text):
            here = f"{where}:{number}" if above or "\n" in text.strip() else where
            if not line:
                continue
            if found := VARIABLE.search(line):
                raise SourceError(f"{here}: {line!r} needs the variable {found[0]}, which no host has; write its value")
            option = OPTION.fullmatch(line) if line.startswith("-") else None
            name, value = (option["option"], option["value"].strip("\"' ")) if option else (line.split()[0], "")
            if name in OTHER_FILE and above:
                self._other_file(above, value, f"{here}: {line!r}", is_constraint or OTHER_FILE[name] == "-c")
                continue
            if name in ("-e", "--editable"):
                written, line = written.replace(line, value), value
            elif name in PASSED_ON or (name in ("-f", "--find-links") and value.startswith("https://")):
                self.lines.append((here, written, ""))
                continue
            elif name.startswith("-"):
                raise SourceError(f"{here}: {line!r} can't be used here; remove it, or name wheels in `wheels`")
            self._requirement(line, written, here, is_constraint)

    def _requirement(self, line: str, written: str, here: str, is_constraint: bool) -> None:
        if project := THE_PROJECT.fullmatch(line):
            if not self.source or is_constraint:
                raise SourceError(f"{here}: {line!r} there is no project to install; remove the line")
            self.install(filter(None, re.split(r"[\s,]+", project["extras"] or "")))
            return
        is_address = line.startswith(("https://", "http://")) or FROM_REPOSITORY.match(line)
        if A_PATH.match(line) and not is_address:
            raise SourceError(
                f"{here}: {line!r} is a path, which hosts do not have; build a wheel of it (pip wheel --no-deps) and "
                "name that in `wheels`"
            )
        if not is_address:
            try:
                name = Requirement(re.split(r"\s--?[a-z]", line)[0]).name
            except InvalidRequirement as error:
                words = str(error).partition("\n")[0]
                raise SourceError(f"{here}: {line!r} can't be read: {words}; write it as in PEP 508") from error
            if canonicalize_name(name) == "uwsgi" and not is_constraint:
                raise SourceError(f"{here}: {line!r} would replace the uWSGI that was built for hosts; remove it")
        if is_constraint:
            self.constraints.append(written)
        else:
            self.lines.append((here, written, line))

    def _file(self, path: Path, above: tuple[Path, ...], is_constraint: bool = False) -> None:
        self.add(read_text(path), str(path), (*above, path), is_constraint)

    def _other_file(self, above: tuple[Path, ...], name: str, here: str, is_constraint: bool) -> None:
        """Read the file that a line names, relative to its own file, as pip does."""
        path = above[-1].parent / name
        if not self.source or not path.resolve().is_relative_to(self.source.resolve()):
            raise SourceError(f"{here} is not below the source; copy it there")
        if not path.is_file():
            raise SourceError(f"{here} there is no file {path}")
        if path.resolve() in {one.resolve() for one in above}:
            raise SourceError(f"{here} is read already, and would be read for ever; remove the line")
        self._file(path, above, is_constraint)

    def _project(self, path: Path, extras: Iterable[str], groups: Iterable[str]) -> None:
        """Add the dependencies of a ``pyproject.toml``, with those of extras and groups."""
        whole = read_toml(path)
        project = whole.get("project")
        if project is None and not groups:
            raise SourceError(f"{path}: it has no [project]; name a lock file in requirements instead")
        self._dependencies(path, project or {}, extras)
        try:
            resolver = DependencyGroupResolver(whole.get("dependency-groups", {}))
            for group in groups:
                for requirement in resolver.resolve(group):
                    self.add(str(requirement), f"{path}: dependency-groups.{group}")
        except (LookupError, ValueError, TypeError, ExceptionGroup) as error:
            reasons = getattr(error, "exceptions", [error])
            raise SourceError(f"{path}: dependency-groups: {'; '.join(map(str, reasons))}") from error

    def _dependencies(self, path: Path, project: dict[str, Any], extras: Iterable[str]) -> None:
        if {"dependencies", "optional-dependencies"} & {*project.get("dynamic", [])}:
            self.dynamic = path
            return
        self.has_dependencies = True
        for line in project.get("dependencies", []):
            self.add(line, f"{path}: dependencies")
        optional = {canonicalize_name(name): lines for name, lines in project.get("optional-dependencies", {}).items()}
        left, seen = [canonicalize_name(extra) for extra in extras], set[str]()
        while left:
            extra = left.pop(0)
            if extra not in optional:
                raise SourceError(
                    f"{path}: there is no extra {extra!r}; it has {', '.join(sorted(optional)) or 'none'}"
                )
            for line in optional[extra] if extra not in seen else ():
                own = re.match(r"\s*([\w.-]+)\s*\[([^\]]*)\]", line)
                if own and canonicalize_name(own[1]) == canonicalize_name(project.get("name", "")):
                    left += [canonicalize_name(one.strip()) for one in own[2].split(",")]
                else:
                    self.add(line, f"{path}: optional-dependencies.{extra}")
            seen.add(extra)

    def _pylock(self, path: Path, extras: Iterable[str], groups: Iterable[str]) -> None:
        """Add what a lock file of PEP 751 has, each with the hashes of all its files."""
        try:
            lock = Pylock.from_dict(read_toml(path))
        except Exception as error:  # packaging's several ones
            raise SourceError(f"{path}: it can't be read: {error}; write it anew") from error
        chosen: dict[str, set[str]] = {
            "extras": {canonicalize_name(extra) for extra in extras},
            "dependency_groups": {*groups} or {*(lock.default_groups or ())},
        }
        for wanted, known in ((extras, lock.extras), (groups, lock.dependency_groups)):
            if unknown := {*wanted} - {*(known or ())}:
                raise SourceError(f"{path}: it was locked without {', '.join(sorted(unknown))}; lock it with them")
        for package in lock.packages:
            self.add(_locked(package, chosen, path), f"{path}: {package.name}")

    def result(self) -> Required:
        """What is required, of all that was read.

        :raises SourceError: some lines have hashes, and others do not, so that pip would refuse them.
        """
        hashed = any("--hash=" in line for _, _, line in self.lines)
        if self.dynamic and self.extras is None:
            raise SourceError(
                f"{self.dynamic}: its dependencies are dynamic; name a lock file, or install: true, which builds it"
            )
        if self.extras is not None and not hashed and not self.has_dependencies and self.source:
            path = self.source / "pyproject.toml"
            if path.is_file() and (project := read_toml(path).get("project")):
                self._dependencies(path, project, self.extras)
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


def _locked(package: Package, chosen: dict[str, set[str]], path: Path) -> str:
    """A package of a lock file as a line with hashes; its marker says whether extras and groups want it."""
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
        has = (match[1] in chosen[match[3]]) == (match[2] == "in")
        return "python_version >= '3'" if has else "python_version < '3'"  # pip knows no such marker

    marker = f" ; {OF_THE_LOCK.sub(evaluated, str(package.marker))}" if package.marker else ""
    return " ".join([f"{package.name}{what}{marker}", *hashes])
