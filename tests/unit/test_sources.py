"""A source is on the controller, complete and as named, or the message says why it is not."""

from __future__ import annotations

import base64
import hashlib
import io
import multiprocessing
import os
import shutil
import signal
import ssl
import stat
import subprocess
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from interruption import interruptions
from plugin_utils import sources
from plugin_utils.sources import SourceError, describe, fetch, fetched, redact

GIT = shutil.which("git")
FORK = multiprocessing.get_context("fork")
DAY = 86400
COMMIT = "1a2b3c4" + "0" * 33


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the project's own cache and the user's own git configuration out of the tests."""
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "gitconfig").write_text(
        "[user]\nname = me\nemail = me@example.com\n[init]\ndefaultBranch = main\n[safe]\ndirectory = *\n"
    )
    return tmp_path / "cache"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "protocol.file.allow=always", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(repository: Path, **files: str) -> str:
    """Commit files, whose names have _ for a dot; the commit."""
    for name, text in files.items():
        (repository / name.replace("_", ".")).write_text(text)
    git(repository, "add", "--all")
    git(repository, "commit", "--allow-empty", "-m", "next")
    return git(repository, "rev-parse", "HEAD")


def make_repository(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init")
    commit(folder, **files)
    return folder


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "origin", app_py="1")


def of(origin: Path | str, version: str = "main") -> dict[str, Any]:
    return {"path": None, "git": {"url": str(origin), "version": version}, "archive": None, "package": None}


def names(folder: Path | None) -> list[str]:
    assert folder
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def checkouts(cache: Path) -> list[Path]:
    return [path for path in cache.glob("sources/git/*/*") if sources.COMMIT.fullmatch(path.name)]


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


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a https server of files below ``www``, and below ``www/private`` for me:t0ken."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(tmp_path / "key.pem")]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *key, *name, "-out", str(tmp_path / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = f"Basic {base64.b64encode(b'me:t0ken').decode()}"
            if self.path.startswith("/private") and self.headers["Authorization"] != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                super().do_GET()

        def end_headers(self) -> None:
            if self.path == "/encoded.tgz":
                self.send_header("Content-Encoding", "gzip")
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "www" / "private").mkdir(parents=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "www"))) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()


def publish(origin: Path, www: Path) -> None:
    """Serve a repository as files."""
    git(origin.parent, "clone", "--bare", str(origin), str(www))
    git(www, "update-server-info")


# which kind


@pytest.mark.parametrize("source", [{}, {"path": None}, {"path": "/", "package": "a==1"}])
@pytest.mark.parametrize("look", [fetch, fetched])
def test_exactly_one_kind_is_given(source: dict[str, Any], look: Callable[..., object]) -> None:
    with pytest.raises(SourceError, match="give exactly one of path, git, archive, package"):
        look(source)


@pytest.mark.parametrize("look", [fetch, fetched])
def test_a_folder_is_itself(tmp_path: Path, look: Callable[..., object]) -> None:
    assert look({"path": str(tmp_path)}) == (tmp_path, {"path": str(tmp_path)})


@pytest.mark.parametrize(
    ("path", "words"),
    [("files/app", "'files/app' must be absolute"), ("/no-such-folder", "'/no-such-folder' there is no such folder")],
)
def test_a_folder_that_is_not_there_is_refused(path: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        fetch({"path": path})


@pytest.mark.parametrize("look", [fetch, fetched])
def test_a_package_has_no_folder(look: Callable[..., object]) -> None:
    line = f"blog[mail]==1.2 --hash=sha256:{'0' * 64} --hash=sha256:{'1' * 64}"
    assert look({"package": line}) == (None, {"package": "blog[mail]==1.2"})


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"path": "/x"}, "/x"),
        ({"git": "https://h/r", "version": "main", "commit": COMMIT}, "https://h/r main (1a2b3c4)"),
        ({"git": "https://h/r", "version": COMMIT, "commit": COMMIT}, "https://h/r (1a2b3c4)"),
        ({"archive": "https://h/a.zip", "sha256": "9f" * 32}, "https://h/a.zip (sha256 9f9f9f9)"),
        ({"package": "blog==1.2"}, "blog==1.2"),
    ],
)  # fmt: skip
def test_an_origin_in_words(record: dict[str, str], words: str) -> None:
    assert describe(record) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'https://me:t0ken@h/x': no", "'https://h/x': no"),
        ("https://t0ken@h/x", "https://h/x"),
        ("HTTPS://t0ken@h/x", "HTTPS://h/x"),
        ("https://me:t0@ken@h/x", "https://h/x"),
        ("https://me:t0/ken@h/x", "https://h/x"),
        ("ssh://git:t0ken@h/x", "ssh://git@h/x"),
        ("ssh://git@h/x git@h:x", "ssh://git@h/x git@h:x"),
        ("{'url': 'https://h/a.zip?X-Signature=t0ken', 'sha256': 1}", "{'url': 'https://h/a.zip', 'sha256': 1}"),
        ("https://h/@scope/x", "https://h/@scope/x"),
        ("https://a/x https://me:t0ken@b/y", "https://a/x https://b/y"),
    ],
)
def test_redacted(text: str, expected: str) -> None:
    assert redact(text) == expected


# git: which commit


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


def test_what_another_run_fetches_meanwhile_does_not_change_what_this_one_has(
    origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = fetch(of(origin))
    commit(origin, app_py="2")
    with monkeypatch.context() as other:
        other.setattr(sources, "_run", lambda: 1)
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


def test_an_address_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=f"^'{tmp_path}/x' can't be fetched, git says: .*does not .*repository.*must be"
    ):
        fetch(of(tmp_path / "x"))


def test_what_was_not_fetched(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=f"^'{origin}' was not fetched: run it through the playbooks"):
        fetched(of(origin))
    fetch(of(origin))
    for other in (of(origin, "other"), of(f"file://{origin}")):
        with pytest.raises(SourceError, match="was not fetched"):
            fetched(other)
    monkeypatch.setattr(sources, "_run", lambda: 1)
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


# git: which files


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
    commit(inner, inner_txt="2")  # nobody has asked for it
    found = fetch(of(origin))
    assert names(found.folder) == [".gitmodules", "app.py", "lib/.gitmodules", "lib/deep/inner.txt", "lib/outer.txt"]
    assert (found.folder / "lib/deep/inner.txt").read_text() == "1"
    assert not [path for path in found.folder.rglob("*") if path.name == ".git"]


def test_a_submodule_that_is_gone_leaves_no_checkout(origin: Path, tmp_path: Path, cache: Path) -> None:
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


@pytest.mark.parametrize("variable", sorted(sources.OF_A_REPOSITORY))
def test_a_run_from_a_hook_of_another_repository(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "other"))
    assert names(fetch(of(origin)).folder) == ["app.py"]
    assert not (tmp_path / "other").exists()


# git: killed, and at once


def test_a_fetch_that_ends_anywhere_leaves_no_half_checkout(
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


def test_what_a_killed_git_leaves_does_not_stop_the_next(origin: Path, cache: Path) -> None:
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


def test_a_folder_of_the_cache_has_one_user_at_a_time(tmp_path: Path) -> None:
    go, done = FORK.Event(), FORK.Event()

    def wait() -> None:
        go.wait()
        with sources.locked(tmp_path):
            done.set()

    process = FORK.Process(target=wait, daemon=True)
    process.start()
    with sources.locked(tmp_path) as aside:
        go.set()
        assert not done.wait(0.3)
        assert aside.is_dir()
    assert done.wait(10)


def test_others_cannot_look_into_the_cache(origin: Path, cache: Path) -> None:
    os.umask(0)
    fetch(of(origin))
    (folder,) = cache.glob("sources/git/*")
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("age", "expected"), [(2 * DAY, 5), (DAY // 2, 8)])
def test_of_old_checkouts_the_newest_stay_and_those_a_run_may_use(
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
    monkeypatch.setattr(sources, "_run", lambda: 1)
    fetch(of(origin))
    assert not note.exists()
    assert fetched(of(origin)).folder


# git: who may, and what nobody may see


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
def test_without_the_right_password_nobody_is_asked(origin: Path, tmp_path: Path, web: str, login: str) -> None:
    publish(origin, tmp_path / "www" / "private" / "app.git")
    with pytest.raises(SourceError, match=f"^'{web}/private/app.git' can't be fetched, git says: ") as raised:
        fetch(of(f"{web}/private/app.git".replace("//", f"//{login}")))
    assert "wr0ng" not in str(raised.value)


def test_a_password_does_not_reach_another_host(
    origin: Path, tmp_path: Path, web: str, program: Callable[[str, str], None]
) -> None:
    environment = sources._Git("https://me:t0ken@example.com/x", tmp_path).environment
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


def test_what_a_user_sets_for_git_by_environment_stays(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{origin}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "/elsewhere")
    assert names(fetch(of("/elsewhere")).folder) == ["app.py"]


def test_there_is_no_git(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=f"^'{origin}' needs git, .*install it"):
        fetch(of(origin))


def test_a_git_that_hangs_is_ended_with_its_children(
    origin: Path, tmp_path: Path, program: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "TIME_LIMIT_SECONDS", 2)
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


# archive


def make_tar(path: Path, members: dict[str, bytes | str | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    """Write a tar: of bytes a file, of text a link to it."""
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.name = name
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            elif isinstance(content, bytes):
                entry.size, entry.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def make_zip(path: Path, members: dict[str, bytes], mode: int = 0o644) -> Path:
    with zipfile.ZipFile(path, "w") as container:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o755 if name.endswith(".sh") else mode) << 16
            container.writestr(entry, content)
    return path


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo()
    entry.type, entry.linkname = kind, target
    return entry


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def at(path: Path, **more: str) -> dict[str, Any]:
    return {"archive": {"path": str(path), "url": None, "sha256": None, **more}}


FILES = {"blog-1.2/app.py": b"1", "blog-1.2/run.sh": b"2", "blog-1.2/pkg/x": b"3"}


@pytest.fixture(params=["a filter", "no filter"])
def extraction(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12 has Python 3.11.2, whose tarfile has no filters."""
    if request.param == "no filter":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("extraction")
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
def test_an_archive_is_unpacked_without_the_folder_that_all_is_in(tmp_path: Path, name: str) -> None:
    kind = name.rpartition(".")[2]
    path = tmp_path / name
    make_zip(path, FILES) if kind == "zip" else make_tar(path, dict(FILES), "w:" if kind == "tar" else f"w:{kind}")
    found = fetch(at(path))
    assert found.record == {"archive": str(path), "sha256": sha256(path)}
    assert names(found.folder) == ["app.py", "pkg/x", "run.sh"]
    assert [(found.folder / name).stat().st_mode & stat.S_IXUSR != 0 for name in ("app.py", "run.sh")] == [False, True]
    assert fetched(at(path)) == found


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"a/x": b"", "b/x": b""}, ["a/x", "b/x"]),
        ({"a/x": b"", "y": b""}, ["a/x", "y"]),
        ({"app.py": b""}, ["app.py"]),
        ({"a/b/x": b""}, ["b/x"]),
        ({"./a/x": b"", "./a/y": "x"}, ["x", "y"]),
    ],
)
def test_one_folder_at_the_top_is_left_away(tmp_path: Path, members: dict[str, Any], expected: list[str]) -> None:
    assert names(fetch(at(make_tar(tmp_path / "a.tgz", members))).folder) == expected


