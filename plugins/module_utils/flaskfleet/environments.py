"""Virtual environments. Each is complete at its path or not there; releases with the same inputs share one."""

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

RECORD = "wheels.json"  # the environment's inputs
PATIENCE_SECONDS = 600  # to wait for another process that makes an environment
LOCAL = re.compile(r"-linux_[^-]*\.whl$")  # a wheel that was compiled for this platform: no index accepts it (PEP 513)
SCRIPTS = re.compile(r"[^/]+\.data/scripts/")
NOT_FOUND = re.compile(r"\s+(\S+) => not found$")


class EnvironmentFailed(Exception):
    """An environment could not be made; the message has pip's output and what to do."""


@dataclass(frozen=True)
class Environment:
    """The inputs of an environment: an interpreter, its platform (see ``platform_of``), and wheel sets for it.

    ``wheels`` is None if the controller lacks one of the sets for this platform.
    """

    python: str
    platform: str
    sets: tuple[str, ...]
    wheels: tuple[Wheel, ...] | None

    @property
    def key(self) -> str:
        """12 hex digits over the inputs. They name sets by their keys, so that building a set again changes nothing."""
        return hashlib.sha256(json.dumps([self.python, self.platform, self.sets]).encode()).hexdigest()[:12]


def build_environment(venvs: Path, environment: Environment, pool: Path = POOL) -> str:
    """Make an environment from the host's wheels only, unless it exists.

    :returns: its key, the folder's name below ``venvs``.
    :raises EnvironmentFailed: with pip's output, for example about an altered wheel; nothing is left at the path.
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
    ]  # another app may remove one meanwhile
    return {wheel["sha256"] for record in records for wheel in record.get("wheels", [])}


def _build(aside: Path, final: Path, environment: Environment, pool: Path) -> None:
    """Build it in a sandbox, because a wheel may name a file anywhere and pip may run installed code."""
    remove_trees(aside)
    try:
        with sandbox("venv", PATIENCE_SECONDS) as box:
            venv = install(box, environment, pool)
            with suppress(CommandFailed):  # packages may have files that do not compile
                box.run([environment.python, "-I", "-m", "compileall", "-q", "-s", venv, "-p", final, venv])
            if lacking := _missing_libraries(box, venv, environment.wheels or ()):
                raise EnvironmentFailed("\n".join(lacking))
            box.take(venv, aside)
    except CommandFailed as error:
        raise EnvironmentFailed(str(error)) from error
    except Busy as other:
        raise EnvironmentFailed(
            f"process {other} has been making an environment for ten minutes; end it, or wait for it, then run again"
        ) from other
    write_json(aside / RECORD, asdict(environment))
    _relocate(aside, venv, final)
    if not os.path.lexists(aside / "var"):  # Flask looks for an installed app's instance folder there
        (aside / "var").symlink_to("../../shared/var")


def install(box: Sandbox, environment: Environment, pool: Path = POOL) -> Path:
    """Make an environment in a sandbox; its path there.

    :raises CommandFailed: with pip's output.
    """
    venv = box.work / environment.key
    box.run([environment.python, "-I", "-m", "venv", venv])
    requirements = box.give(
        "requirements.txt", "".join(_link_wheel(box, wheel, pool) for wheel in environment.wheels or ())
    )
    options = ["--quiet", "--no-compile", "--no-index", "--no-deps", "--require-hashes"]
    box.run([venv / "bin/python", "-I", "-m", "pip", "install", *options, "-r", requirements])
    return venv


def _link_wheel(box: Sandbox, wheel: Wheel, pool: Path) -> str:
    """Link a wheel into a sandbox; its line in a requirements file."""
    path = box.given / wheel["sha256"] / wheel["file"]
    path.parent.mkdir(exist_ok=True)
    os.link(pool / wheel["sha256"] / wheel["file"], path)
    return f"{path} --hash=sha256:{wheel['sha256']}\n"


def _missing_libraries(box: Sandbox, venv: Path, wheels: Sequence[Wheel]) -> list[str]:
    """The shared libraries that programs and extensions need and this host lacks, in words.

    Only wheels that were compiled for the fleet are checked. Those of an index (manylinux) bring their libraries, or
    load them when they are used. ldd may run the file that it examines (see ldd(1)), so it runs in the sandbox.
    """
    site = next(venv.glob("lib/python*/site-packages"), venv)
    binaries = {
        str(path): wheel["file"]
        for wheel in wheels
        if LOCAL.search(wheel["file"])
        for name in zipfile.ZipFile(box.given / wheel["sha256"] / wheel["file"]).namelist()
        if _is_binary(path := venv / "bin" / name.rpartition("/")[2] if SCRIPTS.match(name) else site / name)
    }
    problems, binary = [], ""
    # /bin/sh as a second file, because ldd does not print the name of a single one.
    for line in box.run(["sh", "-c", 'ldd "$@"; :', "ldd", "/bin/sh", *binaries]).splitlines() if binaries else ():
        if found := NOT_FOUND.match(line):
            if not any(path.name == found[1] for path in venv.rglob("*")):  # another package may bring it
                problems.append(
                    f"{binaries[binary]}: {binary.removeprefix(f'{venv}/')} needs {found[1]}, which this host does not "
                    f"have; name the package that brings it (apt-file search {found[1]}) in packages of the app and "
                    "run site.yml"
                )
        elif line.removesuffix(":") in binaries:
            binary = line.removesuffix(":")
    return problems


def _is_binary(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _relocate(aside: Path, made: Path, final: Path) -> None:
    """Replace the path where an environment was made by its final path in all its scripts."""
    for script in (aside / "bin").iterdir():
        if script.is_symlink():
            continue
        content = script.read_bytes()
        if b"\0" not in content:
            script.write_bytes(content.replace(str(made).encode(), str(final).encode()))
