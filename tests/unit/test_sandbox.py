"""Untrusted code runs as another user, and leaves plain files or nothing."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from ansible.module_utils.flaskfleet import sandbox
from ansible.module_utils.flaskfleet.files import Busy, lock
from ansible.module_utils.flaskfleet.sandbox import CommandFailed, Sandbox
from sandboxes import BECOME, END, OWNER


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with sandbox.sandbox("build", 0) as box:
        yield box


@pytest.fixture
def sh(box: Sandbox) -> Callable[[str], str]:
    """A function that runs a shell's script in the sandbox."""
    return lambda script: box.run(["sh", "-c", script])


# users


def test_a_command_runs_as_the_user_without_new_privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sandbox, "_setpriv", BECOME)
    assert Sandbox("_flaskfleet_build", Path("/box"))._setpriv() == [
        "setpriv", "--reuid=_flaskfleet_build", "--regid=_flaskfleet_build", "--clear-groups", "--no-new-privs",
    ]  # fmt: skip


def test_a_set_user_id_program_gives_no_privileges(sh: Callable[[str], str]) -> None:
    assert "NoNewPrivs:\t1\n" in sh("cat /proc/self/status")


@pytest.mark.parametrize("user", ["root", "blog", OWNER])
def test_no_other_users_processes_are_killed(user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(sandbox, "_run", asked.append)
    with pytest.raises(CommandFailed, match=f"^{user} is no user of a sandbox"):
        END(Sandbox(user, Path("/box")))
    END(Sandbox("_flaskfleet_build", Path("/box")))
    as_user = ["setpriv", "--no-new-privs", "sh", "-c", "kill -KILL -1; :"]
    assert asked == [["timeout", "--signal=KILL", "5", *as_user]]


@pytest.mark.parametrize(("stopped", "tries"), [(2, 3), (99, sandbox.KILL_TRIES)])
def test_a_kill_that_the_user_stops_is_tried_again(stopped: int, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def run(argv: object) -> None:
        asked.append(argv)
        if len(asked) <= stopped:
            raise CommandFailed("Killed")

    monkeypatch.setattr(sandbox, "_run", run)
    with pytest.raises(CommandFailed) if stopped >= sandbox.KILL_TRIES else nullcontext():
        END(Sandbox("_flaskfleet_build", Path("/box")))
    assert len(asked) == tries


def test_processes_are_killed_before_something_is_taken_and_before_and_after_all(
    ended: list[str], tmp_path: Path
) -> None:
    with sandbox.sandbox("build", 0) as box:
        assert len(ended) == 1
        (box.work / "out").mkdir()
        box.take(box.work / "out", tmp_path / "out")
        assert len(ended) == 2
    assert ended == [OWNER] * 3


def test_a_command_has_its_own_home_and_none_of_the_hosts_settings(
    box: Sandbox, sh: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_INDEX_URL", "PYTHONPATH", "SECRET"):
        monkeypatch.setenv(name, "elsewhere")
    seen = dict(line.split("=", 1) for line in sh("env").splitlines())
    assert "elsewhere" not in seen.values()
    assert (seen["HOME"], seen["TMPDIR"], seen["PIP_CONFIG_FILE"]) == (
        str(box.work), f"{box.work}/tmp", "/dev/null",
    )  # fmt: skip
    assert sh("pwd").strip() == str(box.work)


# output


def test_the_message_of_a_failed_command_has_its_output(sh: Callable[[str], str]) -> None:
    with pytest.raises(CommandFailed, match=r"(?s)^sh -c .*\nout\nerr$"):
        sh("echo out; echo err >&2; exit 3")


def test_a_process_that_is_left_behind_is_not_waited_for(sh: Callable[[str], str]) -> None:
    os.kill(int(sh("sleep 600 & echo $!")), signal.SIGKILL)


def test_a_command_has_a_time_limit(box: Sandbox) -> None:
    with pytest.raises(CommandFailed, match=r"begun\nit did not end within 0.5 seconds"):
        box.run(["sh", "-c", "echo begun; exec sleep 60"], within=0.5)


def test_the_end_of_a_long_output_is_kept(sh: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "OUTPUT_BYTES", 5)
    assert sh("seq 1 100000; echo end") == "\nend\n"


# cleaning up


def test_a_sandbox_leaves_nothing_not_even_after_a_killed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    (sandbox.SANDBOXES / "build/work/old").mkdir(parents=True)
    with sandbox.sandbox("build", 0) as box:
        assert [path.name for path in box.work.iterdir()] == ["tmp"]
        assert list(box.given.iterdir()) == []
    assert not (sandbox.SANDBOXES / "build").exists()


def test_folders_are_closed_to_others(box: Sandbox) -> None:
    modes = [oct(path.stat().st_mode & 0o7777) for path in (box.work.parent, box.given, box.work)]
    assert modes == ["0o750", "0o755", "0o700"]


def test_one_process_at_a_time_uses_a_sandbox() -> None:
    with lock(sandbox.SANDBOXES / "build.lock"), pytest.raises(Busy), sandbox.sandbox("build", 0):
        pass


# taking files


@pytest.fixture
def take(box: Sandbox, sh: Callable[[str], str], tmp_path: Path) -> Callable[[str], Path]:
    """A function that takes what a script leaves in its working directory, ``out``."""

    def take(script: str) -> Path:
        sh(f"umask 000; mkdir out; cd out; {script}")
        box.take(box.work / "out", tmp_path / "taken")
        return tmp_path / "taken"

    return take


def test_files_become_readable_and_nothing_more(take: Callable[[str], Path]) -> None:
    taken = take("mkdir lib; echo one > lib/one; echo two > two; chmod 6777 two; chmod 600 lib/one; chmod 2777 lib")
    assert {path.name: oct(path.stat().st_mode & 0o7777) for path in taken.rglob("*")} == {
        "lib": "0o755", "one": "0o644", "two": "0o755",
    }  # fmt: skip
    assert (taken / "lib/one").read_text() == "one\n"


def test_an_environments_links_are_accepted(take: Callable[[str], Path]) -> None:
    taken = take("mkdir bin lib; ln -s /usr/bin/python3 bin/python; ln -s lib lib64")
    assert os.readlink(taken / "bin/python") == "/usr/bin/python3"


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("ln -s /etc/shadow x.whl", "x.whl"),
        ("ln -s ../../given/netrc x.whl", "x.whl"),
        ("mkdir -p lib/bin; ln -s / lib/bin/x", "lib/bin/x"),
        ("mkdir -p bin/x; ln -s / bin/x/y", "bin/x/y"),
        ("mkfifo x.whl", "x.whl"),
        ("echo > y; ln y x.whl", "[xy](.whl)?"),
    ],
)
def test_other_files_are_refused(take: Callable[[str], Path], tmp_path: Path, script: str, name: str) -> None:
    with pytest.raises(CommandFailed, match=f"root does not take .*/out/{name}: it is no plain file"):
        take(script)
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("name", ["lib64\nbin", "bin\n"])
def test_no_name_hides_a_link(box: Sandbox, tmp_path: Path, name: str) -> None:
    (box.work / "out" / name).mkdir(parents=True)
    (box.work / "out" / name / "x").symlink_to("/etc/shadow")
    with pytest.raises(CommandFailed, match="root does not take"):
        box.take(box.work / "out", tmp_path / "taken")


def test_the_first_refused_file_is_named(take: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be any number, with long names: root does not list them all."""
    said, run = [], sandbox._run
    monkeypatch.setattr(sandbox, "_run", lambda *how: (said.append(run(*how)), said[-1])[1])
    with pytest.raises(CommandFailed, match="root does not take"):
        take("for number in $(seq 200); do ln -s / $number; done")
    assert max(map(len, said)) < 100


def test_a_file_of_another_user_is_refused(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (box.work / "out").mkdir()
    box.user = next(name for name in ("root", "nobody") if name != OWNER)
    with pytest.raises(CommandFailed, match=f"{re.escape(str(box.work))}/out: it is no plain file of {box.user}"):
        box.take(box.work / "out", tmp_path / "taken")


def test_files_of_a_build_are_removed_at_any_depth() -> None:
    """Python's own removal of a tree calls itself for each folder, and ends with a RecursionError."""
    with sandbox.sandbox("build", 0) as box:
        there = os.open(box.work, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("deep", dir_fd=there)
            below = os.open("deep", os.O_RDONLY, dir_fd=there)
            os.close(there)
            there = below
        os.close(there)
        work = box.work
    assert not work.exists()
