"""Packing sources for hosts. The same source is packed to the same bytes on every controller."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .cache import CACHE, locked, prune, settle
from .entries import Entry
from .release_contents import contents, real_path
from .sources import SourceError, fetched

# The range of files' times: from what a zip can hold in any time zone (its years begin with 1980) to the past.
EARLIEST, LATEST = 315_619_200, 1_577_836_800  # 1980-01-02, 2020-01-01
COMPRESSIBLE = {
    ".css", ".js", ".mjs", ".svg", ".json", ".map", ".xml", ".txt", ".html", ".htm", ".ico", ".wasm",
    ".ttf", ".otf", ".eot", ".webmanifest",
}  # fmt: skip
COMPRESSIBLE_BYTES = 1024  # smaller files are not worth it
KEPT_ARCHIVES = 10


def source_hash(source: Path | None, files: list[Path]) -> str:
    """The sha256 over the files' paths, contents and executable bits, and over the range of times."""
    base = source or Path()
    total = hashlib.sha256(f"{EARLIEST} {LATEST}\0".encode())
    for path in files:
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        kind = "link" if path.is_symlink() else "exec" if path.stat().st_mode & 0o100 else "file"
        total.update(f"{path.relative_to(base)}\0{kind}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def static_files(source: Path | None, files: list[Path], static: dict[str, str]) -> dict[str, Path]:
    """The files that nginx serves, by their names ``static/<url prefix>/…`` in the archive.

    A link below a static folder stands for the file that it points at, or for all files of that folder.

    :param static: folders below the source by URL prefix; a longer prefix wins over a shorter one.
    :raises SourceError: a link points at a file that is not part of the release, or a file and a folder have one name.
    """
    if not source:
        return {}
    root = real_path(source)
    known = dict.fromkeys(root / path.relative_to(source) for path in files)
    members = {
        f"static{prefix}/{name}".removesuffix("/."): path
        for prefix, folder in sorted(static.items())
        for name, path in _served_files(real_path(root / folder), known, set())
    }
    for name in members:
        for parent in map(str, Path(name).parents):
            if parent in members:
                raise SourceError(
                    f"static: {members[parent]} and {members[name]} would be a file and a folder of the same name, "
                    f"{parent.removeprefix('static')}; rename one of them, or its prefix"
                )
    return members


def _served_files(folder: Path, files: dict[Path, None], above: set[Path]) -> Iterator[tuple[Path, Path]]:
    """The files below a folder with their paths below it; links are followed.

    :param files: the files of the source, by real path except for a link's own name.
    :param above: the folders on the way to this one; a link to one of them is not followed, because it is a loop.
    """
    above = {*above, folder}
    for path in files:
        if path.is_relative_to(folder):
            target = real_path(path)
            if target in files:
                yield path.relative_to(folder), target
            elif target.is_dir() and target not in above:
                for name, file in _served_files(target, files, above):
                    yield path.relative_to(folder) / name, file
            elif target.is_file():
                raise SourceError(f"{path}: the link leads to a file that is left out of a release; copy it")


def pack(source: Path | None, files: list[Path], static: dict[str, str], archive: Path) -> None:
    """Write a source as a tar.gz whose bytes depend on nothing but the source.

    It has the source as ``src/…`` and the files that nginx serves as ``static/<url prefix>/…``. These are hard links to
    the source's files and, if compression saves a tenth, compressed files for nginx's gzip_static.
    """
    base = source or Path()
    root = real_path(base)
    entries: dict[Path, tarfile.TarInfo] = {}
    with archive.open("wb") as file, _gzip(file, 6) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for path in files:
            entry = tar.gettarinfo(path, f"src/{path.relative_to(base)}")
            content = path.read_bytes() if path.is_file() else b""
            entry.uid = entry.gid = 0
            entry.mtime = _content_time(content)
            entry.uname = entry.gname = ""
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            if entry.islnk():  # a hard link to a file that is in the archive already
                entry.type, entry.size = tarfile.REGTYPE, len(content)
            tar.addfile(entry, io.BytesIO(content) if entry.isreg() else None)
            entries[root / path.relative_to(base)] = entry
        served = static_files(source, files, static)
        taken = {*served, *(str(parent) for name in served for parent in Path(name).parents)}
        smaller: dict[Path, tarfile.TarInfo] = {}
        for name, path in served.items():
            tar.addfile(_hard_link(name, entries[path]))
            if f"{name}.gz" in taken or not _is_compressible(path):
                continue
            if path in smaller:
                tar.addfile(_hard_link(f"{name}.gz", smaller[path]))
            elif len(content := _compressed(path)) <= 0.9 * entries[path].size:
                smaller[path] = entry = copy.copy(entries[path])
                entry.name, entry.size = f"{name}.gz", len(content)
                tar.addfile(entry, io.BytesIO(content))


def packed(source: Path | None, files: list[Path], static: dict[str, str], key: str) -> Path:
    """The archive that ``pack`` writes, from the cache. If many processes want it at once, one packs.

    :param key: a hash over the files and static folders.
    """
    folder = CACHE / "packed"
    archive = folder / f"{key}.tar.gz"
    with locked(folder) as aside:
        if not archive.exists():
            pack(source, files, static, aside / archive.name)
            settle(aside / archive.name, archive)
        os.utime(archive)
        prune(folder.glob("*.tar.gz"), KEPT_ARCHIVES, aside)
    return archive


def _hard_link(name: str, entry: tarfile.TarInfo) -> tarfile.TarInfo:
    link = copy.copy(entry)
    link.name, link.type, link.linkname, link.size = name, tarfile.LNKTYPE, entry.name, 0
    return link


def _is_compressible(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSIBLE and path.stat().st_size >= COMPRESSIBLE_BYTES


def _compressed(path: Path) -> bytes:
    buffer = io.BytesIO()
    with _gzip(buffer, 9) as file:
        file.write(path.read_bytes())
    return buffer.getvalue()


def _gzip(file: IO[bytes], level: int) -> gzip.GzipFile:
    """Compress to a file, without time and name in the header."""
    return gzip.GzipFile("", "wb", level, file, mtime=0)


def _content_time(content: bytes) -> int:
    """A modification time that depends on the content only.

    nginx makes a file's ETag from its time and size (ngx_http_set_etag). So equal files have equal ETags on all hosts
    and in all releases, and a changed file has another one.
    """
    return EARLIEST + int(hashlib.sha256(content).hexdigest()[:15], 16) % (LATEST - EARLIEST)


def further_wheels(entry: Entry) -> list[Path]:
    """The wheels of an app's option ``wheels``: files, and all wheels of folders.

    :raises SourceError: there is no such file or folder, or the folder has no wheel.
    """
    found: list[Path] = []
    for given in entry["wheels"]:
        path = Path(given)
        wheels = sorted(path.glob("*.whl")) if path.is_dir() else [path] if path.is_file() else []
        if not wheels:
            raise SourceError(f"{given} is neither a wheel nor a folder of wheels; name one on this machine")
        found += wheels
    return found


def pack_source(entry: Entry, made: Path | None = None) -> Path:
    """Pack an app's source, or the result of its build, unless the cache has it; the archive."""
    folder = made or fetched(entry["source"]).folder
    # .gitignore does not count after a build, because it often names the files that a build makes.
    options = {**entry["source"], "gitignore": entry["source"]["gitignore"] and not made}
    files = contents(folder, options, entry["static"].values()).files
    key = digest([source_hash(folder, files), entry["static"]])
    return packed(folder, files, entry["static"], key)


def digest(value: Any) -> str:
    """The sha256 of a value; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
