"""An app's user, and what it runs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.module_utils.flaskfleet import users
from ansible.module_utils.flaskfleet.users import (
    UserFailed,
    create_user,
    end_processes,
    processes,
    remove_user,
    run_as,
)
from conftest import Clock

UID = 998
KILL_ALL = users._kill_all


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with processes of some users, us among them."""
    (tmp_path / "self/ns").mkdir(parents=True)
    for kind in ("pid", "user"):
        (tmp_path / "self/ns" / kind).symlink_to(f"{kind}:[1]")
    return tmp_path


def run(
    proc: Path, pid: int, uid: int = UID, state: str = "S", name: str = "sleep", pids: int = 1, users: int = 1
) -> None:
    """Add a process."""
    (proc / f"{pid}/ns").mkdir(parents=True)
    (proc / f"{pid}/ns/pid").symlink_to(f"pid:[{pids}]")
    (proc / f"{pid}/ns/user").symlink_to(f"user:[{users}]")
    status = f"Name:\t{name}\nState:\t{state} (x)\nPid:\t{pid}\nUid:\t{uid}\t0\t0\t0\nGid:\t{UID}\t0\t0\t0\n"
    (proc / f"{pid}/status").write_text(status, errors="surrogateescape")


def test_the_processes_of_a_user_are_found(proc: Path) -> None:
    run(proc, 11)
    run(proc, 12, uid=9)
    run(proc, 13, uid=9981)
    run(proc, 14, state="Z")
    run(proc, 15, name="\udcff Uid:\t9")
    (proc / "16").mkdir()
    assert sorted(processes(UID, proc)) == [11, 15]


@pytest.mark.parametrize(
    ("namespaces", "found"),
    [({"pids": 2}, []), ({"pids": 2, "users": 2}, [11]), ({"users": 2}, [11])],
    ids=["a container", "a container of the user's own", "a sandbox of the user's own"],
)
def test_processes_of_containers_are_not_the_users(proc: Path, namespaces: dict[str, int], found: list[int]) -> None:
    run(proc, 11, **namespaces)
    assert processes(UID, proc) == found


def test_a_process_whose_namespaces_are_unreadable_is_the_users(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container without CAP_SYS_PTRACE."""

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", path)

    run(proc, 11, pids=2)
    monkeypatch.setattr(os, "readlink", refuse)
    assert processes(UID, proc) == [11]


ME = (os.getuid(), os.getgid())


@pytest.fixture
def as_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may become another user."""
    monkeypatch.setattr(users, "setpriv", lambda *_: [])


@pytest.mark.usefixtures("as_ourselves")
@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("echo one; exit 3", 3, "one"),
        ("echo one; kill -STOP $$", -signal.SIGKILL, "one\n\nit did not end within 0.5 seconds"),
        ("echo one; sleep 60 & exit 0", 0, "one"),
    ],
    ids=["its end", "stopped by its user", "output that is held open"],
)
def test_a_command_of_a_user_has_a_time_limit(script: str, status: int, said: str) -> None:
    assert run_as(*ME, ["sh", "-c", script], within=0.5) == (status, said)


@pytest.mark.usefixtures("as_ourselves")
def test_a_child_that_the_user_stops_before_its_exec_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Popen with ``user`` would wait for ever, because the user may stop the child."""
    asked: list[dict[str, object]] = []
    real = subprocess.Popen

    def popen(argv: list[str], **options: object) -> subprocess.Popen[bytes]:
        asked.append(options)
        return real(argv, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    assert run_as(*ME, ["id", "-u"]) == (0, str(os.getuid()))
    assert not asked[0].keys() & {"user", "group", "extra_groups", "preexec_fn"}


@pytest.mark.usefixtures("as_ourselves")
def test_the_beginning_and_the_end_of_a_commands_output_are_kept() -> None:
    status, said = run_as(*ME, ["sh", "-c", "echo first; yes | head -c 3000000; echo last"])
    assert (status, said[:5], said[-4:]) == (0, "first", "last")
    assert len(said) < 200_000


def test_our_own_processes_are_found() -> None:
    assert os.getpid() in processes(os.getuid())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The users whose processes would be killed at once. None are."""
    uids: list[int] = []
    monkeypatch.setattr(users, "_kill_all", uids.append)
    return uids


@pytest.mark.parametrize(("namespaces", "uids"), [({}, [UID]), ({"pids": 2}, [])], ids=["host", "also a container"])
def test_a_process_that_forks_all_the_time_is_killed(
    proc: Path, at_once: list[int], namespaces: dict[str, int], uids: list[int]
) -> None:
    """It is never the one that was just seen."""
    run(proc, 11, state="Z")
    if namespaces:
        run(proc, 12, **namespaces)
    end_processes(UID, proc=proc)
    assert at_once == uids


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_no_other_users_processes_are_killed(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something is killed"))
    with pytest.raises(UserFailed, match="is no app's"):
        KILL_ALL(uid)


def test_all_processes_of_a_user_are_killed(proc: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those too that it starts meanwhile."""
    killed = []

    def kill(pid: int, number: int) -> None:
        killed.append((pid, number))
        (proc / f"{pid}/status").unlink()
        if pid < 13:
            run(proc, pid + 1)

    monkeypatch.setattr(os, "kill", kill)
    run(proc, 11)
    run(proc, 99, uid=9)
    end_processes(UID, proc=proc)
    assert killed == [(11, signal.SIGKILL), (12, signal.SIGKILL), (13, signal.SIGKILL)]


def test_processes_that_do_not_end_are_reported(proc: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: None)
    run(proc, 11, state="D")
    with pytest.raises(UserFailed, match=r"processes \[11\] of the user 998 do not end"):
        end_processes(UID, proc=proc)


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda: create_user("blog", "/srv/blog"), "useradd blog: no"), (lambda: remove_user("blog"), "userdel blog: no")],
)
def test_a_failed_useradd_is_reported(monkeypatch: pytest.MonkeyPatch, change, words: str) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr="no\n"))
    with pytest.raises(UserFailed, match=words):
        change()


def test_a_user_has_no_shell_and_its_folder_as_home(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(users, "_run", lambda *argv: asked.append(" ".join(argv)))
    create_user("blog", "/srv/blog")
    assert asked == [
        "useradd --system --user-group --no-create-home --home-dir /srv/blog --shell /usr/sbin/nologin blog"
    ]
