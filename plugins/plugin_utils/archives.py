"""Download, verify and unpack archives; nothing is written outside of the folder."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import time
import zipfile
from pathlib import Path, PurePosixPath

from ansible.module_utils.urls import open_url

from .source_errors import SourceError, redact

TIME_LIMIT_SECONDS = 600  # of a download


def verify(path: Path, wanted: str | None, shown: str) -> str:
    """The sha256 of a file.

    :raises SourceError: it is not the wanted one.
    """
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted not in (None, actual):
        raise SourceError(
            f"{shown!r} has the sha256 {actual}, not {wanted}; if it was meant to change, correct the sha256"
        )
    return actual


def download(url: str, target: Path) -> None:
    """Download a URL to a file, with the proxies and certificates that Ansible uses."""
    end = time.monotonic() + TIME_LIMIT_SECONDS
    try:
        with open_url(url, timeout=30, decompress=False) as response, target.open("wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
                if time.monotonic() > end:
                    raise TimeoutError(f"it takes longer than {TIME_LIMIT_SECONDS} seconds")
    except Exception as error:  # proxies, certificates and servers raise many kinds
        raise SourceError(
            f"{redact(url)!r} can't be downloaded: {redact(str(error))}; check the url, and what this machine may reach"
        ) from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip to a new folder, and write nothing elsewhere.

    Python before 3.11.4, as in Debian 12, has no filter for tar. So what that filter refuses is refused here.
    """
    folder.mkdir()
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            links = {PurePosixPath(member.name) for member in tar if member.issym()}
            for member in tar:
                path = _checked_path(member.name)
                passed = {*path.parents} if member.issym() else {path, *path.parents}
                if member.islnk():
                    target = _checked_path(member.linkname)
                    passed |= {target, *target.parents}
                if member.issym():
                    _checked_path(os.path.normpath(path.parent / member.linkname))
                if passed & links or not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                    raise SourceError(f"has a member {member.name!r} that is unsafe to unpack; remove it")
                member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            tar.extractall(folder)
        return
    with zipfile.ZipFile(archive) as container:
        for entry in container.infolist():
            path = _checked_path(entry.filename)
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise SourceError(f"has a link {entry.filename!r}, which a zip can't hold safely; use a tar")
            container.extract(entry, folder)
            if not entry.is_dir() and entry.external_attr >> 16 & 0o100:
                (folder / path).chmod(0o755)


def _checked_path(name: str) -> PurePosixPath:
    """A member's path.

    :raises SourceError: it leads out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise SourceError(f"has a member {name!r} that leads out of it; remove it")
    return path
