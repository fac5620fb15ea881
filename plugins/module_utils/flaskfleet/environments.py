"""Virtual environments that are complete at their path or not there, shared by what has the same inputs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .files import fsync_tree, read_json, write_json
from .wheels import POOL, Wheel

RECORD = "wheels.json"  # of an environment: what it was made of


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
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return final.name


def used_wheels(venvs: Path) -> set[str]:
    """The hashes of the wheels that environments were made from."""
    records: list[dict[str, Any]] = [
        read_json(path) or {} for path in venvs.glob(f"*/{RECORD}")
    ]  # one may go meanwhile
    return {wheel["sha256"] for record in records for wheel in record.get("wheels", [])}


def _build(aside: Path, final: Path, environment: Environment, pool: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    _run([environment.python, "-m", "venv", str(aside)])
    listed = aside / "requirements.txt"
    listed.write_text(
        "".join(
            f"{pool / one['sha256'] / one['file']} --hash=sha256:{one['sha256']}\n" for one in environment.wheels or ()
        )
    )
    python = str(aside / "bin" / "python")
    options = ["--quiet", "--no-compile", "--no-index", "--no-deps", "--require-hashes"]
    _run([python, "-m", "pip", "install", *options, "-r", str(listed)])
    listed.unlink()
    write_json(aside / RECORD, asdict(environment))
    _relocate(aside, final)
    with suppress(EnvironmentFailed):  # a file that does not compile is its package's business
        _run([python, "-m", "compileall", "-q", "-s", str(aside), "-p", str(final), str(aside)])


def _relocate(aside: Path, final: Path) -> None:
    """Let the scripts of an environment name the path that it is about to be renamed to."""
    for script in (aside / "bin").iterdir():
        if script.is_symlink():
            continue
        content = script.read_bytes()
        if b"\0" not in content:
            script.write_bytes(content.replace(str(aside).encode(), str(final).encode()))


def _run(argv: list[str]) -> None:
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
    }
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise EnvironmentFailed(f"{argv[0]} can't be run: {error.strerror}; name another `python`") from error
    if done.returncode:
        raise EnvironmentFailed(f"{' '.join(argv)}\n{(done.stderr + done.stdout).strip()}")
