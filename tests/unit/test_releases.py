"""A release is staged as a whole, seen by nobody until it is warm, and live with one rename."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest
from ansible.module_utils.flaskfleet import releases
from ansible.module_utils.flaskfleet.files import read_json
from ansible.module_utils.flaskfleet.releases import App, Release, ReleaseFailed, differences
from interruption import interruptions
from plugin_utils.packing import pack, source_files
from servers import OK, stats_server, uwsgi_server
from supervisor import Supervisor

APP_ID, WEB_ID = 1001, 33
ENV = {
    "EMPTY": "",
    "SNOWMAN": "☃",
    "QUOTES": """'single' "double" `back` \\""",
    "PERCENT": "50% %(here)s %%",
    "AT": "@(/etc/passwd)",
    "DOLLAR": "$HOME ${HOME}",
    "SPACES": "  kept  ",
    "LINES": "one\ntwo",
}
RELEASE = Release(
    id="0123456789ab",
    files={"uwsgi.ini": "[uwsgi]\n; ☃\n", "supervisor.conf": "[program:blog-0123456789ab]\n"},
    env=ENV,
    static={"/static": "blog/static", "/favicon": "icons"},
    requirements="flask\n",
    python="/usr/bin/python3",
    processes=2,
    health={"path": "/healthz?deep=1", "host": "blog.example", "timeout_seconds": 5},
    record={"app": "blog", "release": "0123456789ab", "source": "/home/me/blog", "inputs": {"source": "1a"}},
)
PROGRAM = f"blog-{RELEASE.id}"


@pytest.fixture(autouse=True)
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """Who was to own what, by path. Only root may give files away, so nobody does."""
    asked: dict[str, tuple[int, int]] = {}

    def fchown(descriptor: int, uid: int, gid: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        asked[str(path.with_name(path.name.removeprefix(".").removesuffix(".new")))] = (uid, gid)

    monkeypatch.setattr(os, "chown", lambda path, uid, gid: asked.update({str(path): (uid, gid)}))
    monkeypatch.setattr(os, "fchown", fchown)
    monkeypatch.setattr(releases, "user_id", {"blog": APP_ID}.__getitem__)
    monkeypatch.setattr(releases, "group_id", {"blog": APP_ID, "www-data": WEB_ID}.__getitem__)
    return asked


@pytest.fixture(autouse=True)
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What was killed: group and signal."""
    groups: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: groups.append((group, number)))
    return groups


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str, str, Path]]:
    """The environments that were asked for."""
    asked = []
    monkeypatch.setattr(releases, "build_environment", lambda *inputs: asked.append(inputs) or "abcdefabcdef")
    return asked


