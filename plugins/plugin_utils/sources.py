"""Where an app's code comes from. Preflight fetches it to the controller, and each host's release looks it up.

::

    .cache/sources/git/<url>/repository      all branches and tags of the url, without its submodules
    .cache/sources/git/<url>/<commit>/       a checkout, complete, with submodules and without .git
    .cache/sources/git/<url>/<key>.json      which commit a version was when a run fetched it
    .cache/sources/archive/<sha256>/         an unpacked archive, complete
    .cache/sources/archive/<key>.json        which sha256 an archive had when a run fetched it

A folder has one user at a time (flock). What is made in it is made aside and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ansible.module_utils.urls import open_url

from .rendering import PROJECT

CACHE = PROJECT / ".cache"
KINDS = ("path", "git", "archive", "package")
KEPT_CHECKOUTS = 5  # of one repository
KEPT_ARCHIVES = 20
KEPT_SECONDS = 86400  # nothing goes that a run may be using
TIME_LIMIT_SECONDS = 600  # of one git command, and of a download

GIT_URL = re.compile(
    r"https://[A-Za-z0-9\[][^\s/@]*/\S+"
    r"|ssh://(?!-)([\w.~-]+@)?[A-Za-z0-9\[][^\s@]*/\S+"
    r"|(?!-)[\w.~-]+@[A-Za-z0-9][\w.-]*:(?!-)\S+"
    r"|(file://)?/[^\n\0]+"
)
VERSION = re.compile(r"(?!-)(?!.*(\.\.|@\{))[^\s\0~^:?*\[\\]+")  # git-check-ref-format(1)
COMMIT = re.compile(r"[0-9a-f]{40}")
# What a hook of git sets for its own repository: git rev-parse --local-env-vars.
OF_A_REPOSITORY = {
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX",
}  # fmt: skip
# gitcredentials(7): an url's password is in no argument of a process, which others can read, and in no file.
CREDENTIALS = r"""!f() { printf 'username=%s\npassword=%s\n' "$FLASKFLEET_GIT_USER" "$FLASKFLEET_GIT_PASSWORD"; }; f"""


class SourceError(ValueError):
    """A source can't be had, or can't be packed; the message has the value and says what to do."""


class Fetched(NamedTuple):
    """A source on the controller: its folder, None for a package, and what release.json has as its origin."""

    folder: Path | None
    record: dict[str, str]


def fetch(source: dict[str, Any]) -> Fetched:
    """Get a source to the controller: ``source`` as in an app's entry, options that are not given may be None.

    :raises SourceError: it can't be had.
    """
    kind, value = _kind(source)
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
    """What ``fetch`` of the same source has returned in this run. It does not go to the network.

    :raises SourceError: it was not fetched.
    """
    kind, value = _kind(source)
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


def redact(text: str) -> str:
    """A text whose URLs have no credentials and no query, which may be a signature.

    >>> redact("see https://user:token@host/x?signature=1 and ssh://git:word@host/y")
    'see https://host/x and ssh://git@host/y'
    """
    text = re.sub(r"(?i)(https?://)(?:[^\s/]*@|[^\s/]+:\S*@)", r"\1", text)
    text = re.sub(r"(?i)(ssh://[^\s/:@]*):[^\s/]*@", r"\1@", text)
    return re.sub(r"(?i)(https?://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Be the only user of a folder of the cache; an empty folder in it, to make things aside and to discard them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        aside = folder / "aside"
        if aside.exists():  # somebody was killed
            shutil.rmtree(aside)
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def settle(made: Path, final: Path) -> None:
    """Give something complete its name, which it then also has after a power cut."""
    os.sync()
    made.rename(final)


def prune(paths: Iterable[Path], kept: int, aside: Path) -> None:
    """Discard what has not been used for a day, by its time, but for the newest few."""
    by_age = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_age[kept:]:
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.rename(aside / f"old-{path.name}")


def _kind(source: dict[str, Any]) -> tuple[str, Any]:
    given = [(kind, source[kind]) for kind in KINDS if source.get(kind) is not None]
    if len(given) != 1:
        raise SourceError(f"give exactly one of {', '.join(KINDS)}; given are {[kind for kind, _ in given]}")
    return given[0]


def _name(*parts: Any) -> str:
    """A file's name for some values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _run() -> int:
    """What tells runs apart: Ansible forks for each task of each host, so this is its own process."""
    return os.getppid()