def test_a_link_at_the_top_is_no_folder(tmp_path: Path) -> None:
    assert os.readlink(fetch(at(make_tar(tmp_path / "a.tgz", {"a": "."}))).folder / "a") == "."


def test_links_of_both_kinds_that_stay_within_are_kept(tmp_path: Path) -> None:
    members = {"a/x": b"1", "a/d/up": "../x", "a/hard": special(tarfile.LNKTYPE, "a/x")}
    folder = fetch(at(make_tar(tmp_path / "a.tgz", members))).folder
    assert os.readlink(folder / "d/up") == "../x"
    assert (folder / "hard").read_bytes() == b"1"


@pytest.mark.usefixtures("extraction")
@pytest.mark.parametrize(
    "members",
    [
        {"../evil": b""},
        {"a/../../evil": b""},
        {"/evil": b""},
        {"a/link": "../../evil"},
        {"a/link": "/evil"},
        {"a/link": ".", "a/link/evil": b""},
        {"a/d/x": b"", "a/link": "d", "a/link/evil": b""},
        {"a/x": b"", "a/link": "x", "./a/link": b"evil"},
        {"a/hard": special(tarfile.LNKTYPE, "../evil")},
        {"a/hard": special(tarfile.LNKTYPE, "/etc/passwd")},
        {"a/link": "x", "a/hard": special(tarfile.LNKTYPE, "a/link")},
        {"a/pipe": special(tarfile.FIFOTYPE)},
        {"a/device": special(tarfile.CHRTYPE)},
    ],
    ids=lambda members: " ".join(members),
)
def test_a_tar_that_would_write_elsewhere_is_refused(tmp_path: Path, cache: Path, members: dict[str, Any]) -> None:
    path = make_tar(tmp_path / "a.tgz", {"a/x": b"", **members})
    with pytest.raises(SourceError, match=f"^'{path}' has a member .* (leads out of it|unsafe to unpack); remove it"):
        fetch(at(path))
    assert not list(tmp_path.rglob("evil"))
    assert [path.name for path in (cache / "sources/archive").iterdir()] == ["lock"]


