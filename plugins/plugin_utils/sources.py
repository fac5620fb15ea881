"""The sources of apps. Preflight fetches them to the controller; the releases of all hosts use the fetched ones.

::

    .cache/sources/git/<url>/repository      all branches and tags of the url, without its submodules
    .cache/sources/git/<url>/<commit>/       a checkout, complete, with submodules and without .git
    .cache/sources/git/<url>/<key>.json      which commit a version was when a run fetched it
    .cache/sources/archive/<sha256>/         an unpacked archive, complete
    .cache/sources/archive/<key>.json        which sha256 an archive had when a run fetched it
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .archives import download, unpack, verify
from .cache import CACHE, locked, prune, settle
from .git import COMMIT, GIT_URL, VERSION, Git, check_out, resolve
from .source_errors import SourceError, redact

__all__ = ["KINDS", "Fetched", "SourceError", "describe", "fetch", "fetched", "redact"]

KINDS = ("path", "git", "archive", "package")
KEPT_CHECKOUTS = 5  # of one repository
KEPT_ARCHIVES = 20


class Fetched(NamedTuple):
    """A source on the controller: its folder (None for a package), and its origin for release.json."""

    folder: Path | None
    record: dict[str, str]


def fetch(source: dict[str, Any]) -> Fetched:
    """Fetch a source to the controller.

    :param source: as in an app's entry; options that are not given may be None.
    :raises SourceError: it can't be fetched.
    """
    kind, value = _kind_and_value(source)
    if kind == "git":
        return _fetch_git(value)
    if kind == "archive":
        return _fetch_archive(value)
    if kind == "package":
        return Fetched(None, {"package": value.split(" --hash=")[0]})
    if not Path(value).is_absolute():
        raise SourceError(f'{value!r} must be absolute, like "{{{{ inventory_dir }}}}/../../files/app"')
    if not Path(value).is_dir():
        raise SourceError(f"{value!r} there is no such folder on the controller")
    return Fetched(Path(value), {"path": value})


def fetched(source: dict[str, Any]) -> Fetched:
    """The result of ``fetch`` of the same source in this run, without the network.

    :raises SourceError: it was not fetched.
    """
    kind, value = _kind_and_value(source)
    if kind in ("path", "package"):
        return fetch(source)
    note = _git_note(value) if kind == "git" else _archive_note(value)
    with suppress(OSError, ValueError):
        found = json.loads(note.read_text())
        if (folder := note.parent / found["folder"]).is_dir():
            return Fetched(folder, found["record"])
    raise SourceError(f"{redact(value.get('url') or value['path'])!r} was not fetched: run it through the playbooks")


def describe(record: dict[str, str]) -> str:
    """An origin in words.

    >>> describe({"git": "https://host/repo", "version": "main", "commit": "1a2b3c4d"})
    'https://host/repo main (1a2b3c4)'
    """
    if "git" in record:
        commit = record["commit"]
        version = "" if record["version"] == commit else f" {record['version']}"
        return f"{record['git']}{version} ({commit[:7]})"
    if "archive" in record:
        return f"{record['archive']} (sha256 {record['sha256'][:7]})"
    return record.get("package") or record["path"]


def _kind_and_value(source: dict[str, Any]) -> tuple[str, Any]:
    given = [(kind, source[kind]) for kind in KINDS if source.get(kind) is not None]
    if len(given) != 1:
        raise SourceError(f"give exactly one of {', '.join(KINDS)}; given are {[kind for kind, _ in given]}")
    return given[0]


def _file_name(*parts: Any) -> str:
    """A file name that is a hash over some values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _run_id() -> int:
    """The id of this run: the parent's pid, because Ansible forks a worker for each task of each host."""
    return os.getppid()


def _record_fetch(note: Path, aside: Path, folder: Path, record: dict[str, str]) -> Fetched:
    """Record the result of a fetch, for ``fetched``."""
    os.utime(folder)
    (aside / "note").write_text(json.dumps({"folder": folder.name, "record": record}))
    (aside / "note").rename(note)
    prune(note.parent.glob("*.json"), 0, aside)
    return Fetched(folder, record)


def _git_note(git: dict[str, str]) -> Path:
    return CACHE / "sources" / "git" / _file_name(redact(git["url"])) / f"{_file_name(git['version'], _run_id())}.json"


def _fetch_git(source: dict[str, str]) -> Fetched:
    url, version = source["url"], source["version"]
    shown = redact(url)
    if not GIT_URL.fullmatch(shown):
        raise SourceError(
            f"{shown!r} is no address of a repository; use https://, ssh://, user@host:path, file:/// "
            "or an absolute path"
        )
    if not VERSION.fullmatch(version):
        raise SourceError(f"{shown!r}: {version!r} can't be a version; name a branch, a tag or a commit")
    note = _git_note(source)
    with locked(note.parent) as aside:
        checkout = note.parent / version
        if not (COMMIT.fullmatch(version) and checkout.is_dir()):
            git = Git(url, note.with_name("repository"))
            checkout = note.with_name(resolve(git, version))
            if not checkout.is_dir():
                check_out(git, checkout.name, aside / "checkout")
                settle(aside / "checkout", checkout)
        found = _record_fetch(note, aside, checkout, {"git": shown, "version": version, "commit": checkout.name})
        prune((path for path in note.parent.iterdir() if COMMIT.fullmatch(path.name)), KEPT_CHECKOUTS, aside)
        return found


def _archive_note(archive: dict[str, str | None]) -> Path:
    where = redact(archive.get("url") or archive.get("path") or "")
    return CACHE / "sources" / "archive" / f"{_file_name(where, archive.get('sha256'), _run_id())}.json"


def _fetch_archive(archive: dict[str, str | None]) -> Fetched:
    path, url, wanted = (archive.get(name) for name in ("path", "url", "sha256"))
    shown = redact(url or path or "")
    if bool(path) == bool(url) or (url and not wanted) or not re.fullmatch(r"[0-9a-f]{64}", wanted or "0" * 64):
        raise SourceError(f"{shown!r} give either a path, or a url with its sha256 (64 hex digits)")
    if path and not (Path(path).is_absolute() and Path(path).is_file()):
        raise SourceError(f"{path!r} there is no such file on the controller; name an archive by its absolute path")
    if path:
        wanted = verify(Path(path), wanted, shown)
    note = _archive_note(archive)
    with locked(note.parent) as aside:
        folder = note.with_name(str(wanted))
        if not folder.is_dir():
            if url:
                download(url, aside / "archive")
                verify(aside / "archive", wanted, shown)
            try:
                unpack(aside / "archive" if url else Path(str(path)), aside / "unpacked")
            except SourceError as error:
                raise SourceError(f"{shown!r} {error}") from error
            except Exception as error:  # tarfile, zipfile and codecs raise many kinds for a damaged archive
                raise SourceError(f"{shown!r} can't be unpacked: {error}; use a .tar, .tar.gz, or .zip") from error
            entries = list((aside / "unpacked").iterdir())
            has_one_folder = len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink()
            settle(entries[0] if has_one_folder else aside / "unpacked", folder)
        found = _record_fetch(note, aside, folder, {"archive": shown, "sha256": folder.name})
        prune((path for path in note.parent.iterdir() if len(path.name) == 64), KEPT_ARCHIVES, aside)
        return found
