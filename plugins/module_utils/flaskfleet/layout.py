"""An app's files on a host: releases that are complete at their path or not there, and never edited.

::

    /srv/<app>/releases/<release>/  src/ static/<prefix>/ env/ run/ uwsgi.ini supervisor.conf programs.conf
                                    exec serve release.json manifest.json  venv -> ../../venvs/<key>
                                    secrets -> ../../secrets/<set>
                                    files/  those of ``files`` that stand below a shared path
                                    seed/   what the source has at its shared paths
    /srv/<app>/venvs/<key>/         see environments.py
    /srv/<app>/secrets/<set>/       env/ one file per variable, files/; a release has one, which its next start reads
    /srv/<app>/shared/, media/      what outlives releases, see shared.py
    /srv/<app>/current              -> releases/<release>, the only switch
    /srv/<app>/next, previous       the same, for static files only
    /srv/<app>/router               -> venvs/<key>, whose uWSGI listens for http, where nginx does not
    /var/log/<app>/<release>.log    current.log -> the live one's
"""

from __future__ import annotations

import compileall
import hashlib
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import shared, wheels
from .environments import RECORD, Environment, build_environment, used_wheels
from .files import (
    fsync_path,
    fsync_tree,
    give,
    group_id,
    point_symlink,
    read_json,
    remove_trees,
    unpack,
    user_id,
    write_file,
    write_json,
)
from .journal import Journal, release_id
from .users import run_as

NAME = r"[0-9a-f]{12}(?:\.\d+)?"  # of a release: its id, with a number for each restart
WEB_GROUP = "www-data"  # nginx's, which reaches sockets and reads static files
OF_ITS_HOST = {"run", "venv", "secrets", "next", "previous", "manifest.json"}  # in a release's directory
ENVIRONMENT_BYTES, ENVIRONMENT_FILES = 150_000_000, 5_000  # what a new environment may take


class ReleaseFailed(Exception):
    """A release was refused; the message holds the app's own words. What was live is untouched."""


# As the app: a folder or a file in its own folders, complete or not there. $1 seed, $2 place, $3 folder or file.
SEED = """
rm -rf "$2.new" && mkdir -p "${2%/*}"
if [ -e "$1" ]; then cp -R "$1" "$2.new"; elif [ "$3" = folder ]; then mkdir "$2.new"; else exit 0; fi
mv -T "$2.new" "$2"
"""


@dataclass(frozen=True)
class Secrets:
    """A set of secrets: variables and files, by name and by path. ``id`` is the same for the same ones."""

    id: str
    env: dict[str, str]
    files: dict[str, str]

    @property
    def contents(self) -> dict[str, bytes]:
        """The set's files, by path."""
        found = {f"env/{name}": f"{value}\n".encode() for name, value in self.env.items()}
        return found | {f"files/{path}": content.encode() for path, content in self.files.items()}


@dataclass(frozen=True)
class Release:
    """What makes an app run on this host. ``files`` are the rendered ones by name; ``record`` becomes release.json.

    ``own_files`` are those of ``files`` of the app's entry: content by path below the source. ``secret_files`` are
    the paths of those whose contents are in a set of secrets.
    """

    id: str
    files: dict[str, str]
    env: dict[str, str]
    static: dict[str, str]  # URL prefixes and folders, of which the archive has the files unless it is a package
    record: dict[str, Any]  # app, release, source, host, inputs
    own_files: dict[str, str] = field(default_factory=dict)
    secret_files: tuple[str, ...] = ()


