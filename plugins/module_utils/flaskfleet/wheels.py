"""The wheels that a host has, and which ones an interpreter of it can use.

::

    /var/lib/flaskfleet/wheels/<sha256>/<file>.whl     each complete or not there; root's alone: some are private
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypedDict

from .files import Busy, fsync_path, fsync_tree, lock

POOL = Path("/var/lib/flaskfleet/wheels")
PATIENCE_SECONDS = 60
MEMBER = re.compile(r"[0-9a-f]{64}/[\w.+!-]+\.whl", re.ASCII)
KEPT_SECONDS = 86400  # nothing goes that another run may be about to use
# What decides whether what was built for one interpreter runs with another one: where a Python is linked statically
# (Anaconda's, pyenv's), it becomes a part of uWSGI as it is.
PROBE = """
import json, platform, sys, sysconfig
of = sysconfig.get_config_var
shared = bool(of("Py_ENABLE_SHARED"))
print(json.dumps({
    "tag": "cp{}{}".format(*sys.version_info) + sys.abiflags,
    "prefix": sys.base_prefix,
    "shared": shared,
    "build": [of("CONFIG_ARGS"), platform.python_compiler(), "" if shared else sys.version],
}))
"""


class WheelFailed(Exception):
    """Wheels can't be used; the message says which and what to do."""


class Wheel(TypedDict):
    """A wheel by its file's name and sha256."""

    file: str
    sha256: str


@cache
def platform_of(python: str, os_release: Path = Path("/etc/os-release")) -> str:
    """What wheels are built for, like ``debian-12-x86_64-cp311/1a2b3c4d``: the platform, and which of its interpreters.

    :raises WheelFailed: the interpreter can't be run.
    """
    try:
        done = subprocess.run([python, "-I", "-c", PROBE], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        words = getattr(error, "stderr", "") or getattr(error, "strerror", "")
        raise WheelFailed(f"{python} can't be run: {words.strip()}; name another `python`") from error
    found = json.loads(done.stdout)
    system = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', os_release.read_text(), re.MULTILINE))
    name = f"{system['ID']}-{system.get('VERSION_ID', 'rolling')}-{platform.machine()}-{found['tag']}"
    return f"{name}/{hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]}"


def merged(sets: Iterable[Iterable[Wheel]]) -> list[Wheel]:
    """The wheels of several sets: of a project that is in more than one, the first one's."""
    wheels: dict[str, Wheel] = {}
    for one in sets:
        for wheel in one:
            wheels.setdefault(wheel["file"].partition("-")[0].lower(), wheel)
    return list(wheels.values())


def sha256_of(path: Path) -> str:
    """The sha256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def lacking(wheels: Iterable[Wheel], pool: Path = POOL) -> list[str]:
    """The hashes of the wheels that the host does not have. The others are about to be used, and stay for a day."""
    missing = set()
    for wheel in wheels:
        if (pool / wheel["sha256"] / wheel["file"]).exists():
            os.utime(pool / wheel["sha256"])
        else:
            missing.add(wheel["sha256"])
    return sorted(missing)


def receive(archive: Path, pool: Path = POOL) -> None:
    """Take wheels from a tar whose members are ``<sha256>/<file>``.

    :raises WheelFailed: one is not what its hash says, or another process does not come to an end of this.
    """
    aside = pool / ".new"
    with _alone(pool):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        pool.chmod(0o700)
        try:
            unpack(archive, aside)
            fsync_tree(aside)
            for path in aside.glob("*/*.whl"):
                final = pool / path.parent.name / path.name
                final.parent.mkdir(exist_ok=True)
                if not final.exists():
                    path.rename(final)
                    fsync_path(final.parent)
            fsync_path(pool)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar whose members are ``<sha256>/<file>.whl``, and nothing else: a host may have made it up.

    :raises WheelFailed: another member is in it, or a wheel is not what its hash says.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            if not (member.isreg() and MEMBER.fullmatch(member.name)):
                raise WheelFailed(f"{archive} has a member {member.name!r}, which is no wheel; look where it came from")
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) or io.BytesIO() as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
            see(path, path.parent.name)


@contextmanager
def _alone(pool: Path) -> Iterator[None]:
    try:
        with lock(pool.with_name("wheels.lock"), PATIENCE_SECONDS):
            yield
    except Busy as other:
        raise WheelFailed(f"process {other} has been adding wheels here for a minute; run this again") from other


def see(path: Path, sha256: str) -> None:
    """See that a wheel is the one that was recorded.

    :raises WheelFailed: it is another one.
    """
    if (found := sha256_of(path)) != sha256:
        raise WheelFailed(f"{path} was altered: its sha256 is {found}, not {sha256}; remove it and run this again")


def keep(used: set[str], pool: Path = POOL) -> None:
    """Discard the wheels that no environment was made from and that nobody has asked for in a day."""
    for folder in pool.glob("*"):
        if folder.name not in used and time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