@pytest.fixture
def app(host: Path) -> App:
    app = App("blog", "www-data", None, host)
    app.supervisor = Supervisor(app.trial, app.conf_d)
    app.conf_d.mkdir(parents=True)
    return app


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for name, content in {
        "blog/__init__.py": "app = None\n",
        "blog/static/style.css": "body {}\n",
        "blog/static/img/a.svg": "<svg/>\n",
        "icons/favicon.ico": "icon",
        "manage": "#!/bin/sh\n",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    (source / "manage").chmod(0o755)
    (source / "link").symlink_to("blog/static/style.css")
    pack(source, source_files(source), tmp_path / "blog.tar.gz")
    return tmp_path / "blog.tar.gz"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return tmp_path / "uwsgi.whl"


@pytest.fixture
def staged(app: App, archive: Path, wheel: Path) -> Path:
    """Where the release lies."""
    app.prepare({})
    app.stage(RELEASE, archive, wheel)
    return app.path(RELEASE.id)


def mode(path: Path) -> str:
    return oct(path.stat().st_mode)[-4:]


# prepared


def test_prepare_makes_the_apps_folders_for_who_may_use_them(app: App, owners: dict[str, tuple[int, int]]) -> None:
    app.prepare({})
    assert {str(path): (mode(path), owners[str(path)]) for path in [*app.home.iterdir(), app.logs]} == {
        f"{app.home}/releases": ("0755", (0, 0)),
        f"{app.home}/venvs": ("0755", (0, 0)),
        f"{app.home}/secrets": ("0750", (0, APP_ID)),
        f"{app.home}/shared": ("0750", (APP_ID, APP_ID)),
        str(app.logs): ("0750", (0, APP_ID)),
    }


def test_secrets_are_readable_for_root_and_the_app_alone(app: App, owners: dict[str, tuple[int, int]]) -> None:
    app.prepare({"KEY": "s3cret"})
    path = app.home / "secrets" / "KEY"
    assert (path.read_text(), mode(path), owners[str(path)]) == ("s3cret\n", "0640", (0, APP_ID))


def test_secrets_are_those_of_now(app: App) -> None:
    app.prepare({"KEY": "old", "GONE": "x"})
    app.prepare({"KEY": "new"})
    assert {path.name: path.read_text() for path in (app.home / "secrets").iterdir()} == {"KEY": "new\n"}


def test_prepare_leaves_what_the_app_has_written(app: App) -> None:
    app.prepare({})
    (app.home / "shared" / "db.sqlite").write_text("rows")
    app.prepare({})
    assert (app.home / "shared" / "db.sqlite").read_text() == "rows"


def test_an_unknown_user_is_a_key_error(app: App) -> None:
    app.name = "nobody-has-this-name"
    with pytest.raises(KeyError):
        app.prepare({})


# staged


def test_a_release_has_everything_that_makes_it_run(staged: Path) -> None:
    assert {path.name for path in staged.iterdir()} == {
        "src", "static", "env", "run", "venv", "uwsgi.ini", "supervisor.conf", "release.json",
    }  # fmt: skip


def test_the_source_is_unpacked_with_its_executables_and_links(staged: Path) -> None:
    assert (staged / "src/blog/__init__.py").read_text() == "app = None\n"
    assert (mode(staged / "src/blog/__init__.py"), mode(staged / "src/manage")) == ("0644", "0755")
    assert os.readlink(staged / "src/link") == "blog/static/style.css"


def test_the_source_is_compiled_for_its_final_path(staged: Path) -> None:
    (compiled,) = staged.glob("src/blog/__pycache__/*.pyc")
    assert f"{staged}/src/blog/__init__.py".encode() in compiled.read_bytes()


def test_static_files_lie_below_their_url_prefix(staged: Path) -> None:
    static = {str(path.relative_to(staged)): path.read_text() for path in staged.glob("static/**/*.*")}
    assert static == {
        "static/static/style.css": "body {}\n",
        "static/static/img/a.svg": "<svg/>\n",
        "static/favicon/favicon.ico": "icon",
    }


def test_a_static_file_keeps_its_time(staged: Path) -> None:
    """nginx makes its ETag from it, which has to be the same on every host."""
    copies = (staged / "static/static/style.css", staged / "src/blog/static/style.css")
    assert len({path.stat().st_mtime for path in copies}) == 1


@pytest.mark.parametrize("name", ENV)
def test_a_variable_is_a_file_with_its_value_verbatim(staged: Path, name: str) -> None:
    assert (staged / "env" / name).read_bytes() == f"{ENV[name]}\n".encode()


def test_rendered_files_are_verbatim(staged: Path) -> None:
    assert {name: (staged / name).read_text() for name in RELEASE.files} == RELEASE.files


def test_the_record_is_kept(app: App, staged: Path) -> None:
    assert app.record(RELEASE.id) == RELEASE.record


def test_the_environment_is_that_of_its_inputs(
    app: App, staged: Path, wheel: Path, built: list[tuple[Path, str, str, Path]]
) -> None:
    assert built == [(app.home / "venvs", RELEASE.python, RELEASE.requirements, wheel)]
    assert (staged / "venv").parent.joinpath(os.readlink(staged / "venv")).resolve() == app.home / "venvs/abcdefabcdef"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "0755"),
        ("static", "0755"),
        ("static/static/img", "0755"),
        ("src/blog", "0755"),
        ("src", "0750"),
        ("env", "0750"),
        ("env/EMPTY", "0640"),
        ("run", "2750"),
        ("uwsgi.ini", "0644"),
        ("supervisor.conf", "0644"),
    ],
)
def test_modes_of_a_release(staged: Path, name: str, expected: str) -> None:
    assert mode(staged / name) == expected


