"""An app's own user: a system user without a shell, whose home is the app's folder."""

from __future__ import annotations

import pwd
import subprocess

NO_SHELL = "/usr/sbin/nologin"


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


def _run(*argv: str) -> None:
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserFailed(f"{argv[0]} {argv[-1]}: {ended.stderr.strip() or ended.returncode}")
