"""Virtual environments that are complete at their path or not there, shared by what has the same inputs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .files import Busy, fsync_path, fsync_tree, read_json, remove_trees, write_json
from .sandbox import CommandFailed, Sandbox, sandbox
from .wheels import POOL, Wheel

RECORD = "wheels.json"  # of an environment: what it was made of
PATIENCE_SECONDS = 600  # for other environments of the host
LOCAL = re.compile(r"-linux_[^-]*\.whl$")  # the platform of a wheel that no index takes (PEP 513)
SCRIPTS = re.compile(r"[^/]+\.data/scripts/")
NOT_FOUND = re.compile(r"\s+(\S+) => not found$")


class EnvironmentFailed(Exception):
    """An environment could not be made; the message holds pip's words and what to do."""


@dataclass(frozen=True)
class Environment:
    """What an environment is made of: an interpreter, its platform (see ``platform_of``), and sets of wheels for that.

    ``wheels`` is None where the controller does not have a set for this platform.
    """

    python: str
    platform: str
    sets: tuple[str, ...]
    wheels: tuple[Wheel, ...] | None

    @property
    def key(self) -> str:
        """What names it: 12 hex digits over what it is made from. A set that was built again is the same set."""
        return hashlib.sha256(json.dumps([self.python, self.platform, self.sets]).encode()).hexdigest()[:12]


def build_environment(venvs: Path, environment: Environment, pool: Path = POOL) -> str:
    """Make an environment from the host's wheels and nothing else, unless it is there.

    :returns: its key, the folder's name below ``venvs``.
    :raises EnvironmentFailed: with pip's words, that a wheel was altered for one; nothing is left at the final path.
    """
    final = venvs / environment.key
    if final.exists():
        return final.name
    aside = venvs / f".{final.name}"
    try:
        _build(aside, final, environment, pool)
        fsync_tree(aside)
        aside.rename(final)
        fsync_path(venvs)
    finally:
        remove_trees(aside)
    return final.name


def used_wheels(venvs: Path) -> set[str]:
    """The hashes of the wheels that environments were made from."""
    records: list[dict[str, Any]] = [
        read_json(path) or {} for path in venvs.glob(f"*/{RECORD}")
    ]  # one may go meanwhile
    return {wheel["sha256"] for record in records for wheel in record.get("wheels", [])}


def _build(aside: Path, final: Path, environment: Environment, pool: Path) -> None:
    """Build it in a sandbox: a wheel may name a file anywhere, and what is installed may be run by pip."""
    remove_trees(aside)
    try:
        with sandbox("venv", PATIENCE_SECONDS) as box:
            venv = install(box, environment, pool)
            with suppress(CommandFailed):  # a file that does not compile is its package's business
                box.run([environment.python, "-I", "-m", "compileall", "-q", "-s", venv, "-p", final, venv])
            if lacking := _missing_libraries(box, venv, environment.wheels or ()):
                raise EnvironmentFailed("\n".join(lacking))
            box.take(venv, aside)
    except CommandFailed as error:
        raise EnvironmentFailed(str(error)) from error
    except Busy as other:
        raise EnvironmentFailed(f"process {other} has been making an environment for long; run this again") from other
    write_json(aside / RECORD, asdict(environment))
    _relocate(aside, venv, final)
    if not os.path.lexists(aside / "var"):  # where Flask looks for the instance folder of what is installed
        (aside / "var").symlink_to("../../shared/var")


def install(box: Sandbox, environment: Environment, pool: Path = POOL) -> Path:
    """Make an environment in a sandbox; its path there.

    :raises CommandFailed: with pip's words.
    """
    venv = box.work / environment.key
    box.run([environment.python, "-I", "-m", "venv", venv])
    requirements = box.give("requirements.txt", "".join(_give(box, wheel, pool) for wheel in environment.wheels or ()))
    options = ["--quiet", "--no-compile", "--no-index", "--no-deps", "--require-hashes"]
    box.run([venv / "bin/python", "-I", "-m", "pip", "install", *options, "-r", requirements])
    return venv


def _give(box: Sandbox, wheel: Wheel, pool: Path) -> str:
    """Let a sandbox read a wheel; its line in a requirements file."""
    path = box.given / wheel["sha256"] / wheel["file"]
    path.parent.mkdir(exist_ok=True)
    os.link(pool / wheel["sha256"] / wheel["file"], path)
    return f"{path} --hash=sha256:{wheel['sha256']}\n"


def _missing_libraries(box: Sandbox, venv: Path, wheels: Sequence[Wheel]) -> list[str]:
    """What programs and extensions need that this host does not have, in words.

    Of wheels that were compiled for the fleet: an index's (manylinux) bring their libraries, or look for them when
    they are used. ldd runs what it looks at, see its manual page, and so in the sandbox.
    """
    site = next(venv.glob("lib/python*/site-packages"), venv)
    binaries = {
        str(path): wheel["file"]
        for wheel in wheels
        if LOCAL.search(wheel["file"])
        for name in zipfile.ZipFile(box.given / wheel["sha256"] / wheel["file"]).namelist()
        if _is_binary(path := venv / "bin" / name.rpartition("/")[2] if SCRIPTS.match(name) else site / name)
    }
    words, binary = [], ""
    # Of a single file ldd does not tell the name.
    for line in box.run(["sh", "-c", 'ldd "$@"; :', "ldd", "/bin/sh", *binaries]).splitlines() if binaries else ():
        if found := NOT_FOUND.match(line):
            if not any(path.name == found[1] for path in venv.rglob("*")):  # or another package loads it first
                words.append(
                    f"{binaries[binary]}: {binary.removeprefix(f'{venv}/')} needs {found[1]}, which this host does not "
                    f"have; name the package that brings it (apt-file search {found[1]}) in packages of the app and "
                    "run site.yml"
                )
        elif line.removesuffix(":") in binaries:
            binary = line.removesuffix(":")
    return words


def _is_binary(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _relocate(aside: Path, made: Path, final: Path) -> None:
    """Let the scripts of an environment name the path that it is about to be renamed to, not where it was made."""
    for script in (aside / "bin").iterdir():
        if script.is_symlink():
            continue
        content = script.read_bytes()
        if b"\0" not in content:
            script.write_bytes(content.replace(str(made).encode(), str(final).encode()))
