"""An app's own user: a system user without a shell, whose home is the app's folder, and what is done as that user.

Root neither runs what is an app's nor touches what the app can write.
"""

from __future__ import annotations

import pwd
import subprocess
from collections.abc import Sequence

NO_SHELL = "/usr/sbin/nologin"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class UserFailed(Exception):
    """A user was not created or removed; the message holds the words of useradd(8) or userdel(8)."""


def find_user(name: str) -> pwd.struct_passwd | None:
    """A user's entry; ``None`` where there is no such user."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def create_user(name: str, home: str) -> None:
    """Create a user with a group of its own; its home is not made.

    :raises UserFailed: it can't be.
    """
    _run("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", home, "--shell", NO_SHELL, name)


def remove_user(name: str) -> None:
    """Remove a user with its group.

    :raises UserFailed: it can't be.
    """
    _run("userdel", name)


def run_as(uid: int, gid: int, argv: Sequence[str], umask: int = 0o027) -> tuple[int, str]:
    """Run a command as a user that is in one group only, and see how it ended.

    :returns: its status, and what it said.
    """
    done = subprocess.run(
        argv, user=uid, group=gid, extra_groups=[], umask=umask, env=ENVIRONMENT, cwd="/", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(errors="replace").strip()


def end(pid: int, uid: int, gid: int) -> None:
    """Kill a process of a user: the signal comes from that user, so that it meets no other process with that number."""
    run_as(uid, gid, ["kill", "-KILL", str(pid)])


def _run(*argv: str) -> None:
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserFailed(f"{argv[0]} {argv[-1]}: {ended.stderr.strip() or ended.returncode}")