def test_who_owns_what_of_a_release(app: App, staged: Path, owners: dict[str, tuple[int, int]]) -> None:
    aside = app.path(f".{RELEASE.id}")
    assert {name: owners[f"{aside}/{name}"] for name in ("src", "env", "env/EMPTY", "run")} == {
        "src": (0, APP_ID),
        "env": (0, APP_ID),
        "env/EMPTY": (0, APP_ID),
        "run": (APP_ID, WEB_ID),
    }


def test_staging_starts_nothing(app: App, staged: Path) -> None:
    assert app.supervisor.calls == []
    assert app.live() is None


def test_a_release_whose_environment_fails_is_not_there(
    app: App, archive: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise releases.ReleaseFailed("no such requirement")

    app.prepare({})
    monkeypatch.setattr(releases, "build_environment", fail)
    with pytest.raises(ReleaseFailed):
        app.stage(RELEASE, archive, wheel)
    assert list((app.home / "releases").iterdir()) == []


def test_an_interrupted_stage_leaves_nothing_at_the_final_path(
    app: App, archive: Path, wheel: Path, snapshot: Callable[[Path], dict]
) -> None:
    """And another run leads there."""
    app.prepare({})
    release = replace(RELEASE, env={"A": "a"})
    final = app.path(release.id)
    expected = None
    for number in interruptions(lambda _: app.stage(release, archive, wheel)):
        assert not final.exists(), f"interrupted before step {number}"
        app.stage(release, archive, wheel)
        left = snapshot(app.home)
        expected = expected or left
        assert left == expected, f"interrupted before step {number}"
        shutil.rmtree(final)


# warm


@pytest.fixture
def workers() -> list[dict[str, int]]:
    """What the stats socket says of the workers."""
    return [{"id": number, "requests": 1, "status": "idle"} for number in (1, 2)]


@pytest.fixture
def start(app: App, workers: list[dict[str, int]]) -> Iterator[Callable[..., list[Any]]]:
    """A function that tells what the program answers once it is started; the list it returns has its servers."""
    with ExitStack() as stack:

        def prepare(answer: Any = OK) -> list[Any]:
            servers: list[Any] = []

            def listen(_: str) -> None:
                run = app.path(RELEASE.id) / "run"
                servers.append(stack.enter_context(uwsgi_server(run / "uwsgi.sock", answer)))
                servers.append(stack.enter_context(stats_server(run / "stats.sock", lambda: {"workers": workers})))

            app.supervisor.on_start = listen
            return servers

        yield prepare


@pytest.fixture
def hasty(staged: Path) -> Release:
    """The release, with little time to become warm."""
    return replace(RELEASE, health={**RELEASE.health, "timeout_seconds": 0.3})


def test_a_release_is_warm_when_every_worker_has_answered(app: App, staged: Path, start) -> None:
    start()
    app.warm(RELEASE)
    assert app.supervisor.getProcessInfo(PROGRAM)["statename"] == "RUNNING"


def test_a_warm_release_is_forgotten_by_a_reboot(app: App, staged: Path, start) -> None:
    start()
    app.warm(RELEASE)
    assert (app.trial / f"{PROGRAM}.conf").read_text() == RELEASE.files["supervisor.conf"]
    assert list(app.conf_d.iterdir()) == []
    assert app.live() is None


def test_the_health_path_is_asked_as_a_client_asks(app: App, staged: Path, start) -> None:
    servers = start()
    app.warm(RELEASE)
    asked = servers[0].requests[0]
    expected = {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/healthz?deep=1",
        "PATH_INFO": "/healthz",
        "QUERY_STRING": "deep=1",
        "HTTP_HOST": "blog.example",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    assert {name: asked[name] for name in expected} == expected


def test_it_is_asked_until_the_last_worker_has_answered(
    app: App, staged: Path, start, workers: list[dict[str, int]]
) -> None:
    workers[1]["requests"] = 0
    answered = []

    def answer(_: dict[str, str]) -> bytes:
        answered.append(1)
        workers[1]["requests"] = int(len(answered) > 4)
        return OK

    start(answer)
    app.warm(RELEASE)
    assert len(answered) > 4


def test_an_app_that_is_ill_at_first_may_recover(app: App, staged: Path, start) -> None:
    answers = iter([b"HTTP/1.1 503 Service Unavailable\r\n\r\nloading"] * 3)
    start(lambda _: next(answers, OK))
    app.warm(RELEASE)


def test_a_program_that_runs_already_is_not_started_again(app: App, staged: Path, start) -> None:
    start()
    app.warm(RELEASE)
    app.warm(RELEASE)
    assert app.supervisor.calls.count(f"startProcess {PROGRAM}") == 1


def test_a_program_that_does_not_start_at_once_is_started_again(app: App, staged: Path, start) -> None:
    start()
    answering, app.supervisor.on_start = app.supervisor.on_start, lambda _: None
    app.supervisor.life = [("BACKOFF", 0)]

    def second(name: str) -> None:
        if app.supervisor.calls.count(f"startProcess {name}") == 2:
            answering(name)
            app.supervisor.life = [("RUNNING", 4711)]

    app.supervisor.on_start = second
    app.warm(RELEASE)
    assert app.supervisor.calls.count(f"startProcess {PROGRAM}") == 2


# refused


@pytest.mark.parametrize(
    ("life", "problem"),
    [
        ([("RUNNING", 1), ("EXITED", 0)], "its program ended"),
        ([("STARTING", 1), ("STARTING", 1), ("BACKOFF", 0)], "its program ended"),
        ([("RUNNING", 1), ("RUNNING", 1), ("RUNNING", 2)], "its program ended"),
        ([("RUNNING", 1)], "it does not listen, after 0.3 seconds"),
    ],
    ids=["it ends", "it ends at once", "it was restarted", "it does not listen"],
)
def test_a_program_that_does_not_stay_is_refused(
    app: App, hasty: Release, life: list[tuple[str, int]], problem: str
) -> None:
    app.supervisor.life = life
    with pytest.raises(ReleaseFailed, match=f"^blog {RELEASE.id} never became live: {problem}\\. "):
        app.warm(hasty)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\nno such table: posts", "answered 500: no such table: posts"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", "answered 302: "),
        (None, r"gave no answer \(timed out\)"),
        (b"", r"gave no answer \(the connection was closed without a complete answer\)"),
    ],
    ids=["500", "a redirect", "it hangs", "it closes the connection"],
)
def test_an_app_that_is_not_healthy_is_refused(app: App, hasty: Release, start, answer: Any, problem: str) -> None:
    start(answer)
    with pytest.raises(ReleaseFailed, match=rf"/healthz\?deep=1 {problem}, after 0\.3 seconds"):
        app.warm(hasty)


