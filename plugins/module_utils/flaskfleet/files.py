"""Writing files so that a reader, also after a power cut, finds the old or the new content, never a part."""

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

END_BYTES = 65_536  # of a file that are read at its beginning and at its end


class Busy(Exception):
    """Another process holds a lock; the message is its pid."""


@contextmanager
def lock(path: Path, patience: float = 0) -> Iterator[None]:
    """Lock a file; the kernel releases the lock if the process ends.

    :param patience: seconds to wait for another process.
    :raises Busy: another process holds the lock.
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
    """Make all files and names below a folder durable.

    Not by sync(2), because that would wait for everything that any process has written on the machine. In parallel,
    because a file system's journal makes them durable together.
    """
    paths = [root, *(path for path in root.rglob("*") if not path.is_symlink())]
    with ThreadPoolExecutor() as pool:
        list(pool.map(fsync_path, paths))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar; from Python 3.11.4 on, a member that leads out of the folder is refused (PEP 706)."""
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(folder)


def write_file(path: Path, content: bytes, mode: int = 0o644, uid: int = -1, gid: int = -1) -> None:
    """Write a file under another name, make it durable and rename it into place."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    fsync_path(path.parent)


def write_json(path: Path, value: Any, mode: int = 0o644, uid: int = -1, gid: int = -1) -> None:
    """Write a record with sorted keys, so that equal records are equal files."""
    write_file(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode(), mode, uid, gid)


def read_json(path: Path) -> Any:
    """Read a record; None if there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def point_symlink(link: Path, target: str) -> None:
    """Point a symlink at another target with one rename."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)
    fsync_path(link.parent)


def chown_tree(folder: Path, uid: int, gid: int) -> None:
    """Change the owner of a folder and of all below it, the folder itself last.

    By chown(1), because it works with descriptors and without recursion. The app may replace any of its folders by a
    link meanwhile, and may nest them to any depth.
    """
    argv = ["chown", "--recursive", "--no-dereference", f"{uid}:{gid}", "--", str(folder)]
    subprocess.run(argv, check=True, capture_output=True)


def remove_trees(*folders: Path) -> None:
    """Remove folders with all that is below them; errors are ignored. By rm(1), see :func:`chown_tree`."""
    if existing := [str(folder) for folder in folders if os.path.lexists(folder)]:
        subprocess.run(["rm", "--recursive", "--force", "--", *existing], check=False, capture_output=True)


def read_ends(file: BinaryIO, skip: int = 0) -> tuple[bytes, bytes]:
    """The beginning and the end of a file; the end is empty if the beginning is the whole file.

    :param skip: bytes to skip at the beginning; none if the file is shorter.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.seek(skip if skip < size else 0)
    head = file.read(END_BYTES)
    file.seek(max(start + len(head), size - END_BYTES))
    return head, file.read(END_BYTES)


def user_id(name: str) -> int:
    """The uid of a user.

    :raises KeyError: there is no such user.
    """
    return pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    """The gid of a group.

    :raises KeyError: there is no such group.
    """
    return grp.getgrnam(name).gr_gid
