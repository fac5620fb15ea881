"""The controller's wheelhouse: the wheels of requirements, resolved and built once per platform.

::

    .cache/wheelhouse/<platform>/<interpreter>-<key>.json    a wheel set: requirements, wheels, how they were built
    .cache/wheelhouse/<platform>/<sha256>/<file>.whl

The first host of a platform that lacks a set builds it, while the others of the platform wait (flock). They all get
its wheels. A set is complete if all its wheels are on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from module_utils.flaskfleet.wheels import Wheel, WheelFailed, unpack, verify

from .cache import CACHE, locked, settle
from .sources import redact

WHEELHOUSE = CACHE / "wheelhouse"
COMPILED = re.compile(r"-(any|linux_[^-]*)\.whl$")  # the platform tags of wheels that pip compiles


@dataclass(frozen=True)
class Wanted:
    """The inputs of a wheel set; most are fields of ``Recipe`` in module_utils/flaskfleet/builds.py.

    ``further`` are wheels on the controller that no index has, ``project`` is a packed source to build.
    """

    requirements: str
    constraints: str = ""
    project: Path | None = None
    dependencies: str | None = None
    tools: str = ""
    isolation: bool = True
    gcc: str = ""
    prebuilt: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    build_packages: tuple[str, ...] = ()
    further: tuple[Path, ...] = ()
    # Not part of the key:
    packages: tuple[str, ...] = field(default=(), compare=False)
    index_url: str = field(default="", compare=False)
    keep_toolchain: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """12 hex digits over the inputs."""
        further = sorted(map(_sha256, self.further))
        project = _sha256(self.project) if self.project else ""
        inputs = [
            self.requirements, self.constraints, project, self.dependencies, self.tools, self.isolation, self.gcc,
            self.prebuilt, sorted(self.variables.items()), sorted(self.build_packages), further,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]

    @property
    def recipe(self) -> dict[str, Any]:
        """The argument of that name of the module wheel_set."""
        excluded = ("further", "project", "index_url")
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in excluded}


class BuildFailed(Exception):
    """The set can't be built on any host of the platform."""


class AlreadyFailed(BuildFailed):
    """Another host of the platform has failed to build the set in this run; the message is the same."""


def known(wanted: Wanted, folder: Path = WHEELHOUSE) -> dict[str, list[Wheel]]:
    """The wheels of a set, by each platform that it was built for, like ``debian-12-x86_64-cp311/1a2b3c4d``."""
    return built(wanted.key, folder)


def built(key: str, folder: Path = WHEELHOUSE) -> dict[str, list[Wheel]]:
    """The wheels by platform of the set that has a key."""
    return {
        f"{path.parent.name}/{path.name.partition('-')[0]}": wheels
        for path in folder.glob(f"*/*-{key}.json")
        if (wheels := _complete_wheels(path)) is not None
    }


def obtain(
    wanted: Wanted, platform: str, host: str, build: Callable[[Path], dict[str, Any]], folder: Path = WHEELHOUSE
) -> list[str]:
    """Build a wheel set for a platform unless it is complete. If many hosts want it at once, one builds.

    :param build: writes a tar of ``<sha256>/<file>`` and returns the result of the module wheel_set.
    :returns: the attempts in words; empty if the set was complete.
    :raises BuildFailed: the build failed, now or earlier in this run.
    :raises WheelFailed: a wheel in the tar is not one that the host reported.
    """
    final = record(wanted, platform, folder)
    failed = final.with_suffix(".failed")
    with locked(final.parent) as aside:
        if _complete_wheels(final) is not None:
            return []
        if failed.exists() and failed.read_text().partition("\n")[0] == this_run():
            raise AlreadyFailed(failed.read_text().partition("\n")[2])
        try:
            done = build(aside / "wheels.tar")
        except BuildFailed as error:
            failed.write_text(f"{this_run()}\n{host}: {error}")
            raise
        failed.unlink(missing_ok=True)
        _add_wheels(wanted, host, done, aside, final.parent)
        content = _set_record(wanted, platform, host, done)
        (aside / final.name).write_text(json.dumps(content, indent=2) + "\n")
        settle(aside / final.name, final)
    tried: list[str] = done["tried"]
    return tried