@pytest.mark.parametrize(("name", "mode"), [("../evil", 0), ("/evil", 0), ("a/../../evil", 0), ("link", stat.S_IFLNK)])
def test_a_zip_that_would_write_elsewhere_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    path = make_zip(tmp_path / "a.zip", {name: b"/etc/passwd"}, mode)
    with pytest.raises(SourceError, match=f"^'{path}' has a (member|link) '{name}'"):
        fetch(at(path))
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b no gzip", b"PK\x03\x04 no zip"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(SourceError, match=f"^'{tmp_path}/a.tgz' can't be unpacked: .*; use a .tar"):
        fetch(at(tmp_path / "a.tgz"))


def test_half_an_archive_is_refused(tmp_path: Path, cache: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", {"a/x": os.urandom(100_000)})
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(SourceError, match="can't be unpacked"):
        fetch(at(path))
    assert [path.name for path in (cache / "sources/archive").iterdir()] == ["lock"]


def test_an_archive_that_changes_is_another(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", {"a/x": b"1"})
    first = fetch(at(path))
    make_tar(path, {"a/x": b"2"})
    assert fetched(at(path)) == first
    assert (fetch(at(path)).folder / "x").read_bytes() == b"2"


def test_an_archive_that_was_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"^'{tmp_path}/a.tgz' was not fetched"):
        fetched(at(tmp_path / "a.tgz"))


def test_both_hashes_are_said_when_they_differ(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", {"a/x": b"1"})
    with pytest.raises(SourceError, match=f"^'{path}' has the sha256 {sha256(path)}, not {'0' * 64}; if it was meant"):
        fetch(at(path, sha256="0" * 64))
    assert fetch(at(path, sha256=sha256(path))).folder


@pytest.mark.parametrize("path", ["a.tgz", "/nonexistent.tgz", "/etc"])
def test_an_archive_that_is_not_there(path: str) -> None:
    with pytest.raises(SourceError, match=f"^'{path}' there is no such file on the controller"):
        fetch(at(Path(path)))


@pytest.mark.parametrize(
    "archive",
    [
        {},
        {"url": "https://h/a"},
        {"url": "https://h/a", "path": "/a", "sha256": "0" * 64},
        {"url": "https://h/a", "sha256": "../../x"},
        {"path": "/a", "sha256": "0" * 63},
    ],
)
def test_an_archive_is_a_path_or_an_url_with_a_hash(archive: dict[str, str]) -> None:
    with pytest.raises(SourceError, match="give either a path, or a url with its sha256"):
        fetch({"archive": archive})


@pytest.mark.parametrize("step", ["open_url", "unpack"])
def test_an_archive_is_downloaded_and_unpacked_once(
    tmp_path: Path, web: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = make_tar(tmp_path / "www" / "a.tgz", dict(FILES))
    source = {"archive": {"url": f"{web}/a.tgz", "sha256": sha256(path)}}
    first = fetch(source)
    assert first.record == {"archive": f"{web}/a.tgz", "sha256": sha256(path)}
    assert names(first.folder) == ["app.py", "pkg/x", "run.sh"]

    def fail(*_: object, **__: object) -> None:
        raise AssertionError(step)

    monkeypatch.setattr(sources, step, fail)
    assert (fetch(source), fetched(source)) == (first, first)


def test_addresses_that_differ_in_their_query_are_two(tmp_path: Path, web: str) -> None:
    found = []
    for number in range(2):
        path = make_tar(tmp_path / "www" / "a.tgz", {"x": b"%d" % number})
        source = {"archive": {"url": f"{web}/a.tgz?id={number}", "sha256": sha256(path)}}
        found.append((source, fetch(source)))
    assert [fetched(source) for source, _ in found] == [result for _, result in found]


def test_a_server_that_calls_an_archive_an_encoding(tmp_path: Path, web: str) -> None:
    """What is hashed is what others download and hash."""
    path = make_tar(tmp_path / "www" / "encoded.tgz", dict(FILES))
    assert fetch({"archive": {"url": f"{web}/encoded.tgz", "sha256": sha256(path)}}).folder


def test_a_download_is_verified_before_it_is_unpacked(
    tmp_path: Path, web: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_tar(tmp_path / "www" / "a.tgz", dict(FILES))
    monkeypatch.setattr(sources, "unpack", None)
    with pytest.raises(SourceError, match=f"^'{web}/a.tgz' has the sha256 {sha256(path)}, not {'0' * 64}"):
        fetch({"archive": {"url": f"{web}/a.tgz", "sha256": "0" * 64}})
    assert [path.name for path in (cache / "sources/archive").iterdir()] == ["lock"]


def test_a_password_of_a_download_is_used_and_not_kept(tmp_path: Path, web: str, cache: Path) -> None:
    path = make_tar(tmp_path / "www" / "private" / "a.tgz", dict(FILES))
    source = {"archive": {"url": f"{web}/private/a.tgz?sign=s1gn".replace("//", "//me:t0ken@"), "sha256": sha256(path)}}
    found = fetch(source)
    assert found.record["archive"] == f"{web}/private/a.tgz"
    assert fetched(source) == found
    assert not [
        path for path in cache.rglob("*") if path.is_file() and {b"t0ken", b"s1gn"} & {*path.read_bytes().split(b'"')}
    ]


@pytest.mark.parametrize("path", ["private/a.tgz", "missing.tgz"])
def test_a_download_that_fails_tells_no_password(web: str, path: str) -> None:
    url = f"{web}/{path}?sign=s1gn".replace("//", "//me:wr0ng@")
    with pytest.raises(SourceError, match=f"^'{web}/{path}' can't be downloaded: .*40[14].*; check the url") as raised:
        fetch({"archive": {"url": url, "sha256": "0" * 64}})
    assert not [word for word in ("wr0ng", "s1gn") if word in str(raised.value)]


def test_a_server_whose_certificate_nobody_knows_is_refused(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SourceError, match=r"can't be downloaded: .*certificate"):
        fetch({"archive": {"url": f"{web}/a.tgz", "sha256": "0" * 64}})


def test_a_download_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return b"x"

    monkeypatch.setattr(sources, "open_url", lambda *_, **__: Endless())
    monkeypatch.setattr(sources, "TIME_LIMIT_SECONDS", 0.1)
    with pytest.raises(SourceError, match=r"it takes longer than 0\.1 seconds"):
        fetch({"archive": {"url": "https://h/a", "sha256": "0" * 64}})


def test_an_unpacking_that_ends_anywhere_leaves_no_half_folder(tmp_path: Path, cache: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", dict(FILES))
    for number in interruptions(lambda _: fetch(at(path))):
        for folder in cache.glob(f"sources/archive/{'?' * 64}"):
            assert names(folder) == ["app.py", "pkg/x", "run.sh"], f"interrupted before step {number}"


def test_of_old_archives_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(sources, "KEPT_ARCHIVES", 2)
    for number in range(4):
        found = fetch(at(make_tar(tmp_path / "a.tgz", {"x": b"%d" % number})))
        os.utime(found.folder, (number, number))
    fetch(at(make_tar(tmp_path / "a.tgz", {"x": b"new"})))
    kept = [(folder / "x").read_text() for folder in cache.glob(f"sources/archive/{'?' * 64}")]
    assert sorted(kept) == ["3", "new"]
