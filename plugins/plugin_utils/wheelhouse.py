"""The controller's wheelhouse: what a list of requirements leads to, resolved and built once per platform.

::

    .cache/wheelhouse/<platform>/<interpreter>-<key>.json    a set: its recipe, its wheels, how they were built
    .cache/wheelhouse/<platform>/<sha256>/<file>.whl

The first host of a platform that lacks a set builds it, while the others of its kind wait (flock); what it has built
goes to all of them. A set is there when all its wheels are.
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

from module_utils.flaskfleet.wheels import Wheel, WheelFailed, see, unpack

from .cache import CACHE, locked, settle
from .sources import redact

WHEELHOUSE = CACHE / "wheelhouse"
COMPILED = re.compile(r"-(any|linux_[^-]*)\.whl$")  # the platforms of what pip compiles


@dataclass(frozen=True)
class Wanted:
    """What a set is made from; the fields of ``Recipe`` in module_utils/flaskfleet/builds.py.

    ``further`` are wheels of the controller's that no index has, ``project`` is a packed source that is built, too.
    Some fields are part of the key: two sets that differ in one of them are two sets.
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
    # How it is built, not what it is:
    packages: tuple[str, ...] = field(default=(), compare=False)
    index_url: str = field(default="", compare=False)
    keep_toolchain: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """12 hex digits over what it is made from."""
        further = sorted(map(_digest, self.further))
        project = _digest(self.project) if self.project else ""
        inputs = [
            self.requirements, self.constraints, project, self.dependencies, self.tools, self.isolation, self.gcc,
            self.prebuilt, sorted(self.variables.items()), sorted(self.build_packages), further,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]

    @property
    def recipe(self) -> dict[str, Any]:
        """The argument of that name of the module wheel_set."""
        apart = ("further", "project", "index_url")
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in apart}


class BuildFailed(Exception):
    """What was asked for can't be built, whichever host of the platform tries."""


class AlreadyFailed(BuildFailed):
    """Another host of the platform has failed to build a set in this run; the message is that host's."""


def known(wanted: Wanted, house: Path = WHEELHOUSE) -> dict[str, list[Wheel]]:
    """The wheels of a set by platform, like ``debian-12-x86_64-cp311/1a2b3c4d``, as far as it was built."""
    return built(wanted.key, house)


def built(key: str, house: Path = WHEELHOUSE) -> dict[str, list[Wheel]]:
    """The wheels by platform of the set that has a key."""
    return {
        f"{path.parent.name}/{path.name.partition('-')[0]}": wheels
        for path in house.glob(f"*/*-{key}.json")
        if (wheels := _complete(path)) is not None
    }


def obtain(
    wanted: Wanted, platform: str, host: str, build: Callable[[Path], dict[str, Any]], house: Path = WHEELHOUSE
) -> list[str]:
    """Build a wheel set for a platform unless it is there: of many hosts that want it at once, one builds.

    :param build: writes a tar of ``<sha256>/<file>`` and returns what the module wheel_set did.
    :returns: what was done, in words; nothing where the set was there.
    :raises BuildFailed: as ``build`` does; others of this run are told.
    :raises WheelFailed: what came is not what was built.
    """
    final = record(wanted, platform, house)
    folder, failed = final.parent, final.with_suffix(".failed")
    with locked(folder) as aside:
        if _complete(final) is not None:
            return []
        if failed.exists() and failed.read_text().partition("\n")[0] == this_run():
            raise AlreadyFailed(failed.read_text().partition("\n")[2])
        try:
            done = build(aside / "wheels.tar")
        except BuildFailed as error:
            failed.write_text(f"{this_run()}\n{host}: {error}")
            raise
        failed.unlink(missing_ok=True)
        _receive(wanted, host, done, aside, folder)
        content = _content(wanted, platform, host, done)
        (aside / final.name).write_text(json.dumps(content, indent=2) + "\n")
        settle(aside / final.name, final)
    tried: list[str] = done["tried"]
    return tried


