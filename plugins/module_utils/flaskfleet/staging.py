"""Staging a release: it is complete at its path or not there, and never edited. Staging starts nothing."""

from __future__ import annotations

import compileall
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import manifest, pruning, shared_folders
from .environments import RECORD, Environment, build_environment
from .files import chown_tree, fsync_path, fsync_tree, group_id, remove_trees, unpack, user_id, write_file, write_json
from .journal import release_id
from .manifest import HOST_SPECIFIC
from .paths import WEB_GROUP, AppPaths, ReleaseFailed, generation
from .static_links import link_tree

ENVIRONMENT_BYTES, ENVIRONMENT_FILES = 150_000_000, 5_000  # room for a new environment


@dataclass(frozen=True)
class Release:
    """The inputs of a release. ``files`` are the rendered ones by name; ``record`` becomes release.json.

    ``own_files`` are the files that the inventory has in the app's ``files``: content by path below the source.
    ``secret_files`` are the paths of files whose contents are in a set of secrets.
    """

    id: str
    files: dict[str, str]
    env: dict[str, str]
    static: dict[str, str]  # folders by URL prefix; the archive has their files unless the source is a package
    record: dict[str, Any]  # app, release, source, host, inputs
    own_files: dict[str, str] = field(default_factory=dict)
    secret_files: tuple[str, ...] = ()


def prepare(paths: AppPaths) -> None:
    """Create the app's folders."""
    uid, gid = user_id(paths.name), group_id(paths.name)
    for path, owner, group, mode in (
        (paths.home, 0, 0, 0o755),
        (paths.home / "releases", 0, 0, 0o755),
        (paths.venvs, 0, gid, 0o750),
        (paths.home / "secrets", 0, gid, 0o750),
        (paths.home / "shared", uid, gid, 0o750),
        (paths.logs, 0, gid, 0o750),
        (paths.trial, 0, 0, 0o755),
    ):
        path.mkdir(parents=True, exist_ok=True)
        if path.name == "shared" and path.stat().st_uid != uid:
            chown_tree(path, uid, gid)  # the app was removed and came back, with another user id
        os.chown(path, owner, group)
        path.chmod(mode)


def stage(paths: AppPaths, release: Release, archive: Path, environment: Environment) -> None:
    """Stage a release.

    :raises ReleaseFailed: there is no room for it; nothing is left of it.
    """
    with _unpacked_release(paths, release.id, archive, environment) as aside:
        if "package" in release.record["source"]:
            for prefix, folder in release.static.items():
                link_tree(_package_folder(paths, environment.key, folder), aside / f"static{prefix}")
        gid = group_id(paths.name)
        shared_folders.link(aside, release.record["inputs"]["entry"], release.own_files, release.secret_files)
        _write_variables(aside / "env", release.env, gid)
        for name, content in release.files.items():
            _write_rendered(aside / name, content.encode(), gid)
        write_json(
            aside / "release.json", release.record, 0o640, 0, gid
        )  # it has variables that no other user may read


def pack(paths: AppPaths, release: str, archive: Path) -> None:
    """Pack a release for hosts that lack it. They make its environment themselves, from its record."""
    path = paths.path(release)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for member in sorted(path.iterdir()):
            if member.name not in HOST_SPECIFIC:
                tar.add(member, member.name, filter=_without_bytecode)
        tar.add(path / "venv" / RECORD, RECORD)


def stage_packed(paths: AppPaths, release: str, archive: Path, environment: Environment) -> None:
    """Stage a release that another host has packed.

    :param environment: the release's environment, for this host's platform.
    :raises ReleaseFailed: there is no room for it; nothing is left of it.
    """
    with _unpacked_release(paths, release, archive, environment) as aside:
        (aside / RECORD).unlink()
        for path in (*aside.iterdir(), *(aside / "env").iterdir()):
            if path.is_file() and not path.is_symlink():
                _write_rendered(path, path.read_bytes(), group_id(paths.name))


@contextmanager
def _unpacked_release(paths: AppPaths, release: str, archive: Path, environment: Environment) -> Iterator[Path]:
    """A folder with an archive's files and an environment; it becomes the release when the block ends."""
    _check_room(paths, release, archive, environment)
    try:
        with _new_release(paths, release) as aside:
            venv = build_environment(paths.venvs, environment, paths.pool)
            unpack(archive, aside)
            compileall.compile_dir(aside / "src", quiet=2, stripdir=str(aside), prependdir=str(paths.path(release)))
            (aside / "venv").symlink_to(f"../../venvs/{venv}")
            yield aside
    except BaseException:
        pruning.prune_environments(paths)
        raise


