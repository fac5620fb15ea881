"""Packing a release on the controller: its source, what it requires, and the id over all its inputs."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import json
import os
import re
import secrets
import stat
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .entries import Entry
from .rendering import PROJECT

CACHE = PROJECT / ".cache"
LEFT_OUT = {
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules",
    "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".tox",
}  # fmt: skip
NEEDS_A_FILE = ("-r", "-c", "-e", "--requirement", "--constraint", "--editable", ".", "/", "file:")
# What steers other roles: a change of it is no new release.
NOT_OF_A_RELEASE = {"name", "source", "server_names", "nginx_directives", "secret_env"}


class SourceError(ValueError):
    """A source can't be packed; the message names the file and says what to do."""


def source_files(source: Path) -> list[Path]:
    """The files and links of a source, by path, without caches, environments and version control.

    :raises SourceError: something that can't be part of a release.
    """
    return sorted(_walk(source, source))


def _walk(folder: Path, source: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        if path.name in LEFT_OUT or path.suffix == ".pyc":
            continue
        if stat.S_ISLNK(mode):
            if Path(os.readlink(path)).is_absolute():
                raise SourceError(f"{path}: the link is absolute and would lead elsewhere on a host; make it relative")
            if not path.resolve().is_relative_to(source.resolve()):
                raise SourceError(f"{path}: the link leads out of the source; copy what it points at")
            yield path
        elif stat.S_ISDIR(mode):
            yield from _walk(path, source)
        elif stat.S_ISREG(mode):
            yield path
        else:
            raise SourceError(f"{path}: neither a file nor a link; remove it from the source")


def source_hash(source: Path, files: list[Path]) -> str:
    """The sha256 over the files' paths, contents and executable bits."""
    total = hashlib.sha256()
    for path in files:
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        kind = "link" if path.is_symlink() else "exec" if path.stat().st_mode & 0o100 else "file"
        total.update(f"{path.relative_to(source)}\0{kind}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def pack(source: Path, files: list[Path], archive: Path) -> None:
    """Write a source as a tar.gz whose bytes depend on nothing but the source."""
    buffer = io.BytesIO()
    compressed = gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=6)
    with compressed, tarfile.open(fileobj=compressed, mode="w") as tar:
        for path in files:
            entry = tar.gettarinfo(path, str(path.relative_to(source)))
            content = path.read_bytes() if path.is_file() else b""
            entry.uid = entry.gid = 0
            entry.mtime = _content_time(content)
            entry.uname = entry.gname = ""
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            if entry.islnk():  # a second name of a file that is in the archive already
                entry.type, entry.size = tarfile.REGTYPE, len(content)
            tar.addfile(entry, io.BytesIO(content) if entry.isreg() else None)
    archive.write_bytes(buffer.getvalue())


def _content_time(content: bytes) -> int:
    """A file's time, made from its content.

    nginx makes a file's ETag from its time and size (ngx_http_set_etag), so it is the same on every host and in every
    release that has the same file, and no other.
    """
    return int(hashlib.sha256(content).hexdigest()[:7], 16)


def requirements(source: Path, name: str) -> str:
    """What pip is to install: of a ``pyproject.toml`` its dependencies, else the lines of the file.

    :raises SourceError: the file is missing, or needs files that a release does not have.
    """
    path = source / name
    if not path.is_file():
        raise SourceError(f"requirements: there is no file {path}; name one below the source")
    if path.suffix == ".toml":
        try:
            project = tomllib.loads(path.read_text())["project"]
        except (KeyError, tomllib.TOMLDecodeError) as error:
            raise SourceError(f"{path}: no [project] can be read from it ({error})") from error
        if "dependencies" in project.get("dynamic", []):
            raise SourceError(f"{path}: its dependencies are dynamic; name a lock file in requirements instead")
        return "".join(f"{line}\n" for line in project.get("dependencies", []))
    text = path.read_text()
    for line in text.splitlines():
        if line.lstrip().startswith(NEEDS_A_FILE) or " @ file:" in line:
            raise SourceError(
                f"{path}: {line!r} needs another file; lock everything into one (uv pip compile, pip-compile)"
            )
        if re.match(r"\s*uwsgi\b", line, re.IGNORECASE):
            raise SourceError(f"{path}: {line!r} would replace the uWSGI that was built for this host; remove the line")
    return text


def release_key() -> bytes:
    """The key under which secrets enter a release's id. It stays on the controller."""
    path = CACHE / "release.key"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=CACHE) as beside, suppress(FileExistsError):
            beside.write(secrets.token_hex(32).encode())
            beside.flush()
            os.link(beside.name, path)  # complete at once, and the first of several that run at a time wins
    return path.read_bytes()


def digest(value: Any) -> str:
    """The sha256 of a value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def release_inputs(
    entry: Entry, source: str, required: str, templates: list[Path], settings: dict[str, Any]
) -> dict[str, Any]:
    """What a release is made from; two hosts with the same inputs have the same release.

    :param source: the source's hash. ``required`` is what pip installs, ``settings`` what other
        roles hand to the templates.
    """
    secret = json.dumps(entry["secret_env"], sort_keys=True).encode()
    return {
        "source": source,
        "requirements": digest(required),
        "templates": digest([[template.name, template.read_text()] for template in templates]),
        "settings": settings,
        "secret_env": hmac.new(release_key(), secret, "sha256").hexdigest(),
        "entry": {name: value for name, value in entry.items() if name not in NOT_OF_A_RELEASE},
    }
