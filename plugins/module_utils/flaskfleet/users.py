"""An app's system user, and commands that run as that user.

Root neither runs an app's code nor touches files that the app can write.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from .files import read_ends

WITHIN_SECONDS = 60  # for a command as an app's user; the longest one copies the first content of a shared path
KILLED_WITHIN_SECONDS = 5
NOBODY = 65534  # Debian's nogroup, which owns nothing
NO_SHELL = "/usr/sbin/nologin"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class UserFailed(Exception):
    """A user was not created or removed; the message has the output of useradd(8) or userdel(8)."""


def find_user(name: str) -> pwd.struct_passwd | None:
    """A user's entry; None if there is no such user."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def create_user(name: str, home: str) -> None:
    """Create a user with a group of its own, without a home folder.

    :raises UserFailed: useradd failed.
    """
    _run("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", home, "--shell", NO_SHELL, name)


def remove_user(name: str) -> None:
    """Remove a user with its group.

    :raises UserFailed: userdel failed.
    """
    _run("userdel", name)


def setpriv(uid: int, gid: int | None = None) -> list[str]:
    """The start of a command line that runs the rest as a user, in one group only or in root's groups.

    Not ``Popen(user=…)``, because that waits for the child's exec, for ever if the user stops the child before
    (SIGSTOP).
    """
    return ["setpriv", f"--reuid={uid}", *([] if gid is None else [f"--regid={gid}", "--clear-groups"])]


def run_as(
    uid: int, gid: int, argv: Sequence[str], umask: int = 0o027, within: float = WITHIN_SECONDS
) -> tuple[int, str]:
    """Run a command as a user that is in one group only.

    The user may stop the command, let it print any amount, and hold its output open. So the output goes to a file, and
    the command has a time limit.

    :param within: seconds after which the command is killed.
    :returns: its status, and the beginning and the end of its output.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*setpriv(uid, gid), *argv], umask=umask, env=ENVIRONMENT, cwd="/", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            problem = b""
            process.wait(within)
        except subprocess.TimeoutExpired:
            problem = f"it did not end within {within:g} seconds".encode()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        text = b"\n".join(filter(None, (*read_ends(output), problem)))
    return process.returncode, text.decode(errors="replace").strip()


def end_processes(uid: int, within: float = 10, proc: Path = Path("/proc")) -> None:
    """Kill all processes of a user, in whatever process group and session they are.

    :param within: seconds.
    :raises UserFailed: some do not end.
    """
    end = time.monotonic() + within
    # All processes get the signal at once, because one that forks all the time escapes a kill by pid. If a container
    # has processes with that user id, they are killed by pid only, because the signal would reach the container's.
    at_once = not any(is_contained for _, is_contained in _processes(uid, proc))
    while True:
        if at_once:
            _kill_all(uid)
        pids = processes(uid, proc)
        if not pids:
            return
        if time.monotonic() > end:
            raise UserFailed(
                f"processes {pids[:10]} of the user {uid} do not end, and the user was not removed; "
                "reboot the host, then run again"
            )
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _kill_all(uid: int) -> None:
    """Kill all processes of a user at once (kill(2), -1). As that user, so that no other user's are killed."""
    if uid in (0, os.geteuid()):
        raise UserFailed(f"the user {uid} is no app's: its processes are not killed")
    with suppress(subprocess.TimeoutExpired, OSError):  # at the user's process limit nothing can be started
        subprocess.run(
            [*setpriv(uid, NOBODY), "sh", "-c", "kill -KILL -1"], env=ENVIRONMENT, cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
            timeout=KILLED_WITHIN_SECONDS,
        )  # fmt: skip


def processes(uid: int, proc: Path = Path("/proc")) -> list[int]:
    """The processes of a user, without those in containers: there the user id belongs to another user."""
    return [pid for pid, is_contained in _processes(uid, proc) if not is_contained]


def _processes(uid: int, proc: Path) -> Iterator[tuple[int, bool]]:
    for status in proc.glob("[0-9]*/status"):
        with suppress(OSError):  # it ended meanwhile
            content = status.read_bytes()
            is_the_users = re.search(rb"^Uid:\t%d\t" % uid, content, re.MULTILINE)
            has_ended = re.search(rb"^State:\tZ", content, re.MULTILINE)
            if is_the_users and not has_ended:
                yield int(status.parent.name), _is_contained(status.parent, proc)


def _is_contained(process: Path, proc: Path) -> bool:
    """Whether a process is in a container of root: another pid namespace, the same user namespace.

    An unprivileged user can't create a pid namespace without a user namespace.
    """
    try:
        pids, users = (
            os.readlink(process / "ns" / kind) != os.readlink(proc / "self/ns" / kind) for kind in ("pid", "user")
        )
    except PermissionError:  # root of a container may not read it, and sees no other container's processes
        return False
    return pids and not users


def _run(*argv: str) -> None:
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserFailed(f"{argv[0]} {argv[-1]}: {ended.stderr.strip() or ended.returncode}")
