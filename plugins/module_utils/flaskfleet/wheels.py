"""The wheels of a host, and the platform that decides which of them an interpreter can use.

::

    /var/lib/flaskfleet/wheels/<sha256>/<file>.whl     complete or not there; only root reads it: some are private
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
KEPT_SECONDS = 86400  # another run may be about to use a newer one
# The properties of an interpreter that decide whether a wheel runs with it. A static Python (Anaconda's, pyenv's)
# becomes a part of uWSGI, so its exact version counts.
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
    """A wheel can't be used; the message says which and what to do."""


class Wheel(TypedDict):
    """A wheel by its file's name and sha256."""

    file: str
    sha256: str


@cache
def platform_of(python: str, os_release: Path = Path("/etc/os-release")) -> str:
    """The platform of an interpreter, like ``debian-12-x86_64-cp311/1a2b3c4d``: the last part tells interpreters apart.

    :raises WheelFailed: the interpreter can't be run.
    """
    try:
        done = subprocess.run([python, "-I", "-c", PROBE], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or getattr(error, "strerror", "")
        raise WheelFailed(f"{python} can't be run: {reason.strip()}; name another `python`") from error
    found = json.loads(done.stdout)
    system = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', os_release.read_text(), re.MULTILINE))
    name = f"{system['ID']}-{system.get('VERSION_ID', 'rolling')}-{platform.machine()}-{found['tag']}"
    return f"{name}/{hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]}"


def merged(sets: Iterable[Iterable[Wheel]]) -> list[Wheel]:
    """The wheels of several sets; if two sets have the same project, the first one's wheel."""
    wheels: dict[str, Wheel] = {}
    for wheel_set in sets:
        for wheel in wheel_set:
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
    """The hashes of the wheels that the host lacks. The others are kept for another day."""
    missing = set()
    for wheel in wheels:
        if (pool / wheel["sha256"] / wheel["file"]).exists():
            os.utime(pool / wheel["sha256"])
        else:
            missing.add(wheel["sha256"])
    return sorted(missing)


def receive(archive: Path, pool: Path = POOL) -> None:
    """Unpack wheels from a tar whose members are ``<sha256>/<file>``.

    :raises WheelFailed: a wheel does not match its hash, or another process holds the lock for too long.
    """
    new = pool / ".new"
    with _pool_lock(pool):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        pool.chmod(0o700)
        try:
            unpack(archive, new)
            fsync_tree(new)
            for path in new.glob("*/*.whl"):
                final = pool / path.parent.name / path.name
                final.parent.mkdir(exist_ok=True)
                if not final.exists():
                    path.rename(final)
                    fsync_path(final.parent)
            fsync_path(pool)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar whose members are ``<sha256>/<file>.whl``. The tar is not trusted, because a host may have made it.

    :raises WheelFailed: the tar has another member, or a wheel does not match its hash.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            if not (member.isreg() and MEMBER.fullmatch(member.name)):
                raise WheelFailed(f"{archive} has a member {member.name!r}, which is no wheel; look where it came from")
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) or io.BytesIO() as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
            verify(path, path.parent.name)


@contextmanager
def _pool_lock(pool: Path) -> Iterator[None]:
    try:
        with lock(pool.with_name("wheels.lock"), PATIENCE_SECONDS):
            yield
    except Busy as other:
        raise WheelFailed(f"process {other} has been adding wheels here for a minute; run this again") from other


def verify(path: Path, sha256: str) -> None:
    """Check that a wheel has the recorded hash.

    :raises WheelFailed: it has another one.
    """
    if (found := sha256_of(path)) != sha256:
        raise WheelFailed(f"{path} was altered: its sha256 is {found}, not {sha256}; remove it and run this again")


def prune(used: set[str], pool: Path = POOL) -> None:
    """Remove the wheels that no environment was made from and that no run has used for a day."""
    for folder in pool.glob("*"):
        if folder.name not in used and time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
