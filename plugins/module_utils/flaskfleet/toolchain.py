"""What compiles on a host: packages of the distribution, which are there for the time of a build.

``/var/lib/flaskfleet/toolchain.json`` notes which of them a build has installed, before it does so.
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
    """Nothing worked; the message says what was tried and what would help."""


def gcc_of(python: str) -> str:
    """The compiler that has built an interpreter, like ``gcc-11``; nothing where it was none of gcc's."""
    said = _run([python, "-I", "-c", "import platform; print(platform.python_compiler())"])
    found = re.match(r"GCC (\d+)", said)
    return f"gcc-{found[1]}" if found else ""


@contextmanager
def toolchain(keep: bool) -> Iterator[Callable[[Sequence[str]], Sequence[str]]]:
    """A function that installs packages of the distribution, for one build on the host at a time.

    In the end, packages that were not there before are removed again, unless they are to be kept. What a killed build
    has left is removed, too. A package that somebody has asked for meanwhile stays. If packages can't be removed just
    now, ``clean_up`` removes them later.

    :raises Busy: another build goes on, and does not end.
    """
    with lock(TOOLCHAIN.with_suffix(".lock"), PATIENCE_SECONDS):
        try:
            yield _install
        finally:
            if keep and (noted := read_json(TOOLCHAIN)):
                write_json(TOOLCHAIN, {**noted, "kept": True})
            if not keep:
                with suppress(BuildFailed):
                    _remove()


def clean_up() -> None:
    """Remove what a killed build has left, unless another build goes on."""
    if not (read_json(TOOLCHAIN) or {"kept": True})["kept"]:
        with suppress(Busy, BuildFailed), lock(TOOLCHAIN.with_suffix(".lock")):
            _remove()


def _install(packages: Sequence[str]) -> Sequence[str]:
    """Install packages; returns the names of those that had to be upgraded for that."""
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
    write_json(TOOLCHAIN, {"packages": sorted({*new, *_noted()}), "kept": False})
    try:
        _run([*APT, "--no-remove", "--mark-auto", "install", *missing])
    except BuildFailed:  # old lists name what a mirror has no more
        _run([*APT, "update"])
        _run([*APT, "--no-remove", "--mark-auto", "install", *missing])
    if new:
        _run(["apt-mark", "auto", *new])
    return upgraded


def _noted() -> list[str]:
    packages: list[str] = (read_json(TOOLCHAIN) or {"packages": []})["packages"]
    return packages


def _remove() -> None:
    if not (noted := _noted()):
        return
    ours = _run(["apt-mark", "showauto", *noted]).split()
    leaving = re.findall(r"^(?:Remv|Purg) (\S+)", _run([*APT, "--simulate", "purge", *ours]), re.MULTILINE)
    if ours and set(leaving) <= set(ours):  # or something else needs them by now
        _run([*APT, "purge", *ours])
    TOOLCHAIN.unlink(missing_ok=True)


def _run(argv: Sequence[str]) -> str:
    """Run a program of the distribution as root, once apt's locks are free; returns its output."""
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