def _add_wheels(wanted: Wanted, host: str, done: dict[str, Any], aside: Path, folder: Path) -> None:
    """Check the wheels that a host has sent, then move them to the platform's folder.

    :raises WheelFailed: a wheel is missing, or its hash is not listed.
    """
    unpack(aside / "wheels.tar", aside / "new")
    sent = {f"{path.parent.name}/{path.name}": path for path in (aside / "new").glob("*/*")}
    if lacking := {f"{wheel['sha256']}/{wheel['file']}" for wheel in done["wheels"]} - sent.keys():
        raise WheelFailed(f"{host} has not sent {', '.join(sorted(lacking))}; run this again")
    for wheel in done["wheels"]:
        _check_hash(wanted, wheel, _is_compiled(wheel, done), host)
    for name, path in sent.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if not (folder / name).exists():
            path.rename(folder / name)


def _set_record(wanted: Wanted, platform: str, host: str, done: dict[str, Any]) -> dict[str, Any]:
    """The record of a set: its requirements, its wheels, and how they were built."""
    return {
        "platform": platform,
        "requirements": redact(re.sub(r"(\s*\\\n)?\s+--hash=\S+", "", wanted.requirements)),
        "wheels": [{**wheel, "compiled": _is_compiled(wheel, done)} for wheel in done["wheels"]],
        "tried": done["tried"],
        "host": host,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _is_compiled(wheel: Wheel, done: dict[str, Any]) -> bool:
    return _project_name(wheel["file"]) in map(_project_name, done["compiled"])


def pack(
    platform: str, wheels: Iterable[Wheel], hashes: Iterable[str], archive: Path, folder: Path = WHEELHOUSE
) -> None:
    """Pack the wheels that have these hashes, for a host that lacks them.

    :raises WheelFailed: one was altered or is missing.
    """
    with tarfile.open(archive, "w") as tar:
        for wheel in {wheel["sha256"]: wheel for wheel in wheels if wheel["sha256"] in set(hashes)}.values():
            tar.add(verified_path(platform, wheel, folder), f"{wheel['sha256']}/{wheel['file']}")


def verified_path(platform: str, wheel: Wheel, folder: Path = WHEELHOUSE) -> Path:
    """The path of a wheel, once its hash was checked.

    :raises WheelFailed: it was altered or is missing.
    """
    path = folder / platform.partition("/")[0] / wheel["sha256"] / wheel["file"]
    if not path.exists():
        raise WheelFailed(f"{path} is gone; run this again to have it built")
    verify(path, wheel["sha256"])
    return path


def record(wanted: Wanted, platform: str, folder: Path = WHEELHOUSE) -> Path:
    """The file of a set's record on a platform."""
    name, interpreter = platform.split("/")
    return folder / name / f"{interpreter}-{wanted.key}.json"


def _complete_wheels(path: Path) -> list[Wheel] | None:
    """The wheels of a set; None if the set was not built or one of them is missing."""
    if not path.exists():
        return None
    wheels = [Wheel(file=wheel["file"], sha256=wheel["sha256"]) for wheel in json.loads(path.read_text())["wheels"]]
    return wheels if all((path.parent / wheel["sha256"] / wheel["file"]).exists() for wheel in wheels) else None


def _check_hash(wanted: Wanted, wheel: Wheel, compiled: bool, host: str) -> None:
    """Check that the requirements list a wheel's hash, or that the host has compiled it from a listed project.

    The builder checks hashes, too, but it is not trusted.

    :raises WheelFailed: the hash is not listed.
    """
    if not _hashes(wanted.requirements) or wheel["sha256"] in map(_sha256, wanted.further):
        return
    listed = {**_hashes(wanted.prebuilt), **_hashes(wanted.requirements)}.get(_project_name(wheel["file"]))
    if listed is not None and (
        not listed or wheel["sha256"] in listed or (compiled and COMPILED.search(wheel["file"]))
    ):  # an empty list means that the line has other hashes than sha256
        return
    raise WheelFailed(
        f"{host} has sent {wheel['file']} with sha256 {wheel['sha256']}, which the requirements do not list; "
        "look at what that host builds"
    )


def _hashes(requirements: str) -> dict[str, set[str]]:
    """The hashes that a requirements file lists, by project."""
    return {
        _project_name(name): set(re.findall(r"--hash=sha256:(\w+)", line))
        for line in requirements.replace("\\\n", " ").splitlines()
        if "--hash=" in line and (name := line.lstrip().partition("=")[0].partition("[")[0].partition("@")[0].strip())
    }


def _project_name(name: str) -> str:
    """The normalized name of a wheel's file, or of a project (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.split("-")[0] if name.endswith(".whl") else name).lower()


def this_run() -> str:
    """The id of this run: pid and start time (see proc(5)), because in a container each run may have the same pid."""
    parent = os.getppid()
    try:
        return f"{parent} {Path(f'/proc/{parent}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return str(parent)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
