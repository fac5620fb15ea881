"""The compilers of a host: Debian packages that are installed for a build and removed after it.

``/var/lib/flaskfleet/toolchain.json`` records which packages a build installs, before it installs them.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .files import Busy, lock, read_json, write_json

TOOLCHAIN = Path("/var/lib/flaskfleet/toolchain.json")
APT = ["apt-get", "--yes", "--quiet", "--no-install-recommends"]
APT_LOCK_SECONDS = 600  # for another run of apt; DPkg::Lock::Timeout does not cover the locks of lists and archives
PATIENCE_SECONDS = 1800  # for another build on the same host


class BuildFailed(Exception):
    """Every attempt failed; the message has the attempts and what to do."""


def gcc_of(python: str) -> str:
    """The gcc that has built an interpreter, like ``gcc-11``; empty if another compiler has."""
    output = _run([python, "-I", "-c", "import platform; print(platform.python_compiler())"])
    found = re.match(r"GCC (\d+)", output)
    return f"gcc-{found[1]}" if found else ""


@contextmanager
def toolchain(keep: bool) -> Iterator[Callable[[Sequence[str]], Sequence[str]]]:
    """Yield a function that installs Debian packages, for one build on the host at a time.

    In the end the packages that it installed are removed, unless ``keep`` is set, and with them those that a killed
    build left. A package that another package or a user needs by then stays. If the removal fails, ``clean_up`` removes
    them later.

    :raises Busy: another build does not end.
    """
    with lock(TOOLCHAIN.with_suffix(".lock"), PATIENCE_SECONDS):
        try:
            yield _install_packages
        finally:
            if keep and (record := read_json(TOOLCHAIN)):
                write_json(TOOLCHAIN, {**record, "kept": True})
            if not keep:
                with suppress(BuildFailed):
                    _remove_packages()


def clean_up() -> None:
    """Remove packages that a killed build left, unless another build runs."""
    if not (read_json(TOOLCHAIN) or {"kept": True})["kept"]:
        with suppress(Busy, BuildFailed), lock(TOOLCHAIN.with_suffix(".lock")):
            _remove_packages()


def _install_packages(packages: Sequence[str]) -> Sequence[str]:
    """Install packages; the names of those that were upgraded for that."""
    known = _run(["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n"])
    missing = [package for package in packages if f"{package} installed" not in known.splitlines()]
    if not missing:
        return []
    try:
        planned = _run([*APT, "--no-remove", "--simulate", "install", *missing])
    except BuildFailed:
        _run([*APT, "update"])
        planned = _run([*APT, "--no-remove", "--simulate", "install", *missing])
    new = re.findall(r"^Inst (\S+) \(", planned, re.MULTILINE)  # an upgrade has its old version in brackets
    upgraded = re.findall(r"^Inst (\S+) \[", planned, re.MULTILINE)
    write_json(TOOLCHAIN, {"packages": sorted({*new, *_recorded_packages()}), "kept": False})
    try:
        _run([*APT, "--no-remove", "--mark-auto", "install", *missing])
    except BuildFailed:  # old package lists have versions that a mirror has removed
        _run([*APT, "update"])
        _run([*APT, "--no-remove", "--mark-auto", "install", *missing])
    if new:
        _run(["apt-mark", "auto", *new])
    return upgraded


def _recorded_packages() -> list[str]:
    packages: list[str] = (read_json(TOOLCHAIN) or {"packages": []})["packages"]
    return packages


def _remove_packages() -> None:
    if not (recorded := _recorded_packages()):
        return
    unneeded = _run(["apt-mark", "showauto", *recorded]).split()
    removed = re.findall(r"^(?:Remv|Purg) (\S+)", _run([*APT, "--simulate", "purge", *unneeded]), re.MULTILINE)
    if unneeded and set(removed) <= set(unneeded):  # otherwise another package needs one of them by now
        _run([*APT, "purge", *unneeded])
    TOOLCHAIN.unlink(missing_ok=True)


def _run(argv: Sequence[str]) -> str:
    """Run a program as root, once apt's locks are free; returns its output."""
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
    }
    deadline = time.monotonic() + APT_LOCK_SECONDS
    while True:
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, errors="replace")
        except OSError as error:
            raise BuildFailed(f"{argv[0]} can't be run: {error.strerror}") from error
        if not done.returncode:
            return done.stdout
        if "Could not get lock" not in done.stderr or time.monotonic() > deadline:
            raise BuildFailed(f"{' '.join(argv)}\n{(done.stdout + done.stderr).strip()}")
        time.sleep(1)
