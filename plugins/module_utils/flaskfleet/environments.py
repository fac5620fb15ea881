"""Virtual environments that are complete at their path or not there, shared by what has the same inputs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

from .files import fsync_tree

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


class EnvironmentFailed(Exception):
    """An environment could not be made; the message holds pip's words and what to do."""


@cache
def python_abi(python: str) -> str:
    """The ABI of an interpreter, like ``cpython-311-x86_64-linux-gnu``."""
    return _run([python, "-c", "import sysconfig; print(sysconfig.get_config_var('SOABI'))"]).strip()


def find_wheel(wheels: Path, python: str, abi: str, version: str) -> Path:
    """uWSGI's wheel for an interpreter, as the role ``uwsgi`` has left it."""
    link = wheels / python.lstrip("/").replace("/", "-") / abi / f"uwsgi-{version}.whl"
    if not link.exists():
        raise EnvironmentFailed(f"there is no wheel of uWSGI {version} for {python}: {link}; run site.yml first")
    return link.resolve()


def environment_key(python: str, abi: str, requirements: str, wheel: Path) -> str:
    """What names an environment: 12 hex digits over everything that goes into it."""
    inputs = [python, abi, requirements, hashlib.sha256(wheel.read_bytes()).hexdigest()]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]


def environment_exists(venvs: Path, python: str, requirements: str, wheel: Path) -> bool:
    """Whether there is an environment with these inputs already."""
    return (venvs / environment_key(python, python_abi(python), requirements, wheel)).exists()


def build_environment(venvs: Path, python: str, requirements: str, wheel: Path) -> str:
    """Make the environment of a release, unless there is one with the same inputs.

    :returns: its key, the folder's name below ``venvs``.
    :raises EnvironmentFailed: with pip's words; nothing is left at the final path.
    """
    key = environment_key(python, python_abi(python), requirements, wheel)
    final = venvs / key
    if final.exists():
        return key
    aside = venvs / f".{key}"
    try:
        _build(aside, final, python, requirements, wheel)
        fsync_tree(aside)
        aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return key


def _build(aside: Path, final: Path, python: str, requirements: str, wheel: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    _run([python, "-m", "venv", str(aside)])
    pip = [str(aside / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    _run([*pip, "--no-deps", str(wheel)])
    if requirements.strip():
        listed = aside / "requirements.txt"
        listed.write_text(requirements)
        _run([*pip, "-r", str(listed), *(["--require-hashes"] if "--hash=" in requirements else [])])
        listed.unlink()  # it may name an index with its password
    _relocate(aside, final)
    with suppress(EnvironmentFailed):  # a file that does not compile is its package's business
        _run([str(aside / "bin" / "python"), "-m", "compileall", "-q", "-s", str(aside), "-p", str(final), str(aside)])


def _relocate(aside: Path, final: Path) -> None:
    """Let the scripts of an environment name the path that it is about to be renamed to."""
    for script in (aside / "bin").iterdir():
        if script.is_symlink():
            continue
        content = script.read_bytes()
        if b"\0" not in content:
            script.write_bytes(content.replace(str(aside).encode(), str(final).encode()))


def _run(argv: list[str]) -> str:
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PIP_CACHE_DIR": "/var/cache/flaskfleet/pip",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
    }
    if CA_BUNDLE.exists():
        environment["PIP_CERT"] = str(CA_BUNDLE)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise EnvironmentFailed(f"{argv[0]} can't be run: {error.strerror}; name another `python`") from error
    if done.returncode:
        raise EnvironmentFailed(f"{' '.join(argv)}\n{(done.stderr + done.stdout).strip()}")
    return done.stdout