def _keep(note: Path, aside: Path, folder: Path, record: dict[str, str]) -> Fetched:
    """Note what a fetch has found, for ``fetched``."""
    os.utime(folder)
    (aside / "note").write_text(json.dumps({"folder": folder.name, "record": record}))
    (aside / "note").rename(note)
    prune(note.parent.glob("*.json"), 0, aside)
    return Fetched(folder, record)


# git


def _git_note(git: dict[str, str]) -> Path:
    return CACHE / "sources" / "git" / _name(redact(git["url"])) / f"{_name(git['version'], _run())}.json"


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
            git = _Git(url, note.with_name("repository"))
            checkout = note.with_name(_resolve(git, version))
            if not checkout.is_dir():
                _check_out(git, checkout.name, aside / "checkout")
                settle(aside / "checkout", checkout)
        found = _keep(note, aside, checkout, {"git": shown, "version": version, "commit": checkout.name})
        prune((path for path in note.parent.iterdir() if COMMIT.fullmatch(path.name)), KEPT_CHECKOUTS, aside)
        return found


class _Git:
    """The git command line for one url, which never asks anything. ``repository`` has what is fetched of the url."""

    def __init__(self, url: str, repository: Path) -> None:
        self.url = redact(url)
        self.repository = repository
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in OF_A_REPOSITORY},
            "GIT_TERMINAL_PROMPT": "0",
            "SSH_ASKPASS": "",
            # Submodules, too: what comes from elsewhere does not lead to files of this machine.
            "GIT_ALLOW_PROTOCOL": "file:https:ssh" if url.startswith(("/", "file://")) else "https:ssh",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repository / "objects"),
        }
        config = [
            ("core.hooksPath", os.devnull),
            ("gc.autoDetach", "false"),  # it is over before the lock is
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
        ]
        login, _, host = urlsplit(url).netloc.rpartition("@") if url.startswith("https://") else ("", "", "")
        if login:
            user, _, password = login.partition(":")
            self.environment |= {"FLASKFLEET_GIT_USER": unquote(user), "FLASKFLEET_GIT_PASSWORD": unquote(password)}
            config += [(f"credential.https://{host}.helper", helper) for helper in ("", CREDENTIALS)]
        first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
        for number, (name, value) in enumerate(config, first):
            self.environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        self.environment["GIT_CONFIG_COUNT"] = str(first + len(config))
        ssh = self.environment.get("GIT_SSH_COMMAND") or self("config", "--default", "ssh", "--get", "core.sshCommand")
        self.environment["GIT_SSH_COMMAND"] = f"{ssh.strip()} -o BatchMode=yes -o ConnectTimeout=30"

    def __call__(self, *arguments: str) -> str:
        """Run git; what it prints.

        :raises SourceError: it fails, is not there, or takes too long: then its children are ended, too.
        """
        try:
            process = subprocess.Popen(
                ["git", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SourceError(
                f"{self.url!r} needs git, and there is none on the controller's PATH; install it (apt install git)"
            ) from error
        with process:
            try:
                output, words = process.communicate(timeout=TIME_LIMIT_SECONDS)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                output, words = "", f"nothing in {TIME_LIMIT_SECONDS} seconds"
        if process.returncode:
            raise SourceError(
                f"{self.url!r} can't be fetched, git says: {redact(' '.join(words.split()))}; "
                "this machine must be able to read it, and its submodules, without being asked anything"
            )
        return output


def _resolve(git: _Git, version: str) -> str:
    """The commit that a version is now; what is needed of it is in the repository then."""
    for left_over in git.repository.rglob("*.lock"):  # of a git that was killed: ours is the only one
        left_over.unlink()
    git("init", "--quiet", "--bare", "--template=", str(git.repository))
    commit = _look_up(git, version) if COMMIT.fullmatch(version) else None
    if not commit:
        everything = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        options = ("--quiet", "--prune", "--no-write-fetch-head")
        git(f"--git-dir={git.repository}", "fetch", *options, git.url, *everything)
        commit = _look_up(git, version)
    if not commit:
        raise SourceError(
            f"{git.url!r} has no branch, tag or commit {version!r}; push it, or see what there is: "
            f"git ls-remote {git.url}"
        )
    return commit


def _look_up(git: _Git, version: str) -> str | None:
    """A branch before a tag of the same name, as ``git clone --branch`` has it; a commit may be abbreviated."""
    names = [] if COMMIT.fullmatch(version) else [f"refs/heads/{version}", f"refs/tags/{version}"]
    for name in [*names, version] if re.fullmatch(r"[0-9a-f]{7,40}", version) else names:
        with suppress(SourceError):
            arguments = ("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
            return git(f"--git-dir={git.repository}", *arguments).strip()
    return None


def _check_out(git: _Git, commit: str, folder: Path) -> None:
    """Make a folder with a commit's files and those of its submodules, as of that commit."""
    git("init", "--quiet", "--template=", str(folder))
    git("-C", str(folder), "remote", "add", "origin", git.url)  # what a submodule's url may be relative to
    git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    if (folder / ".gitmodules").exists():
        git("-C", str(folder), "submodule", "--quiet", "update", "--init", "--recursive")
    for path in list(folder.rglob(".git")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# archive


def _archive_note(archive: dict[str, str | None]) -> Path:
    where = redact(archive.get("url") or archive.get("path") or "")
    return CACHE / "sources" / "archive" / f"{_name(where, archive.get('sha256'), _run())}.json"


def _fetch_archive(archive: dict[str, str | None]) -> Fetched:
    path, url, wanted = (archive.get(name) for name in ("path", "url", "sha256"))
    shown = redact(url or path or "")
    if bool(path) == bool(url) or (url and not wanted) or not re.fullmatch(r"[0-9a-f]{64}", wanted or "0" * 64):
        raise SourceError(f"{shown!r} give either a path, or a url with its sha256 (64 hex digits)")
    if path and not (Path(path).is_absolute() and Path(path).is_file()):
        raise SourceError(f"{path!r} there is no such file on the controller; name an archive by its absolute path")
    if path:
        wanted = _verified(Path(path), wanted, shown)
    note = _archive_note(archive)
    with locked(note.parent) as aside:
        folder = note.with_name(str(wanted))
        if not folder.is_dir():
            if url:
                _download(url, aside / "archive")
                _verified(aside / "archive", wanted, shown)
            try:
                unpack(aside / "archive" if url else Path(str(path)), aside / "unpacked")
            except SourceError as error:
                raise SourceError(f"{shown!r} {error}") from error
            except Exception as error:  # whatever its modules raise for what is not, or not quite, an archive
                raise SourceError(f"{shown!r} can't be unpacked: {error}; use a .tar, .tar.gz, or .zip") from error
            inside = list((aside / "unpacked").iterdir())
            alone = len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink()
            settle(inside[0] if alone else aside / "unpacked", folder)
        found = _keep(note, aside, folder, {"archive": shown, "sha256": folder.name})
        prune((path for path in note.parent.iterdir() if len(path.name) == 64), KEPT_ARCHIVES, aside)
        return found


def _verified(path: Path, wanted: str | None, shown: str) -> str:
    """The sha256 of a file, if it is the one that is wanted."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted not in (None, actual):
        raise SourceError(
            f"{shown!r} has the sha256 {actual}, not {wanted}; if it was meant to change, correct the sha256"
        )
    return actual


def _download(url: str, target: Path) -> None:
    """Write what an url answers; through the proxies and with the certificates that all of Ansible uses."""
    end = time.monotonic() + TIME_LIMIT_SECONDS
    try:
        with open_url(url, timeout=30, decompress=False) as response, target.open("wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
                if time.monotonic() > end:
                    raise TimeoutError(f"it takes longer than {TIME_LIMIT_SECONDS} seconds")
    except Exception as error:  # a proxy, a certificate, a server: each has its own exceptions
        raise SourceError(
            f"{redact(url)!r} can't be downloaded: {redact(str(error))}; check the url, and what this machine may reach"
        ) from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip to a new folder, and nothing anywhere else.

    Python before 3.11.4, as in Debian 12, has no filter for tar: the same is refused here, for all versions.
    """
    folder.mkdir()
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            links = {PurePosixPath(member.name) for member in tar if member.issym()}
            for member in tar:
                path = _inside(member.name)
                behind = {*path.parents} if member.issym() else {path, *path.parents}
                if member.islnk():
                    target = _inside(member.linkname)
                    behind |= {target, *target.parents}
                if member.issym():
                    _inside(os.path.normpath(path.parent / member.linkname))
                if behind & links or not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                    raise SourceError(f"has a member {member.name!r} that is unsafe to unpack; remove it")
                member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            tar.extractall(folder)
        return
    with zipfile.ZipFile(archive) as container:
        for entry in container.infolist():
            path = _inside(entry.filename)
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise SourceError(f"has a link {entry.filename!r}, which a zip can't hold safely; use a tar")
            container.extract(entry, folder)
            if not entry.is_dir() and entry.external_attr >> 16 & 0o100:
                (folder / path).chmod(0o755)


def _inside(name: str) -> PurePosixPath:
    """A member's path, which stays where it is unpacked."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise SourceError(f"has a member {name!r} that leads out of it; remove it")
    return path
