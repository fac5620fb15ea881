"""Writing files so that a reader, or a power cut, meets the old content or the new, never a part."""

from __future__ import annotations

import fcntl
import grp
import json
import os
import pwd
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

END_BYTES = 65_536  # of the beginning of a file, and of its end


class Busy(Exception):
    """Another process holds a lock; the message is its pid."""


@contextmanager
def lock(path: Path, patience: float = 0) -> Iterator[None]:
    """Let one process at a time in; the kernel ends the lock with its process.

    :param patience: how many seconds to wait for another one.
    :raises Busy: another one is in.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    file.seek(0)
                    raise Busy(file.read().strip()) from None
            time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def fsync_path(path: Path) -> None:
    """Make a file durable, or the names in a directory (see fsync(2), notes)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """Make all files and names below a directory durable, and nothing else.

    sync(2) would be shorter, and whoever writes on the machine would wait for all that was ever written there. Many at
    the same time, because a file system's journal makes them durable together.
    """
    paths = [root, *(path for path in root.rglob("*") if not path.is_symlink())]
    with ThreadPoolExecutor() as pool:
        list(pool.map(fsync_path, paths))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar, with members that lead out of the folder refused where Python can (3.11.4, PEP 706)."""
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(folder)


def write_file(path: Path, content: bytes, mode: int = 0o644, uid: int = -1, gid: int = -1) -> None:
    """Write a file beside its path, make it durable and rename it into place."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    fsync_path(path.parent)


def write_json(path: Path, value: Any, mode: int = 0o644, uid: int = -1, gid: int = -1) -> None:
    """Write a record, sorted, so that two equal records are equal files."""
    write_file(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode(), mode, uid, gid)


def read_json(path: Path) -> Any:
    """Read a record; ``None`` where there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def point_symlink(link: Path, target: str) -> None:
    """Point a symlink at another target with one rename."""
    beside = link.with_name(f".{link.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(link)
    fsync_path(link.parent)


def give(folder: Path, uid: int, gid: int) -> None:
    """Hand a folder and all below it to a user, the folder itself last.

    By chown(1), for it goes by descriptors and without recursion: in a tree of an app's a folder may become a link at
    any moment, and be any number of folders deep.
    """
    argv = ["chown", "--recursive", "--no-dereference", f"{uid}:{gid}", "--", str(folder)]
    subprocess.run(argv, check=True, capture_output=True)


def remove_trees(*folders: Path) -> None:
    """Remove folders with all that is below them, as far as that is possible; by rm(1), see :func:`give`."""
    if there := [str(folder) for folder in folders if os.path.lexists(folder)]:
        subprocess.run(["rm", "--recursive", "--force", "--", *there], check=False, capture_output=True)


def read_ends(file: BinaryIO, skip: int = 0) -> tuple[bytes, bytes]:
    """The beginning of a file and its end; the second is empty where the first is all.

    :param skip: bytes before the beginning, as far as there are more.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.seek(skip if skip < size else 0)
    head = file.read(END_BYTES)
    file.seek(max(start + len(head), size - END_BYTES))
    return head, file.read(END_BYTES)


def user_id(name: str) -> int:
    """The uid of a user; :exc:`KeyError` where there is no such user."""
    return pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    """The gid of a group; :exc:`KeyError` where there is no such group."""
    return grp.getgrnam(name).gr_gid