def _receive(wanted: Wanted, host: str, done: dict[str, Any], aside: Path, folder: Path) -> None:
    """Move the wheels that a host has sent to a platform's folder, once all are there and are those that it built.

    :raises WheelFailed: a wheel is missing, or is another one.
    """
    unpack(aside / "wheels.tar", aside / "new")
    came = {f"{path.parent.name}/{path.name}": path for path in (aside / "new").glob("*/*")}
    if lacking := {f"{wheel['sha256']}/{wheel['file']}" for wheel in done["wheels"]} - came.keys():
        raise WheelFailed(f"{host} has not sent {', '.join(sorted(lacking))}; run this again")
    for wheel in done["wheels"]:
        _check(wanted, wheel, _is_compiled(wheel, done), host)
    for name, path in came.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if not (folder / name).exists():
            path.rename(folder / name)


def _content(wanted: Wanted, platform: str, host: str, done: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of a set: what it was made from, its wheels, and how they were built."""
    return {
        "platform": platform,
        "requirements": redact(re.sub(r"(\s*\\\n)?\s+--hash=\S+", "", wanted.requirements)),
        "wheels": [{**wheel, "compiled": _is_compiled(wheel, done)} for wheel in done["wheels"]],
        "tried": done["tried"],
        "host": host,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _is_compiled(wheel: Wheel, done: dict[str, Any]) -> bool:
    return _project(wheel["file"]) in map(_project, done["compiled"])


def pack(
    platform: str, wheels: Iterable[Wheel], hashes: Iterable[str], archive: Path, house: Path = WHEELHOUSE
) -> None:
    """Pack those of some wheels that have these hashes, for a host that lacks them.

    :raises WheelFailed: one was altered, or is gone.
    """
    with tarfile.open(archive, "w") as tar:
        for wheel in {wheel["sha256"]: wheel for wheel in wheels if wheel["sha256"] in set(hashes)}.values():
            tar.add(seen(platform, wheel, house), f"{wheel['sha256']}/{wheel['file']}")


def seen(platform: str, wheel: Wheel, house: Path = WHEELHOUSE) -> Path:
    """Where a wheel is, which is the one that was recorded.

    :raises WheelFailed: it was altered, or is gone.
    """
    path = house / platform.partition("/")[0] / wheel["sha256"] / wheel["file"]
    if not path.exists():
        raise WheelFailed(f"{path} is gone; run this again to have it built")
    see(path, wheel["sha256"])
    return path


def record(wanted: Wanted, platform: str, house: Path = WHEELHOUSE) -> Path:
    """The file that tells what a set is on a platform."""
    name, interpreter = platform.split("/")
    return house / name / f"{interpreter}-{wanted.key}.json"


def _complete(path: Path) -> list[Wheel] | None:
    """The wheels of a set that was built; None where one of them is gone."""
    if not path.exists():
        return None
    wheels = [Wheel(file=wheel["file"], sha256=wheel["sha256"]) for wheel in json.loads(path.read_text())["wheels"]]
    return wheels if all((path.parent / wheel["sha256"] / wheel["file"]).exists() for wheel in wheels) else None


def _check(wanted: Wanted, wheel: Wheel, compiled: bool, host: str) -> None:
    """See that a wheel is one of those whose hashes the requirements list, or was compiled here from what they name.

    :raises WheelFailed: it is another one. The builder checks hashes, too, and is believed in nothing else.
    """
    if not _hashes(wanted.requirements) or wheel["sha256"] in map(_digest, wanted.further):
        return
    listed = {**_hashes(wanted.prebuilt), **_hashes(wanted.requirements)}.get(_project(wheel["file"]))
    if listed is not None and (
        not listed or wheel["sha256"] in listed or (compiled and COMPILED.search(wheel["file"]))
    ):  # none are listed where there are longer ones than sha256
        return
    raise WheelFailed(
        f"{host} has sent {wheel['file']} with sha256 {wheel['sha256']}, which the requirements do not list; "
        "look at what that host builds"
    )


def _hashes(requirements: str) -> dict[str, set[str]]:
    """The hashes that a requirements file lists, by project."""
    return {
        _project(name): set(re.findall(r"--hash=sha256:(\w+)", line))
        for line in requirements.replace("\\\n", " ").splitlines()
        if "--hash=" in line and (name := line.lstrip().partition("=")[0].partition("[")[0].partition("@")[0].strip())
    }


def _project(name: str) -> str:
    """The normalized name of a wheel's file, or of a project (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.split("-")[0] if name.endswith(".whl") else name).lower()


def this_run() -> str:
    """What tells runs apart, also in a container where each has the same pid: that, and since when (see proc(5))."""
    parent = os.getppid()
    try:
        return f"{parent} {Path(f'/proc/{parent}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return str(parent)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