class Layout:
    """The directories of an app. ``root`` is / but in tests.

    :raises ReleaseFailed: a name that would lead out of them.
    """

    def __init__(self, name: str, root: Path = Path("/")) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            raise ReleaseFailed(f"app: {name!r} is no app's name")
        self.name = name
        self.user_home = f"/srv/{name}"  # in /etc/passwd
        self.home = root / "srv" / name
        self.venvs = self.home / "venvs"
        self.pool = root / "var/lib/flaskfleet/wheels"
        self.logs = root / "var/log" / name
        self.trial = root / "run/flaskfleet/supervisor.d"
        self.journal_file = root / "var/lib/flaskfleet/apps" / f"{name}.json"

    def live(self) -> str | None:
        """The release that ``current`` points at, if it is there."""
        live = self.target("current")
        return live if live and self.path(live).is_dir() else None

    def target(self, link: str) -> str | None:
        """The name of what a link below the app's home points at."""
        try:
            return Path(os.readlink(self.home / link)).name
        except FileNotFoundError:
            return None

    def path(self, release: str) -> Path:
        """Where a release lies."""
        return self.home / "releases" / release

    def on_disk(self) -> list[str]:
        """The complete releases."""
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self.home / "releases") if re.fullmatch(NAME, name))
        return []

    def record(self, release: str) -> dict[str, Any]:
        """What a release was made from."""
        return read_json(self.path(release) / "release.json") or {}

    def entry(self, release: str) -> dict[str, Any]:
        """The app's entry in the inventory, as of a release."""
        return self.record(release)["inputs"]["entry"]

    def journal(self) -> Journal:
        """What became live, and when."""
        return Journal(self.journal_file, self.live())

    def kept_under(self, id: str) -> str | None:
        """The name under which a release lies on disk: its id, or of its last restart."""
        same = [release for release in self.on_disk() if release_id(release) == id]
        return max(same, key=_generation, default=None)

    def before(self) -> str | None:
        """What was live before: where a rollback leads to."""
        journal, live = self.journal(), self.live()
        left = {release_id(live or ""), *journal.voided}
        on_disk = self.on_disk()
        return next((name for name in journal.newest_first() if name in on_disk and release_id(name) not in left), None)

    def prepare(self) -> None:
        """Make the app's directories."""
        uid, gid = user_id(self.name), group_id(self.name)
        for path, owner, group, mode in (
            (self.home, 0, 0, 0o755),
            (self.home / "releases", 0, 0, 0o755),
            (self.venvs, 0, gid, 0o750),
            (self.home / "secrets", 0, gid, 0o750),
            (self.home / "shared", uid, gid, 0o750),
            (self.logs, 0, gid, 0o750),
            (self.trial, 0, 0, 0o755),
        ):
            path.mkdir(parents=True, exist_ok=True)
            if path.name == "shared" and path.stat().st_uid != uid:
                give(path, uid, gid)  # it was another user's: the app was removed and came back
            os.chown(path, owner, group)
            path.chmod(mode)

    # Secrets: a set is never edited, and a release that runs keeps the one that it was started with

    def keep_secrets(self, secrets: Secrets) -> bool:
        """See that a set is there and complete; whether it had to be written."""
        final = self.home / "secrets" / secrets.id
        if (final / "env").is_dir() and _read_files(final) == secrets.contents:
            return False
        aside, gid = final.with_name(f".{secrets.id}"), group_id(self.name)
        remove_trees(aside)
        _make_folder(aside, gid)
        _make_folder(aside / "env", gid)
        for path, content in secrets.contents.items():
            for parent in reversed(Path(path).parents):
                _make_folder(aside / parent, gid)
            write_file(aside / path, content, 0o640, 0, gid)
        fsync_tree(aside)
        remove_trees(final)
        aside.rename(final)
        fsync_path(final.parent)
        return True

    def bind_secrets(self, release: str, secrets: Secrets) -> None:
        """Let the next start of a release read a set that is there."""
        point_symlink(self.path(release) / "secrets", f"../../secrets/{secrets.id}")

    def has_secrets(self, release: str, secrets: Secrets) -> bool:
        """Whether a release has this set."""
        return self.target(f"releases/{release}/secrets") == secrets.id

    def prune_secrets(self) -> None:
        """Remove the sets that no release on disk has. Releases of earlier versions have theirs without a set."""
        used = {self.target(f"releases/{release}/secrets") for release in self.on_disk()}
        for path in (self.home / "secrets").glob("*"):
            if path.is_dir() and path.name not in used:
                remove_trees(path)
            elif path.is_file() and None not in used:
                path.unlink()

    # Shared paths

    def seed_shared(self, release: str) -> None:
        """Make what a release shares with others, from what its source has there; what is there stays as it is.

        All in folders of the app's is made by the app's user.

        :raises ReleaseFailed: the app's user can't.
        """
        entry, uid, gid = self.entry(release), user_id(self.name), group_id(self.name)
        if not os.path.lexists(self.home / "shared/var"):
            run_as(uid, gid, ["mkdir", "-p", str(self.home / "shared/var")])
        for path in entry.get("shared_paths", []):
            place = self.home / shared.place(path, entry["static"])
            seed = self.path(release) / "seed" / path
            kind = "folder" if seed.is_dir() or (not seed.exists() and shared.is_folder(path)) else "file"
            if shared.served_at(path, entry["static"]):
                self._make_media(place, seed)
            elif not os.path.lexists(place):
                status, said = run_as(uid, gid, ["sh", "-ec", SEED, "sh", str(seed), str(place), kind])
                if status:
                    raise ReleaseFailed(f"{self.name}: shared_paths: {path} can't be made at {place}: {said}")

    def _make_media(self, place: Path, seed: Path) -> None:
        """A folder of the app's that nginx may read, below folders of root's.

        :raises ReleaseFailed: a folder above it is the app's, shared as a whole by an earlier release: a link there
            may lead anywhere.
        """
        uid, web = user_id(self.name), group_id(WEB_GROUP)
        for folder in (self.home / parent for parent in place.relative_to(self.home).parents):
            if os.path.lexists(folder) and (folder.is_symlink() or folder.lstat().st_uid != os.geteuid()):
                raise ReleaseFailed(
                    f"{self.name}: shared_paths: {place} lies in {folder}, which the app writes; share that, "
                    "or move it away"
                )
        if place.exists():
            if place.stat().st_uid != uid:
                give(place, uid, web)
            return
        aside = place.with_name(f".{place.name}.new")
        remove_trees(aside)
        aside.mkdir(parents=True)
        os.chown(aside, uid, web)
        aside.chmod(0o2750)
        if seed.exists():
            status, said = run_as(uid, group_id(self.name), ["cp", "-R", f"{seed}/.", str(aside)], umask=0o022)
            if status:
                raise ReleaseFailed(f"{self.name}: shared_paths: {place} can't be made: {said}")
        aside.rename(place)
        fsync_path(place.parent)

    def stage(self, release: Release, archive: Path, environment: Environment) -> None:
        """Build a release aside and rename it to its path. Nothing runs.

        :raises ReleaseFailed: there is no room for it; nothing is left of it.
        """
        with self._unpacked(release.id, archive, environment) as aside:
            if "package" in release.record["source"]:
                for prefix, folder in release.static.items():
                    _link_tree(self._packaged(environment.key, folder), aside / f"static{prefix}")
            gid = group_id(self.name)
            self._link_shared(aside, release)
            _write_variables(aside / "env", release.env, gid)
            for name, content in release.files.items():
                _write_rendered(aside / name, content.encode(), gid)
            write_json(aside / "release.json", release.record, 0o640, 0, gid)  # it has the plain environment

    def _link_shared(self, aside: Path, release: Release) -> None:
        """Let the source lead to what is not part of it: shared paths, files of the inventory, secret ones."""
        entry = release.record["inputs"]["entry"]
        shared_paths = entry.get("shared_paths", [])
        for path in shared_paths:
            inside, seed = aside / "src" / path, aside / "seed" / path
            if os.path.lexists(inside):
                seed.parent.mkdir(parents=True, exist_ok=True)
                inside.rename(seed)
            _link(inside, aside / "src", f"../../../{shared.place(path, entry['static'])}")
        for path, content in release.own_files.items():
            target = aside / ("files" if shared.below(path, shared_paths) else "src") / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            write_file(target, content.encode())
        for path in release.secret_files:
            if not shared.below(path, shared_paths):
                (aside / "src" / path).unlink(missing_ok=True)
                _link(aside / "src" / path, aside / "src", f"../secrets/files/{path}")

    def pack(self, release: str, archive: Path) -> None:
        """Pack a release for hosts that lack it, with the record of its environment, which they make themselves."""
        path = self.path(release)
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for member in sorted(path.iterdir()):
                if member.name not in OF_ITS_HOST:
                    tar.add(member, member.name, filter=_without_bytecode)
            tar.add(path / "venv" / RECORD, RECORD)

    def adopt(self, release: str, archive: Path, environment: Environment) -> None:
        """Stage a release that another host has packed.

        :param environment: what it has there, of this host's platform.
        :raises ReleaseFailed: there is no room for it; nothing is left of it.
        """
        with self._unpacked(release, archive, environment) as aside:
            (aside / RECORD).unlink()
            for path in (*aside.iterdir(), *(aside / "env").iterdir()):
                if path.is_file() and not path.is_symlink():
                    _write_rendered(path, path.read_bytes(), group_id(self.name))

    @contextmanager
    def _unpacked(self, release: str, archive: Path, environment: Environment) -> Iterator[Path]:
        """A directory that becomes a release when the block ends: an archive and an environment. Nothing runs."""
        self._look_for_room(release, archive, environment)
        try:
            with self._aside(release) as aside:
                venv = build_environment(self.venvs, environment, self.pool)
                unpack(archive, aside)
                compileall.compile_dir(aside / "src", quiet=2, stripdir=str(aside), prependdir=str(self.path(release)))
                (aside / "venv").symlink_to(f"../../venvs/{venv}")
                yield aside
        except BaseException:
            self.prune_environments()
            raise

    def meet(self, release: str) -> None:
        """Let the live release and the one that is to follow it have each other's static files.

        For uWSGI alone, where nginx does not serve them: it serves no file outside a map's own folder, so these are
        further names of the same files. A page of one release may ask the other one for its assets.
        """
        live = self.live()
        if live and live != release:
            for one, neighbour, other in ((live, "next", release), (release, "previous", live)):
                remove_trees(self.path(one) / neighbour)
                _link_tree(self.path(other) / "static", self.path(one) / neighbour)

    def part(self) -> None:
        """Let the live release have nothing of one that is not to follow it."""
        if live := self.live():
            remove_trees(*(self.path(live) / "next").glob("*"))

    def _packaged(self, environment: str, folder: str) -> Path:
        for path in (self.venvs / environment).glob(f"lib/python*/site-packages/{folder}"):
            return path
        raise ReleaseFailed(
            f"{self.name}: static: the package has no folder {folder}; name one below its site-packages"
        )

    def copy(self, release: str) -> str:
        """Make a release again under a name of its own, so that it can run beside itself; the name.

        Files are shared where they don't have the name in them.
        """
        same = [name for name in self.on_disk() if release_id(name) == release_id(release)]
        name = f"{release_id(release)}.{max(map(_generation, same)) + 1}"
        gid = group_id(self.name)
        with self._aside(name) as aside:
            for folder in ("src", "static", "env", "files", "seed"):
                if (self.path(release) / folder).exists():
                    _link_tree(self.path(release) / folder, aside / folder)
            for link in ("venv", "secrets"):
                if (self.path(release) / link).is_symlink():  # of an earlier version it has no set of secrets
                    (aside / link).symlink_to(os.readlink(self.path(release) / link))
            write_json(aside / "release.json", {**self.record(release), "release": name}, 0o640, 0, gid)
            for path in self.path(release).iterdir():
                if path.is_file() and path.suffix != ".json":
                    content = path.read_bytes().replace(release.encode(), name.encode())
                    _write_rendered(aside / path.name, content, gid)
            _write_variables(aside / "env", {**_read_variables(aside / "env"), "FLASKFLEET_RELEASE": name}, gid)
        return name

    @contextmanager
    def _aside(self, release: str) -> Iterator[Path]:
        """A directory that becomes a release when the block ends, and nothing when it fails."""
        final = self.path(release)
        aside = final.with_name(f".{release}")
        remove_trees(aside)
        gid = group_id(self.name)
        try:
            for name, mode, owner, group in (
                ("src", 0o750, 0, gid),
                ("static", 0o755, 0, 0),
                ("next", 0o755, 0, 0),
                ("previous", 0o755, 0, 0),
                ("env", 0o750, 0, gid),
                ("files", 0o750, 0, gid),
                ("seed", 0o750, 0, gid),
                ("run", 0o750, 0, 0),
            ):
                (aside / name).mkdir(parents=True)
                os.chown(aside / name, owner, group)
                (aside / name).chmod(mode)
            yield aside
            write_json(aside / "manifest.json", _manifest(aside), 0o600)
            fsync_tree(aside)
            # Last: the app's user may put there what it likes, but not move or remove the socket that serve makes. A
            # release of an earlier version has no serve, and makes its socket itself.
            serves = (aside / "serve").exists()
            os.chown(aside / "run", 0 if serves else user_id(self.name), gid if serves else group_id(WEB_GROUP))
            (aside / "run").chmod(0o1771 if serves else 0o2750)
            fsync_path(aside / "run")
            aside.rename(final)
        finally:
            remove_trees(aside)

    def _look_for_room(self, release: str, archive: Path, environment: Environment) -> None:
        size, files = (2 * number for number in _size(archive))  # also compiled
        if not (self.venvs / environment.key).exists():
            size, files = size + ENVIRONMENT_BYTES, files + ENVIRONMENT_FILES
        there = os.statvfs(self.home)
        free, inodes = there.f_bavail * there.f_frsize, there.f_favail
        if free < size or (there.f_files and inodes < files):  # some file systems do not count them
            raise ReleaseFailed(
                f"{self.name}: {self.home} has {free / 1e6:.0f} MB and {inodes} inodes free, and {release} needs "
                f"about {size / 1e6:.0f} MB and {files}; make room, or lower flask_app_keep_releases. "
                "Nothing was changed"
            )

    def remove_release(self, release: str) -> None:
        """Take a release off the disk: first out of sight, so that a half-removed one is none."""
        for log in self.logs.glob(f"{release}.log*"):
            log.unlink()
        gone = self.path(f".{release}")
        remove_trees(gone)
        with suppress(FileNotFoundError):
            self.path(release).rename(gone)
        remove_trees(gone)

    def prune(self, keep: int, stay: set[str | None]) -> None:
        """Take releases off the disk with all that only they have.

        :param keep: how many of those that were live last are left. ``stay``: further ones that are.
        """
        journal, live = self.journal(), self.live()
        stay = {live, self.target("previous"), *stay}
        ids = {release_id(live or "")}
        for release in journal.newest_first():
            if len(ids) < keep and release in self.on_disk() and release_id(release) not in ids:
                ids.add(release_id(release))
                stay.add(release)
        for release in self.on_disk():
            if release not in stay:
                self.remove_release(release)
        left = set(map(release_id, self.on_disk()))
        if journal.hooks.keys() - left:
            journal.hooks = {id: done for id, done in journal.hooks.items() if id in left}
            journal.save()
        self.prune_environments()
        self.prune_secrets()

    def prune_environments(self) -> None:
        """Remove environments that nothing on disk uses."""
        used = {Path(os.readlink(self.path(release) / "venv")).name for release in self.on_disk()}
        used |= {self.target("router")}
        remove_trees(*(environment for environment in self.venvs.glob("*") if environment.name not in used))
        wheels.keep({sha256 for venvs in self.home.parent.glob("*/venvs") for sha256 in used_wheels(venvs)}, self.pool)

    def edited(self, release: str) -> list[str]:
        """The files of a release that are not as they were written, in words."""
        written = read_json(self.path(release) / "manifest.json") or {}
        there = _manifest(self.path(release))
        there.pop("manifest.json", None)
        words = {name: "edited" for name in written if written[name] != there.get(name)}
        words |= {name: "removed" for name in written.keys() - there.keys()}
        words |= {name: "added" for name in there.keys() - written.keys()}
        if (link := self.target(f"releases/{release}/secrets")) and not (self.home / "secrets" / link).is_dir():
            words["secrets"] = "removed"
        return [f"{self.path(release) / name} was {word}" for name, word in sorted(words.items())]


