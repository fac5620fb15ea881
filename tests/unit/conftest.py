"""A temporary directory is the host, and the current user owns its files."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.flaskfleet import (
    app_programs,
    environments,
    hooks,
    presence,
    shared_folders,
    staging,
    switching,
    users,
    warm_up,
)
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.environments import Environment
from examples import APP_ID, ME, NO_SECRETS, WEB_ID, make_environment, make_release, pack_source
from sandboxes import OWNER, stay_who_we_are
from supervisor import Supervisor

GROUP = grp.getgrgid(os.getgid()).gr_name


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# A container on a network without IPv6 has no such address.
needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="the loopback has no IPv6 address")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't fsync, because no test cuts the power."""
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def lowered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The process groups that got a lower priority, with their users. Real ones are not touched."""
    groups: list[tuple[int, int]] = []
    monkeypatch.setattr(app_programs, "lower_priority", lambda pids, uid: groups.extend((pid, uid) for pid in pids))
    return groups


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The users of sandboxes whose processes would be killed. Here that is the current user."""
    return stay_who_we_are(monkeypatch, tmp_path_factory.mktemp("sandboxes"))


@pytest.fixture(autouse=True)
def as_me(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, list[str]]]:
    """The commands with their users. The current user owns the app's folders and runs the commands."""
    told: list[tuple[int, int, list[str]]] = []
    real = users.run_as

    def run_as(uid: int, gid: int, argv: Sequence[str], *how: int, **further: Any) -> tuple[int, str]:
        told.append((uid, gid, list(argv)))
        further["within"] = None  # a wait with an end would look again and again, and the clock of tests go by
        return real(os.getuid(), os.getgid(), argv, *how, **further)

    monkeypatch.setattr(users, "setpriv", lambda *_: [])
    for module in (users, shared_folders, warm_up, presence):
        monkeypatch.setattr(module, "run_as", run_as)
    return told


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Restore the umask after each test."""
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
    """The user and group that own files in a test."""
    return {"owner": OWNER, "group": GROUP}


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[int, str | bytes | None]]]:
    """A function that returns the state of all files below a folder."""

    def look(folder: Path) -> dict[str, tuple[int, str | bytes | None]]:
        return {
            str(path.relative_to(folder)): (
                path.lstat().st_mode,
                os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None,
            )
            for path in folder.rglob("*")
        }

    return look


class Clock:
    """A clock that advances only by sleeping. ``at`` has functions to call, by seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.at: dict[float, Callable[[], object]] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for due in [due for due in self.at if 1000 + due <= self.now]:
            self.at.pop(due)()

    @property
    def passed(self) -> float:
        return self.now - 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace sleeping by a clock that advances at once."""
    clock = Clock()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture(autouse=True)
def ended_users(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The users whose processes would be killed. None are."""
    uids: list[int] = []
    monkeypatch.setattr(presence, "end_processes", uids.append)
    return uids


@pytest.fixture
def host_users(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The host's further users with their homes; useradd(8) and userdel(8) change these alone."""
    there: dict[str, str] = {}

    def change(*argv: str) -> None:
        if argv[0] == "useradd":
            there[argv[-1]] = argv[argv.index("--home-dir") + 1]
        else:
            del there[argv[-1]]

    monkeypatch.setattr(users, "_run", change)
    real = pwd.getpwnam

    def find(name: str) -> object:
        if name == OWNER:
            return real(name)
        return SimpleNamespace(pw_uid=APP_ID, pw_gid=APP_ID, pw_dir=there[name])

    monkeypatch.setattr(pwd, "getpwnam", find)
    return there


@pytest.fixture
def owners(host_users: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """The owners that paths would get, by path. Nothing is changed, because only root may do that."""
    asked: dict[str, tuple[int, int]] = {}
    real = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        values, further = real(path, **options).__reduce__()[1]
        return os.stat_result((*values[:4], *asked.get(str(path), values[4:6]), *values[6:]), further)

    def chown(path: str | Path, uid: int, gid: int) -> None:
        asked[str(path)] = (uid, gid)

    def fchown(descriptor: int, uid: int, gid: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        chown(path.with_name(path.name.removeprefix(".").removesuffix(".new")), uid, gid)

    monkeypatch.setattr(Path, "stat", stat)

    def chown_tree(folder: Path, uid: int, gid: int) -> None:
        for path in [*folder.rglob("*"), folder]:
            os.lchown(path, uid, gid)

    for module in (staging, shared_folders, presence):
        monkeypatch.setattr(module, "chown_tree", chown_tree)
    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "lchown", chown)
    monkeypatch.setattr(os, "fchown", fchown)
    group, groups = grp.getgrnam, {"blog": APP_ID, "www-data": WEB_ID}
    monkeypatch.setattr(
        grp, "getgrnam", lambda name: SimpleNamespace(gr_gid=groups[name]) if name in groups else group(name)
    )
    return asked


@pytest.fixture
def set_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that sets the time for records."""

    def set_time(time: str) -> None:
        for module in (app_programs, hooks, presence, switching):
            monkeypatch.setattr(module, "now", lambda: time)

    return set_time


@pytest.fixture
def app(host: Path, owners: dict[str, tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> App:
    """The app ``blog`` on a host that has only its journal and its user. Its environments are empty folders."""
    monkeypatch.setattr(environments, "_build", lambda aside, *inputs: aside.mkdir(parents=True))
    app = App("blog", None, host)
    app.supervisor.rpc = Supervisor(app.paths.trial, app.paths.conf_d)
    app.paths.conf_d.mkdir(parents=True)
    presence.create(app)
    return app


@pytest.fixture
def environment(app: App) -> Environment:
    """The environment of the app's releases; the host has its wheels."""
    return make_environment(app.paths.pool, "uwsgi", "flask")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_source(tmp_path_factory.mktemp("source"))


@pytest.fixture
def stage(app: App, archive: Path, environment: Environment) -> Callable[..., Path]:
    """A function that stages a release of the app with some options changed, and returns its folder."""

    def stage(id: str, **changed: object) -> Path:
        presence.create(app)
        staging.prepare(app.paths)
        staging.stage(app.paths, make_release(id, **changed), archive, environment)
        warm_up.provide_files(app, id, NO_SECRETS)
        return app.paths.path(id)

    return stage


@pytest.fixture
def switch(app: App, stage: Callable[..., Path]) -> Callable[..., App]:
    """A function that switches to releases, one after the other; none is retired."""

    def switch(*ids: str, what: str = "deploy", **changed: object) -> App:
        for id in ids:
            if not app.paths.path(id).exists():
                stage(id, **changed)
            if not app.supervisor.is_running(app.programs.name(id)):
                shutil.copy(app.paths.path(id) / "supervisor.conf", app.paths.trial / f"{app.programs.name(id)}.conf")
                app.supervisor.start(app.programs.name(id))
            switching.switch(app, id, ME, what)
        return app

    return switch
