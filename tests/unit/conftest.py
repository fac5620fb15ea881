"""A temporary directory is the host, and the current user owns its files."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OWNER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for the disk: no test pulls the plug."""
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Let no test change the umask of the next."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def host() -> Iterator[Path]:
    """A root directory whose path is short enough for unix sockets below it (unix(7): 107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="ff-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def me() -> dict[str, str]:
    """Who may own files in a test."""
    return {"owner": OWNER, "group": GROUP}


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[int, str | bytes | None]]]:
    """A function that tells everything about what is below a folder."""

    def look(folder: Path) -> dict[str, tuple[int, str | bytes | None]]:
        return {
            str(path.relative_to(folder)): (
                path.lstat().st_mode,
                os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None,
            )
            for path in folder.rglob("*")
        }

    return look