def _package_folder(paths: AppPaths, environment: str, folder: str) -> Path:
    for path in (paths.venvs / environment).glob(f"lib/python*/site-packages/{folder}"):
        return path
    raise ReleaseFailed(f"{paths.name}: static: the package has no folder {folder}; name one below its site-packages")


def copy(paths: AppPaths, release: str) -> str:
    """Copy a release under a new name, so that the copy can run beside it; the name.

    Files without the name in them are hard links.
    """
    same = [name for name in paths.on_disk() if release_id(name) == release_id(release)]
    name = f"{release_id(release)}.{max(map(generation, same)) + 1}"
    gid = group_id(paths.name)
    with _new_release(paths, name) as aside:
        for folder in ("src", "static", "env", "files", "seed"):
            if (paths.path(release) / folder).exists():
                link_tree(paths.path(release) / folder, aside / folder)
        for link in ("venv", "secrets"):
            if (paths.path(release) / link).is_symlink():  # a release of an earlier version has no set of secrets
                (aside / link).symlink_to(os.readlink(paths.path(release) / link))
        write_json(aside / "release.json", {**paths.record(release), "release": name}, 0o640, 0, gid)
        for path in paths.path(release).iterdir():
            if path.is_file() and path.suffix != ".json":
                content = path.read_bytes().replace(release.encode(), name.encode())
                _write_rendered(aside / path.name, content, gid)
        _write_variables(aside / "env", {**_read_variables(aside / "env"), "FLASKFLEET_RELEASE": name}, gid)
    return name


@contextmanager
def _new_release(paths: AppPaths, release: str) -> Iterator[Path]:
    """A folder that becomes the release when the block ends; it is removed if the block fails."""
    final = paths.path(release)
    aside = final.with_name(f".{release}")
    remove_trees(aside)
    gid = group_id(paths.name)
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
        write_json(aside / "manifest.json", manifest.hashes(aside), 0o600)
        fsync_tree(aside)
        # Last, because from now on the app's user may write there. The sticky bit keeps it from moving or removing
        # the socket that serve makes. A release of an earlier version has no serve: it makes its socket itself.
        serves = (aside / "serve").exists()
        os.chown(aside / "run", 0 if serves else user_id(paths.name), gid if serves else group_id(WEB_GROUP))
        (aside / "run").chmod(0o1771 if serves else 0o2750)
        fsync_path(aside / "run")
        aside.rename(final)
    finally:
        remove_trees(aside)


def _check_room(paths: AppPaths, release: str, archive: Path, environment: Environment) -> None:
    size, files = (2 * number for number in _tar_size(archive))  # twice, for the bytecode
    if not (paths.venvs / environment.key).exists():
        size, files = size + ENVIRONMENT_BYTES, files + ENVIRONMENT_FILES
    disk = os.statvfs(paths.home)
    free, inodes = disk.f_bavail * disk.f_frsize, disk.f_favail
    if free < size or (disk.f_files and inodes < files):  # f_files is 0 if the file system does not count inodes
        raise ReleaseFailed(
            f"{paths.name}: {paths.home} has {free / 1e6:.0f} MB and {inodes} inodes free, and {release} needs "
            f"about {size / 1e6:.0f} MB and {files}. Nothing was changed; make room: lower flask_app_keep_releases and "
            "run playbooks/restart.yml, which removes the oldest releases, or see docs/state-on-hosts.md"
        )


def _without_bytecode(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name.split("/") else member


def _tar_size(archive: Path) -> tuple[int, int]:
    """How many bytes and files a tar has."""
    with tarfile.open(archive) as tar:
        sizes = [member.size for member in tar]
    return sum(sizes), len(sizes)


def _write_rendered(path: Path, content: bytes, gid: int) -> None:
    """Write a rendered file, readable for root and the app only."""
    write_file(path, content, 0o750 if content.startswith(b"#!") else 0o640, 0, gid)


def _write_variables(folder: Path, variables: dict[str, str], gid: int) -> None:
    """Write an envdir, https://cr.yp.to/daemontools/envdir.html.

    The line break at the end is not part of the value.
    """
    for name, value in variables.items():
        write_file(folder / name, f"{value}\n".encode(), 0o640, 0, gid)


def _read_variables(folder: Path) -> dict[str, str]:
    return {path.name: path.read_bytes()[:-1].decode() for path in folder.iterdir()}
