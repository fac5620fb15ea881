"""A commit is on the controller, with its submodules, or the message says why it is not."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from interruption import interruptions
from origins import checkouts, commit, git, https_server, make_repository, names, of, own_cache, publish
from plugin_utils import git as git_module
from plugin_utils import sources
from plugin_utils.git import REPOSITORY_VARIABLES, Git
from plugin_utils.sources import SourceError, fetch, fetched

GIT = shutil.which("git")
FORK = multiprocessing.get_context("fork")
DAY = 86400


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_cache(tmp_path, monkeypatch)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from https_server(tmp_path, monkeypatch)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "origin", app_py="1")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A function that puts a shell script before all other programs on PATH."""

    def put(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return put


# which commit


def test_a_branch(origin: Path) -> None:
    found = fetch(of(origin))
    head = git(origin, "rev-parse", "HEAD")
    assert found.record == {"git": str(origin), "version": "main", "commit": head}
    assert (names(found.folder), found.folder.name) == (["app.py"], head)
    assert fetched(of(origin)) == found


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/.git"])
def test_a_local_address(origin: Path, form: str) -> None:
    assert names(fetch(of(form.format(origin))).folder) == ["app.py"]


def test_a_branch_that_moves_is_followed_by_the_next_fetch_alone(origin: Path) -> None:
    first = fetch(of(origin))
    head = commit(origin, app_py="2")
    assert fetched(of(origin)) == first
    second = fetch(of(origin))
    assert (second.record["commit"], (second.folder / "app.py").read_text()) == (head, "2")
    assert fetched(of(origin)) == second
    assert (first.folder / "app.py").read_text() == "1"


def test_a_fetch_of_another_run_does_not_change_this_runs_source(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = fetch(of(origin))
    commit(origin, app_py="2")
    with monkeypatch.context() as other:
        other.setattr(sources, "_run_id", lambda: 1)
        assert fetch(of(origin)) != mine
    assert fetched(of(origin)) == mine


def test_the_tasks_of_a_run_are_one_run(origin: Path) -> None:
    """They are forks of one process."""
    queue = FORK.Queue()
    for look in (fetch, fetched):
        process = FORK.Process(target=lambda look=look: queue.put(look(of(origin))))
        process.start()
        process.join()
    assert queue.get(timeout=10) == queue.get(timeout=10)


def test_a_branch_that_was_rewritten(origin: Path) -> None:
    commit(origin, app_py="2")
    fetch(of(origin))
    git(origin, "reset", "--hard", "HEAD~1")
    head = commit(origin, app_py="3")
    assert fetch(of(origin)).record["commit"] == head


def test_a_branch_whose_name_has_become_a_folder(origin: Path) -> None:
    git(origin, "branch", "fix")
    fetch(of(origin, "fix"))
    git(origin, "branch", "-d", "fix")
    git(origin, "branch", "fix/1")
    assert fetch(of(origin, "fix/1")).record["version"] == "fix/1"
    with pytest.raises(SourceError, match="has no branch, tag or commit 'fix'"):
        fetch(of(origin, "fix"))


@pytest.mark.parametrize("options", [["-m", "annotated"], []], ids=["annotated", "light"])
def test_a_tag_is_its_commit_and_may_move(origin: Path, options: list[str]) -> None:
    for number in "12":
        head = commit(origin, app_py=number)
        git(origin, "tag", "--force", *options, "v1")
        assert fetch(of(origin, "v1")).record["commit"] == head


def test_a_branch_goes_before_a_tag_of_its_name(origin: Path) -> None:
    git(origin, "tag", "main")
    head = commit(origin, app_py="2")
    assert fetch(of(origin)).record["commit"] == head


@pytest.mark.parametrize("digits", [7, 40])
def test_a_commit_stays_when_the_branch_moves(origin: Path, digits: int) -> None:
    first = git(origin, "rev-parse", "HEAD")
    commit(origin, app_py="2")
    found = fetch(of(origin, first[:digits]))
    assert (found.record["commit"], (found.folder / "app.py").read_text()) == (first, "1")


def test_a_commit_that_is_there_needs_no_network(
    origin: Path, program: Callable[[str, str], None], tmp_path: Path
) -> None:
    source = of(origin, git(origin, "rev-parse", "HEAD"))
    first = fetch(source)
    origin.rename(tmp_path / "gone")
    program("git", "exit 1")
    assert fetch(source) == first


def test_a_commit_that_came_with_another_needs_no_network(origin: Path, tmp_path: Path) -> None:
    first = git(origin, "rev-parse", "HEAD")
    commit(origin, app_py="2")
    fetch(of(origin))
    origin.rename(tmp_path / "gone")
    assert (fetch(of(origin, first)).folder / "app.py").read_text() == "1"


@pytest.mark.parametrize("version", ["maine", "0" * 40, "abcdef1", "HEAD", "heads/main/x"])
def test_an_unknown_version(origin: Path, version: str) -> None:
    with pytest.raises(SourceError, match=f"^'{origin}' has no branch, tag or commit '{version}'; push it, or see"):
        fetch(of(origin, version))


def test_an_address_without_a_repository(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=f"^'{tmp_path}/x' can't be fetched, git says: .*does not .*repository.*must be"
    ):
        fetch(of(tmp_path / "x"))


def test_a_source_that_was_not_fetched_is_refused(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=f"^'{origin}' was not fetched: run it through the playbooks"):
        fetched(of(origin))
    fetch(of(origin))
    for other in (of(origin, "other"), of(f"file://{origin}")):
        with pytest.raises(SourceError, match="was not fetched"):
            fetched(other)
    monkeypatch.setattr(sources, "_run_id", lambda: 1)
    with pytest.raises(SourceError, match="was not fetched"):
        fetched(of(origin))


@pytest.mark.parametrize("note", ["", "\0\0"])
def test_a_note_that_a_power_cut_has_emptied(origin: Path, cache: Path, note: str) -> None:
    fetch(of(origin))
    (path,) = cache.glob("sources/git/*/*.json")
    path.write_text(note)
    with pytest.raises(SourceError, match="was not fetched"):
        fetched(of(origin))
    fetch(of(origin))
    assert fetched(of(origin)).folder


# which files


def test_version_control_is_left_out_and_nothing_else(origin: Path) -> None:
    commit(origin, _gitignore="*.log\n")
    assert names(fetch(of(origin)).folder) == [".gitignore", "app.py"]


def test_submodules_and_theirs_are_part_of_it(origin: Path, tmp_path: Path) -> None:
    inner = make_repository(tmp_path / "inner", inner_txt="1")
    outer = make_repository(tmp_path / "outer", outer_txt="1")
    git(outer, "submodule", "add", "../inner", "deep")  # relative to where outer is
    commit(outer)
    git(origin, "submodule", "add", str(outer), "lib")
    commit(origin)
    commit(inner, inner_txt="2")  # it must not be used
    found = fetch(of(origin))
    assert names(found.folder) == [".gitmodules", "app.py", "lib/.gitmodules", "lib/deep/inner.txt", "lib/outer.txt"]
    assert (found.folder / "lib/deep/inner.txt").read_text() == "1"
    assert not [path for path in found.folder.rglob("*") if path.name == ".git"]


def test_a_missing_submodule_leaves_no_checkout(origin: Path, tmp_path: Path, cache: Path) -> None:
    lib = make_repository(tmp_path / "lib", lib_txt="1")
    git(origin, "submodule", "add", str(lib), "lib")
    commit(origin)
    lib.rename(tmp_path / "gone")
    with pytest.raises(SourceError, match=r"git says: .*lib.* and its submodules"):
        fetch(of(origin))
    assert checkouts(cache) == []


def test_a_remote_repository_has_no_submodule_on_this_machine(origin: Path, tmp_path: Path, web: str) -> None:
    lib = make_repository(tmp_path / "lib", secret_txt="1")
    git(origin, "submodule", "add", str(lib), "lib")
    commit(origin)
    publish(origin, tmp_path / "www" / "app.git")
    with pytest.raises(SourceError, match="transport 'file' not allowed"):
        fetch(of(f"{web}/app.git"))


def test_hooks_of_the_user_do_not_run(origin: Path, tmp_path: Path) -> None:
    hook = tmp_path / "hooks" / "post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git(tmp_path, "config", "--global", "core.hooksPath", str(hook.parent))
    fetch(of(origin))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("variable", sorted(REPOSITORY_VARIABLES))
def test_a_run_from_a_hook_of_another_repository(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "other"))
    assert names(fetch(of(origin)).folder) == ["app.py"]
    assert not (tmp_path / "other").exists()


# killed, and at once


def test_an_interrupted_fetch_leaves_no_partial_checkout(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(origin, blog_py="1")

    def run(number: int) -> None:
        monkeypatch.setattr(sources, "CACHE", tmp_path / f"cache-{number}")
        fetch(of(origin))

    for number in interruptions(run):
        for folder in checkouts(tmp_path / f"cache-{number}"):
            assert names(folder) == ["app.py", "blog.py"], f"interrupted before step {number}"
    assert names(fetched(of(origin)).folder) == ["app.py", "blog.py"]


@pytest.mark.parametrize("command", ["init", "fetch", "rev-parse", "checkout"])
def test_the_next_fetch_finishes_one_that_was_killed(
    origin: Path, cache: Path, program: Callable[[str, str], None], command: str
) -> None:
    """Killed when git is done with the command, but its caller does not know it."""
    with pytest.MonkeyPatch.context() as patch:
        path = os.environ["PATH"]
        program("git", f'{GIT} "$@"; case " $* " in *" {command} "*) kill -9 $PPID;; esac')
        killed = FORK.Process(target=fetch, args=(of(origin),))
        killed.start()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        patch.setenv("PATH", path)
        assert checkouts(cache) == []
        assert names(fetch(of(origin)).folder) == ["app.py"]


def test_lock_files_of_a_killed_git_are_removed(origin: Path, cache: Path) -> None:
    fetch(of(origin))
    (folder,) = cache.glob("sources/git/*")
    for name in ("packed-refs", "config", "HEAD", "shallow", "refs/heads/main", "refs/tags/v1"):
        (folder / "repository" / f"{name}.lock").touch()
    (folder / "aside" / "checkout").mkdir(parents=True)
    (folder / "aside" / "checkout" / "half").touch()
    head = commit(origin, app_py="2")
    git(origin, "tag", "v1")
    git(origin, "pack-refs", "--all")
    found = fetch(of(origin))
    assert (found.record["commit"], names(found.folder)) == (head, ["app.py"])
    assert not (folder / "aside").exists()


def test_many_at_once_have_the_same(origin: Path, cache: Path) -> None:
    queue = FORK.Queue()
    processes = [FORK.Process(target=lambda: queue.put(fetch(of(origin)))) for _ in range(6)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert results == [fetch(of(origin))] * 6
    assert [names(folder) for folder in checkouts(cache)] == [["app.py"]]


@pytest.mark.parametrize(("age", "expected"), [(2 * DAY, 5), (DAY // 2, 8)])
def test_the_newest_old_checkouts_are_kept_and_those_a_run_may_use(
    origin: Path, cache: Path, age: int, expected: int
) -> None:
    for number in range(7):
        found = fetch(of(origin, commit(origin, app_py=f"x{number}")))
        os.utime(found.folder, (time.time() - age - 9 + number,) * 2)
    first = fetch(of(origin, git(origin, "rev-parse", "HEAD~4")))  # used again
    last = fetch(of(origin, commit(origin, app_py="last")))
    kept = checkouts(cache)
    assert len(kept) == expected
    assert {first.folder, last.folder} <= set(kept)


def test_notes_of_old_runs_go(origin: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(of(origin))
    (note,) = cache.glob("sources/git/*/*.json")
    os.utime(note, (1, 1))
    monkeypatch.setattr(sources, "_run_id", lambda: 1)
    fetch(of(origin))
    assert not note.exists()
    assert fetched(of(origin)).folder


# credentials


def test_a_password_in_an_url_is_used_and_not_kept(
    origin: Path, tmp_path: Path, web: str, cache: Path, program: Callable[[str, str], None]
) -> None:
    lib = make_repository(tmp_path / "lib", lib_txt="1")
    publish(lib, tmp_path / "www" / "private" / "lib.git")
    git(origin, "config", "-f", ".gitmodules", "submodule.lib.path", "lib")
    git(origin, "config", "-f", ".gitmodules", "submodule.lib.url", "../lib.git")
    git(origin, "update-index", "--add", "--cacheinfo", f"160000,{git(lib, 'rev-parse', 'HEAD')},lib")
    git(origin, "add", ".gitmodules")
    git(origin, "commit", "-m", "lib")
    publish(origin, tmp_path / "www" / "private" / "app.git")
    program("git", f'echo "$@" >> {tmp_path}/arguments\nexec {GIT} "$@"')
    source = of(f"{web}/private/app.git".replace("//", "//me:t0%6ben@"))
    found = fetch(source)
    assert (found.folder / "lib/lib.txt").read_text() == "1"
    assert found.record["git"] == f"{web}/private/app.git"
    assert fetched(source) == found
    kept = [path for path in cache.rglob("*") if path.is_file()]
    assert len(kept) > 10
    assert not [path for path in [*kept, tmp_path / "arguments"] if b"ken" in path.read_bytes().replace(b"token", b"")]


@pytest.mark.parametrize("login", ["me:wr0ng@", "wr0ng@", ""])
def test_git_does_not_prompt_for_a_password(origin: Path, tmp_path: Path, web: str, login: str) -> None:
    publish(origin, tmp_path / "www" / "private" / "app.git")
    with pytest.raises(SourceError, match=f"^'{web}/private/app.git' can't be fetched, git says: ") as raised:
        fetch(of(f"{web}/private/app.git".replace("//", f"//{login}")))
    assert "wr0ng" not in str(raised.value)


def test_a_password_does_not_reach_another_host(
    origin: Path, tmp_path: Path, web: str, program: Callable[[str, str], None]
) -> None:
    environment = Git("https://me:t0ken@example.com/x", tmp_path).environment
    for host, known in (("example.com", True), ("example.com:8443", False), ("evil.example", False)):
        answer = subprocess.run(
            [str(GIT), "credential", "fill"],
            input=f"protocol=https\nhost={host}\n",
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ("t0ken" in answer.stdout) is known


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch /tmp/x", "-x", "", "x", "../x", "http://h/x", "git://h/x", "ext::sh -c true", "https://h",
        "https://-h/x", "ssh://-oProxyCommand=true/x", "git@-oProxyCommand=true:x", "git@h:-x", "-git@h:x",
        "https://h/x\n--y", "file://h/x",
    ],
)  # fmt: skip
def test_an_address_of_another_form_does_not_reach_git(url: str, program: Callable[[str, str], None]) -> None:
    program("git", "echo reached >&2; exit 1")
    with pytest.raises(SourceError, match="is no address of a repository; use https://"):
        fetch(of(url))


@pytest.mark.parametrize(
    "version",
    [
        "--output=x",
        "-d",
        "",
        "a b",
        "main~1",
        "main^",
        "a:b",
        "a..b",
        "main@{1}",
        "a*",
        "a?",
        "a[b",
        "a\\b",
        "a\nb",
        "a\0",
    ],
)
def test_a_version_of_another_form_does_not_reach_git(
    origin: Path, version: str, program: Callable[[str, str], None]
) -> None:
    program("git", "echo reached >&2; exit 1")
    with pytest.raises(SourceError, match="can't be a version; name a branch, a tag or a commit"):
        fetch(of(origin, version))


@pytest.mark.parametrize(
    "url",
    [
        "https://h/x",
        "https://h:8443/a/b.git",
        "https://[::1]/x",
        "ssh://git@h/x",
        "ssh://h:2222/x",
        "git@h:a/b.git",
        "/a b",
    ],
)
def test_an_address_of_a_known_form_reaches_git(url: str, program: Callable[[str, str], None]) -> None:
    program("git", "echo reached >&2; exit 1")
    with pytest.raises(SourceError, match="git says: reached"):
        fetch(of(url))


@pytest.mark.parametrize("how", ["ssh", "GIT_SSH_COMMAND", "core.sshCommand"])
def test_ssh_asks_nothing_and_is_the_one_that_the_user_has_set(
    tmp_path: Path, program: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    program("ssh", f'echo "$@" > {tmp_path}/arguments\necho "Permission denied (publickey)." >&2; exit 255')
    if how == "GIT_SSH_COMMAND":
        monkeypatch.setenv(how, "ssh -i deploy")
    elif how == "core.sshCommand":
        git(tmp_path, "config", "--global", how, "ssh -i deploy")
    with pytest.raises(SourceError, match=r"git says: Permission denied \(publickey\)"):
        fetch(of("git@host.example:app.git"))
    arguments = (tmp_path / "arguments").read_text()
    assert "-o BatchMode=yes" in arguments
    assert ("-i deploy" in arguments) is (how != "ssh")


def test_variables_that_a_user_sets_for_git_are_kept(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{origin}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "/elsewhere")
    assert names(fetch(of("/elsewhere")).folder) == ["app.py"]


def test_a_missing_git_is_reported(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=f"^'{origin}' needs git, .*install it"):
        fetch(of(origin))


def test_a_git_that_hangs_is_ended_with_its_children(
    origin: Path, tmp_path: Path, program: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "TIME_LIMIT_SECONDS", 2)
    program("git", f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(SourceError, match="git says: nothing in 2 seconds"):
        fetch(of(origin))
    end = time.monotonic() + 10
    while not is_ended(int((tmp_path / "child").read_text())):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_ended(pid: int) -> bool:
    with suppress(ProcessLookupError, FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
