"""The identity of a run of a playbook: the token of its process, which locks and drains record."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOBODY = "nobody"
PROC = Path("/proc")
Result = dict[str, Any]


def owner() -> dict[str, str]:
    """This run: the token of its ``process`` (the parent of Ansible's workers), and the user it is run ``by``."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return {"process": process_token(os.getppid()), "by": f"{user}@{socket.gethostname()}"}


def process_token(pid: int) -> str:
    """A token that no other process has: ``<boot> <namespace> <pid> <start time>``, see proc(5)."""
    return f"{_machine()} {pid} {_start_time(pid)}"


def has_ended(process: str) -> bool:
    """Whether a token is of a process of this machine that has ended; False if that is uncertain."""
    place, _, started = process.rpartition(" ")
    machine, _, pid = place.rpartition(" ")
    if machine != _machine() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # another user's, which /proc may hide (hidepid, see proc(5))
        return _start_time(int(pid)) not in (started, "?")
    return _start_time(int(pid)) != started


def breaking_stale_lock(execute: Callable[..., Result]) -> Result:
    """The result of a module, which breaks locks whose holders are processes of this controller that have ended.

    :param execute: runs the module with further arguments.
    """
    ended: list[str] = []
    while True:
        result = execute(break_holders=ended) if ended else execute()
        holder = result.get("holder", {}).get("process", "")
        if not result.get("failed") or holder in ended or not has_ended(holder):
            return result
        ended.append(holder)


def _machine() -> str:
    """This boot of this machine, and the container. From the kernel, because machines may share a host name."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} ?"


def _start_time(pid: int) -> str:
    """The start time of a process in clock ticks. It is part of the token, because pids are reused."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "?"