def test_a_worker_that_is_cheaped_need_not_answer(
    app: App, hasty: Release, start, workers: list[dict[str, Any]]
) -> None:
    workers[1] |= {"requests": 0, "status": "cheap"}
    start()
    app.warm(hasty)


def test_an_app_with_a_worker_that_never_answers_is_refused(
    app: App, hasty: Release, start, workers: list[dict[str, int]]
) -> None:
    workers[1]["requests"] = 0
    start()
    with pytest.raises(ReleaseFailed, match=r"workers \[2\] have not answered, after 0\.3 seconds"):
        app.warm(hasty)


def test_a_program_that_supervisor_cannot_read_is_refused(
    app: App, archive: Path, wheel: Path, killed: list[tuple[int, int]]
) -> None:
    """Left in place it would keep Supervisor from reading any other app's."""
    app.prepare({})
    broken = replace(RELEASE, files={**RELEASE.files, "supervisor.conf": "broken"})
    app.stage(broken, archive, wheel)
    with pytest.raises(ReleaseFailed, match="CANT_REREAD"):
        app.warm(broken)
    assert list(app.trial.iterdir()) == []
    app.supervisor.reloadConfig()


def test_a_refusal_has_the_apps_last_words(app: App, hasty: Release) -> None:
    log = app.logs / f"{RELEASE.id}.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"ImportError: \xff\n")
    with pytest.raises(ReleaseFailed, match=r"(?s)ends with:\nline 41\n.*line 99\nImportError: \ufffd$"):
        app.warm(hasty)