def _generation(release: str) -> int:
    return int(release.partition(".")[2] or 0)


def _link_tree(source: Path, target: Path) -> None:
    """Copy a folder, its files as further names of the same ones: they are never edited."""
    shutil.copytree(source, target, copy_function=os.link, symlinks=True, dirs_exist_ok=True)


def _without_bytecode(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name.split("/") else member


def _size(archive: Path) -> tuple[int, int]:
    """Bytes and files of a tar."""
    with tarfile.open(archive) as tar:
        sizes = [member.size for member in tar]
    return sum(sizes), len(sizes)


def _manifest(release: Path) -> dict[str, str]:
    """The sha256 of each file of a release that is never to change, by path; not of what the app's user may write."""
    found = {}
    for folder, folders, names in os.walk(release):
        folders[:] = sorted(set(folders) - ({"__pycache__"} | (OF_ITS_HOST if folder == str(release) else set())))
        for path in (Path(folder, name) for name in names):
            if stat.S_ISREG(path.lstat().st_mode):
                found[str(path.relative_to(release))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _write_rendered(path: Path, content: bytes, gid: int) -> None:
    """Write a file from a template, which may hold options that no other app is to read."""
    write_file(path, content, 0o750 if content.startswith(b"#!") else 0o640, 0, gid)


def _write_variables(folder: Path, variables: dict[str, str], gid: int) -> None:
    """Write an envdir, https://cr.yp.to/daemontools/envdir.html.

    The line's end is not part of the value, and a file with nothing else is the empty value.
    """
    for name, value in variables.items():
        write_file(folder / name, f"{value}\n".encode(), 0o640, 0, gid)


def _read_variables(folder: Path) -> dict[str, str]:
    return {path.name: path.read_bytes()[:-1].decode() for path in folder.iterdir()}


def _read_files(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _make_folder(path: Path, gid: int) -> None:
    """A folder for root and a group."""
    path.mkdir(exist_ok=True)
    os.chown(path, 0, gid)
    path.chmod(0o750)


def _link(path: Path, root: Path, target: str) -> None:
    """Make a link below ``root`` to what is ``target`` as seen from there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("../" * len(path.parent.relative_to(root).parts) + target)