def test_a_refusal_of_an_app_that_wrote_nothing_says_so(app: App, hasty: Release) -> None:
    with pytest.raises(ReleaseFailed, match=r"\(it wrote nothing\)$"):
        app.warm(hasty)


def test_a_foreign_process_on_the_socket_is_named_and_left_alone(
    app: App, staged: Path, killed: list[tuple[int, int]]
) -> None:
    with (
        uwsgi_server(staged / "run" / "uwsgi.sock"),
        pytest.raises(
            ReleaseFailed, match=rf"uwsgi.sock: .* \(pid {os.getpid()}\) is already listening.*kill {os.getpid()}"
        ),
    ):
        app.warm(RELEASE)
    assert (app.supervisor.calls, killed, staged.exists()) == ([], [], True)
    assert list(app.trial.iterdir()) == []


def test_a_refused_release_leaves_nothing(app: App, hasty: Release, start, snapshot) -> None:
    before = snapshot(app.home / "venvs"), snapshot(app.conf_d)
    for name in (f"{RELEASE.id}.log", f"{RELEASE.id}.log.1", "other.log"):
        (app.logs / name).touch()
    start(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
    with pytest.raises(ReleaseFailed):
        app.warm(hasty)
    assert not app.path(RELEASE.id).exists()
    assert app.supervisor.programs == {}
    assert list(app.trial.iterdir()) == []
    assert [path.name for path in app.logs.iterdir()] == ["other.log"]
    assert (snapshot(app.home / "venvs"), snapshot(app.conf_d)) == before


def test_a_refused_release_is_killed_at_once_with_its_workers(
    app: App, hasty: Release, killed: list[tuple[int, int]]
) -> None:
    with pytest.raises(ReleaseFailed):
        app.warm(hasty)
    assert killed == [(4711, signal.SIGKILL)]


def test_a_refused_release_leaves_the_live_one_alone(
    app: App, hasty: Release, snapshot, killed: list[tuple[int, int]]
) -> None:
    app.supervisor.run("blog-live", ("RUNNING", 815))
    (app.conf_d / "blog-live.conf").touch()
    app.path("live").mkdir()
    (app.home / "current").symlink_to("releases/live")
    with pytest.raises(ReleaseFailed):
        app.warm(hasty)
    assert app.live() == "live"
    assert app.path("live").exists()
    assert (app.conf_d / "blog-live.conf").exists()
    assert app.supervisor.programs == {"blog-live": [("RUNNING", 815)]}
    assert 815 not in dict(killed)


@pytest.mark.parametrize("life", [("STOPPED", 0), ("EXITED", 0), ("FATAL", 0)])
def test_a_program_that_has_ended_is_discarded_without_a_kill(
    app: App, staged: Path, life: tuple[str, int], killed: list[tuple[int, int]]
) -> None:
    app.supervisor.run(PROGRAM, life)
    app.discard(RELEASE.id)
    assert (app.supervisor.programs, killed) == ({}, [])


def test_a_program_that_ends_before_the_kill_is_discarded(
    app: App, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killpg(*_: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "killpg", killpg)
    app.supervisor.run(PROGRAM)
    app.discard(RELEASE.id)
    assert app.supervisor.programs == {}


def test_a_release_that_never_ran_can_be_discarded(app: App, staged: Path) -> None:
    app.discard(RELEASE.id)
    assert not staged.exists()


def test_what_interrupted_runs_have_left_is_discarded(app: App, staged: Path, killed: list[tuple[int, int]]) -> None:
    for name in ("older", ".half"):
        app.path(name).mkdir()
    app.supervisor.run("blog-older", ("RUNNING", 815))
    (app.trial / "blog-older.conf").touch()
    app.discard_leftovers(RELEASE.id)
    assert list((app.home / "releases").iterdir()) == [staged]
    assert (app.supervisor.programs, list(app.trial.iterdir())) == ({}, [])
    assert killed == [(815, signal.SIGKILL)]


# live


@pytest.fixture
def warm(app: App, staged: Path, start) -> Iterator[App]:
    start()
    with app.lock():
        app.warm(RELEASE)
        yield app


def test_a_live_release_is_what_current_points_at(warm: App) -> None:
    warm.go_live(RELEASE, "me@laptop")
    assert os.readlink(warm.home / "current") == f"releases/{RELEASE.id}"
    assert warm.live() == RELEASE.id


def test_a_live_release_starts_after_a_reboot(warm: App) -> None:
    warm.go_live(RELEASE, "me@laptop")
    assert (warm.conf_d / f"{PROGRAM}.conf").read_text() == RELEASE.files["supervisor.conf"]
    assert list(warm.trial.iterdir()) == []


def test_going_live_touches_no_process(warm: App, killed: list[tuple[int, int]]) -> None:
    before = list(warm.supervisor.calls)
    warm.go_live(RELEASE, "me@laptop")
    assert (warm.supervisor.calls, killed) == (before, [])


def test_the_journal_says_what_is_live_since_when_from_what_and_by_whom(warm: App) -> None:
    warm.go_live(RELEASE, "me@laptop")
    journal = read_json(warm.journal)
    assert journal.pop("since")[:2] == "20"
    assert journal == {"live": RELEASE.id, "by": "me@laptop", "source": "/home/me/blog"}


def test_the_live_log_has_a_name_that_stays(warm: App) -> None:
    warm.go_live(RELEASE, "me@laptop")
    assert os.readlink(warm.logs / "current.log") == f"{RELEASE.id}.log"


def test_whatever_interrupts_going_live_current_points_at_what_a_reboot_starts(warm: App) -> None:
    """And another run leads there."""
    (warm.conf_d / "blog-live.conf").touch()
    (warm.home / "current").symlink_to("releases/live")
    seen = set()
    for number in interruptions(lambda _: warm.go_live(RELEASE, "me@laptop")):
        seen.add(warm.live())
        assert (warm.conf_d / f"blog-{warm.live()}.conf").exists(), f"interrupted before step {number}"
        (warm.conf_d / f"{PROGRAM}.conf").unlink(missing_ok=True)
        (warm.home / "current").unlink()
        (warm.home / "current").symlink_to("releases/live")
    assert seen == {"live", RELEASE.id}
    assert warm.live() == RELEASE.id


def test_a_host_without_a_release_has_none_live(app: App) -> None:
    assert app.live() is None


# kept running


@pytest.fixture
def live(app: App, staged: Path) -> App:
    app.supervisor.run(PROGRAM)
    with app.lock():
        app.go_live(RELEASE, "me@laptop")
    return app


def test_a_live_release_runs(live: App) -> None:
    assert live.is_running(RELEASE.id)


@pytest.mark.parametrize(
    "stop",
    [
        *(lambda app, state=state: app.supervisor.run(PROGRAM, (state, 0)) for state in ("STOPPED", "EXITED", "FATAL")),
        lambda app: app.supervisor.programs.clear(),
        lambda app: (app.conf_d / f"{PROGRAM}.conf").unlink(),
    ],
    ids=["stopped", "ended", "fatal", "forgotten by Supervisor", "not registered"],
)
def test_a_live_release_that_does_not_run_is_run_again(live: App, stop: Callable[[App], object]) -> None:
    stop(live)
    assert not live.is_running(RELEASE.id)
    live.run_again(RELEASE.id)
    assert live.is_running(RELEASE.id)
    assert (live.conf_d / f"{PROGRAM}.conf").read_text() == RELEASE.files["supervisor.conf"]


def test_a_live_release_is_not_started_beside_a_foreign_process(live: App, staged: Path) -> None:
    live.supervisor.run(PROGRAM, ("STOPPED", 0))
    with (
        uwsgi_server(staged / "run" / "uwsgi.sock"),
        pytest.raises(ReleaseFailed, match=rf"\(pid {os.getpid()}\) is already listening"),
    ):
        live.run_again(RELEASE.id)
    assert live.supervisor.calls == []


def test_a_program_that_runs_is_registered_again_without_a_restart(live: App) -> None:
    (live.conf_d / f"{PROGRAM}.conf").unlink()
    live.run_again(RELEASE.id)
    assert f"startProcess {PROGRAM}" not in live.supervisor.calls


# start


def test_start_touches_no_other_program(app: App, staged: Path) -> None:
    app.supervisor.run("other", ("STOPPED", 0))
    (app.trial / f"{PROGRAM}.conf").touch()
    app.start(RELEASE.id)
    assert app.supervisor.programs["other"] == [("STOPPED", 0)]
    assert app.supervisor.calls == ["reloadConfig", f"addProcessGroup {PROGRAM}", f"startProcess {PROGRAM}"]


def test_start_of_a_program_without_a_file_is_a_fault(app: App, staged: Path) -> None:
    with pytest.raises(Fault, match="BAD_NAME"):
        app.start(RELEASE.id)


# one at a time


def test_a_second_run_is_refused_with_the_first_ones_pid(app: App) -> None:
    with app.lock(), pytest.raises(ReleaseFailed, match=f"^blog: process {os.getpid()} is "), app.lock():
        pytest.fail("two runs have the lock")


def test_the_lock_is_free_after_a_run(app: App) -> None:
    for _ in range(2):
        with app.lock():
            assert app.journal.with_suffix(".lock").read_text() == str(os.getpid())


def test_two_apps_are_released_at_a_time(app: App, host: Path) -> None:
    with app.lock(), App("shop", "www-data", None, host).lock():
        pass


def test_the_lock_ends_with_its_process(app: App) -> None:
    app.journal.parent.mkdir(parents=True)
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(app.journal.with_suffix(".lock"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(ReleaseFailed), app.lock():
            pytest.fail("two processes have the lock")
        holder.kill()
    with app.lock():
        pass


# differences


@pytest.mark.parametrize(
    ("live", "wanted", "words"),
    [
        ({"entry": {"processes": 4}}, {"entry": {"processes": 8}}, ["processes 4 → 8"]),
        ({"entry": {"env": {}}}, {"entry": {"env": {"A": "1"}}}, ["env.A None → 1"]),
        ({"entry": {"env": {"A": "1"}}}, {"entry": {"env": {}}}, ["env.A 1 → None"]),
        ({"entry": {"health": {"path": "/"}}}, {"entry": {"health": {"path": "/up"}}}, ["health.path / → /up"]),
        ({"source": "1a"}, {"source": "2b"}, ["source changed"]),
        ({"secret_env": "1a"}, {"secret_env": "2b"}, ["secret_env changed"]),
        ({"settings": {"listen": 1}}, {"settings": {"listen": 2}}, ["settings.listen changed"]),
        ({"entry": {"static": {"/a.b": "x"}}}, {"entry": {"static": {"/a.b": "y"}}}, ["static./a.b x → y"]),
        ({"entry": {"env": {"entry": 1}}}, {"entry": {"env": {"entry": 2}}}, ["env.entry 1 → 2"]),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, ["a changed", "b changed"]),
        ({"source": "1a", "entry": {"processes": 4}}, {"entry": {"processes": 4}, "source": "1a"}, []),
        ({}, {"source": "1a"}, ["source changed"]),
    ],
)
def test_differences_in_words(live: dict[str, Any], wanted: dict[str, Any], words: list[str]) -> None:
    assert differences(live, wanted) == words
