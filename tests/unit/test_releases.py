"""A release gets no request until it is warm, becomes live with one rename, and stops after its last request."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest
from ansible.module_utils.flaskfleet import (
    app_programs,
    app_state,
    hooks,
    http_router,
    presence,
    release_log,
    secret_files,
    staging,
    switching,
    users,
    warm_up,
)
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.app_programs import DRAINED_WITHIN, STOPPED_WITHIN
from ansible.module_utils.flaskfleet.app_state import differences
from ansible.module_utils.flaskfleet.environments import Environment
from ansible.module_utils.flaskfleet.files import read_json, write_json
from ansible.module_utils.flaskfleet.paths import ReleaseFailed
from ansible.module_utils.flaskfleet.release_log import LINE
from conftest import Clock
from examples import APP_ID, MAILER, ME, NO_SECRETS, SECRETS, A, B, C, make_release
from interruption import interruptions
from servers import OK, stats_server, uwsgi_server
from supervisor import STARTED_AT, State, Supervisor

HARAKIRI = 30  # seconds, the default
KILLPG = os.killpg
RELEASE = make_release(A)
PROGRAM = f"blog-{A}"
ROUTER = "[program:blog-http]\ncommand = uwsgi --http :8080\n"
ROLLOUT = {"process": "laptop 1", "by": ME, "what": "deploy", "target": B}
Switch = Callable[..., App]
Stage = Callable[..., Path]
Killed = list[tuple[int, int]]


@pytest.fixture(autouse=True)
def killed(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Killed:
    """The groups that were killed, with the signal."""
    groups: Killed = []
    monkeypatch.setattr(os, "killpg", lambda group, number: groups.append((group, number)))
    return groups


@pytest.fixture
def supervisor(app: App) -> Supervisor:
    return app.supervisor.rpc


@pytest.fixture
def staged(stage: Stage) -> Path:
    """The folder of the release A."""
    return stage(A)


def calls(app: App, *methods: str) -> list[str]:
    """The calls of Supervisor, like ``startProcessGroup blog-mailer``."""
    return [call for call in app.supervisor.rpc.calls if call.partition(" ")[0] in methods]


def try_out(app: App, release: str) -> None:
    """Warm up a release."""
    shutil.copy(app.paths.path(release) / "supervisor.conf", app.paths.trial / f"{app.programs.name(release)}.conf")
    app.supervisor.start(app.programs.name(release))


def names(folder: Path) -> list[str]:
    """The names in a folder; none if it does not exist."""
    return sorted(os.listdir(folder)) if folder.exists() else []


# warm


@pytest.fixture
def workers() -> list[dict[str, Any]]:
    """The workers for the stats socket."""
    return [{"id": number, "requests": 1, "status": "idle"} for number in (1, 2)]


@pytest.fixture
def start(app: App, workers: list[dict[str, Any]]) -> Iterator[Callable[..., list[Any]]]:
    """A function that sets the answers of A for its start; it returns the list of its servers."""
    with ExitStack() as stack:

        def prepare(answer: Any = OK) -> list[Any]:
            servers: list[Any] = []

            def listen(_: str) -> None:
                run = app.paths.path(A) / "run"
                servers.append(stack.enter_context(uwsgi_server(run / "uwsgi.sock", answer)))
                servers.append(stack.enter_context(stats_server(run / "stats.sock", lambda: {"workers": workers})))

            app.supervisor.rpc.on_start = listen
            return servers

        yield prepare


@pytest.fixture
def hasty(app: App, staged: Path) -> App:
    """The app, whose release A has little time to become warm."""
    record = app.paths.record(A)
    record["inputs"]["entry"]["health"]["timeout_seconds"] = 0.2
    write_json(staged / "release.json", record)
    return app


def test_a_release_is_warm_when_every_worker_has_answered(app: App, staged: Path, start) -> None:
    start()
    warm_up.warm_up(app, A)
    assert app.supervisor.is_running(PROGRAM)


def test_a_warm_release_is_what_next_points_at(app: App, staged: Path, start) -> None:
    """A client that got its page from another host finds its static files here, too."""
    start()
    (app.paths.home / "next").symlink_to(f"releases/{C}")
    warm_up.warm_up(app, A)
    assert os.readlink(app.paths.home / "next") == f"releases/{A}"


def test_a_warm_release_is_forgotten_by_a_reboot(app: App, staged: Path, start) -> None:
    start()
    warm_up.warm_up(app, A)
    assert (app.paths.trial / f"{PROGRAM}.conf").read_text() == RELEASE.files["supervisor.conf"]
    assert (names(app.paths.conf_d), app.paths.live()) == ([], None)


def test_a_release_that_was_kept_warm_stays_registered(app: App, switch: Switch, start) -> None:
    switch(A, B)
    run = app.paths.path(A) / "run"
    workers = [{"id": 1, "requests": 1, "status": "idle"}]
    with uwsgi_server(run / "uwsgi.sock"), stats_server(run / "stats.sock", lambda: {"workers": workers}):
        warm_up.warm_up(app, A)
    assert (names(app.paths.trial), names(app.paths.conf_d)) == ([], [f"blog-{A}.conf", f"blog-{B}.conf"])


def test_the_health_path_is_asked_as_a_client_asks(app: App, staged: Path, start) -> None:
    servers = start()
    warm_up.warm_up(app, A)
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


@pytest.mark.parametrize(("processes", "asked"), [(2, 2), (0, 5)], ids=["as many as asked for", "one per core"])
def test_every_process_is_asked(
    app: App, stage: Stage, start, monkeypatch: pytest.MonkeyPatch, processes: int, asked: int
) -> None:
    stage(A, processes=processes)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    servers = start()
    warm_up.warm_up(app, A)
    assert len(servers[0].requests) == asked


def test_the_health_path_is_asked_until_every_worker_has_answered(
    app: App, staged: Path, start, workers: list[dict[str, Any]]
) -> None:
    workers[1]["requests"] = 0
    answered = []

    def answer(_: dict[str, str]) -> bytes:
        answered.append(1)
        workers[1]["requests"] = int(len(answered) > 4)
        return OK

    start(answer)
    warm_up.warm_up(app, A)
    assert len(answered) > 4


LOADING = b"HTTP/1.1 503 Service Unavailable\r\n\r\nloading"


@pytest.mark.parametrize(
    ("recovers", "problem"),
    [((1, 2), None), ((1,), "answered 503: loading, after"), ((), "answered 503: loading, after")],
)
def test_an_app_that_fails_at_first_may_recover_in_every_worker(
    hasty: App, start, workers: list[dict[str, Any]], recovers: tuple[int, ...], problem: str | None
) -> None:
    """One worker may always fail while the others answer."""
    answers = iter([LOADING] * 3)

    def answer(_: dict[str, str]) -> bytes:
        said = next(answers, OK if recovers else LOADING)
        for worker in workers:
            worker["requests"] += said is OK and worker["id"] in recovers
        return said

    start(answer)
    with pytest.raises(ReleaseFailed, match=problem) if problem else nullcontext():
        warm_up.warm_up(hasty, A)


def test_a_program_that_runs_already_is_not_started_again(app: App, staged: Path, start) -> None:
    start()
    for _ in range(2):
        warm_up.warm_up(app, A)
    assert calls(app, "startProcessGroup") == [f"startProcessGroup {PROGRAM}"]


def test_a_worker_that_is_cheaped_need_not_answer(hasty: App, start, workers: list[dict[str, Any]]) -> None:
    workers[1] |= {"requests": 0, "status": "cheap"}
    start()
    warm_up.warm_up(hasty, A)


# refused


@pytest.mark.parametrize(
    ("life", "problem"),
    [
        ([("RUNNING", 1), ("EXITED", 0)], "its program ended"),
        ([("STARTING", 1), ("STARTING", 1), ("BACKOFF", 0)], "its program ended"),
        ([("RUNNING", 1), ("RUNNING", 1), ("RUNNING", 2)], "its program ended"),
        ([("RUNNING", 1)], r"it does not listen, after 0\.2 seconds"),
    ],
    ids=["it ends", "it ends at once", "it was restarted", "it does not listen"],
)
def test_a_program_that_does_not_stay_is_refused(hasty: App, life: list[State], problem: str) -> None:
    hasty.supervisor.rpc.life = life
    with pytest.raises(
        ReleaseFailed, match=rf"^blog {A} did not get warm: {problem}\. The release was removed, and its log"
    ):
        warm_up.warm_up(hasty, A)


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
def test_an_app_that_is_not_healthy_is_refused(hasty: App, start, answer: Any, problem: str) -> None:
    start(answer)
    with pytest.raises(ReleaseFailed, match=rf"/healthz\?deep=1 {problem}, after 0\.2 seconds"):
        warm_up.warm_up(hasty, A)


def test_an_app_with_a_worker_that_never_answers_is_refused(hasty: App, start, workers: list[dict[str, Any]]) -> None:
    workers[1]["requests"] = 0
    start()
    with pytest.raises(ReleaseFailed, match=r"workers \[2\] have not answered, after 0\.2 seconds"):
        warm_up.warm_up(hasty, A)


def test_a_program_that_supervisor_cannot_read_is_refused(app: App, staged: Path) -> None:
    """Otherwise Supervisor could not read the files of any other app."""
    (staged / "supervisor.conf").write_text("not a section")
    with pytest.raises(ReleaseFailed, match="CANT_REREAD"):
        warm_up.warm_up(app, A)
    assert names(app.paths.trial) == []
    app.supervisor.rpc.reloadConfig()


BANNER = """*** Starting uWSGI 2.0.31 (64bit) on [Sun Nov 22 12:00:00 2026] ***
*** Operational MODE: preforking ***
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "".join(f"line {number}\n" for number in range(100)) + "the end\n",
            r"line 0\n(line \d+\n){19}… 41 lines …\nline 61\n(line \d+\n){38}the end",
        ),
        (f"[uWSGI] getting INI configuration from /x\n{BANNER}ImportError: blog\n", "ImportError: blog"),
        (
            f"[uWSGI] getting INI configuration from /x\nrealpath() failed\n"
            f"[uWSGI] getting INI configuration from /x\n{BANNER}ended\n",
            r"\[uWSGI\] getting INI configuration from /x\nrealpath\(\) failed\nended",
        ),
        ("ImportError: \udcff\n", "ImportError: \ufffd"),
        ("", r"\(it wrote nothing\)"),
        (None, r"\(it wrote nothing\)"),
    ],
    ids=["long", "what uWSGI says", "a start that failed before", "not UTF-8", "empty", "no log"],
)
def test_a_refusal_has_the_end_of_the_log(hasty: App, log: str | None, words: str) -> None:
    if log is not None:
        hasty.supervisor.rpc.on_start = lambda _: (hasty.paths.logs / f"{A}.log").write_text(
            log, errors="surrogateescape"
        )
    with pytest.raises(ReleaseFailed, match=rf"Its log:\n{words}$"):
        warm_up.warm_up(hasty, A)


def test_a_release_that_was_live_once_stays_with_its_log(hasty: App) -> None:
    journal = hasty.paths.journal()
    journal.history += [{"release": release, "since": "", "by": ""} for release in (A, B)]
    journal.save()
    log = hasty.paths.logs / f"{A}.log"
    hasty.supervisor.rpc.on_start = lambda _: log.write_text("ImportError")
    with pytest.raises(ReleaseFailed, match=r"\. Its log:\nImportError$") as refused:
        warm_up.warm_up(hasty, A)
    assert "was removed" not in str(refused.value)
    assert log.read_text() == "ImportError"


def test_the_beginning_and_the_end_of_a_log_are_shown(app: App, staged: Path) -> None:
    """The app writes what it likes: a gigabyte in one line, or uWSGI's words again and again."""
    with (app.paths.logs / f"{A}.log").open("wb") as log:
        log.write(b"first\n" + b"[uWSGI] getting INI configuration from /x\n" * 5_000)
        log.truncate(1 << 30)
        log.seek(0, os.SEEK_END)
        log.write(b"x" * 10_000_000 + b"\nlast\n")
    tracemalloc.start()
    words = release_log.excerpt(app.paths, A).splitlines()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (words[0], words[20], words[-1], len(words)) == ("first", "…", "last", 61)
    assert (max(map(len, words)), peak < 30_000_000) == (LINE, True)


@pytest.mark.parametrize(("rotated", "words"), [(False, "new"), (True, "rotated")])
def test_a_refusal_has_no_log_of_an_earlier_run(hasty: App, rotated: bool, words: str) -> None:
    log = hasty.paths.logs / f"{A}.log"
    log.write_text("yesterday's words\n" * 9)
    hasty.supervisor.rpc.on_start = lambda _: log.write_text("rotated\n" if rotated else log.read_text() + "new\n")
    with pytest.raises(ReleaseFailed, match=rf"Its log:\n{words}$"):
        warm_up.warm_up(hasty, A)


def test_a_refused_release_leaves_nothing(hasty: App, start, snapshot) -> None:
    before = snapshot(hasty.paths.conf_d)
    for name in (f"{A}.log", f"{A}.log.1", "other.log"):
        (hasty.paths.logs / name).touch()
    start(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
    with pytest.raises(ReleaseFailed):
        warm_up.warm_up(hasty, A)
    assert (hasty.programs.registered(), names(hasty.paths.trial), hasty.paths.target("next")) == (set(), [], None)
    assert [names(hasty.paths.home / name) for name in ("releases", "venvs")] == [[], []]
    assert names(hasty.paths.logs) == ["other.log"]
    assert snapshot(hasty.paths.conf_d) == before


def test_a_refused_release_is_killed_at_once_with_its_workers(hasty: App, killed: Killed) -> None:
    with pytest.raises(ReleaseFailed):
        warm_up.warm_up(hasty, A)
    assert killed == [(4711, signal.SIGKILL)]


def test_a_refused_release_leaves_the_live_one_alone(hasty: App, switch: Switch, snapshot, killed: Killed) -> None:
    switch(B)
    hasty.supervisor.rpc.run(f"blog-{B}", ("RUNNING", 815))
    before = [snapshot(folder) for folder in (hasty.paths.path(B), hasty.paths.conf_d)]
    with pytest.raises(ReleaseFailed):
        warm_up.warm_up(hasty, A)
    assert [snapshot(folder) for folder in (hasty.paths.path(B), hasty.paths.conf_d)] == before
    assert (hasty.paths.live(), hasty.supervisor.rpc.states()) == (B, {f"blog-{B}": "RUNNING"})
    assert 815 not in dict(killed)


def test_a_refused_release_that_was_live_before_stays_on_disk(app: App, switch: Switch) -> None:
    switch(A, B)
    app.supervisor.stop([PROGRAM], 0)
    app.supervisor.rpc.life = [("RUNNING", 4711), ("EXITED", 0)]
    with pytest.raises(ReleaseFailed):
        warm_up.warm_up(app, A)
    assert (app.paths.on_disk(), app.programs.registered()) == ([A, B], {B})


def test_a_release_that_never_ran_can_be_discarded(app: App, staged: Path) -> None:
    warm_up.discard(app, A)
    assert app.paths.on_disk() == []


# live


@pytest.fixture
def warm(app: App, staged: Path) -> App:
    """The app with a first release that is warm."""
    try_out(app, A)
    (app.paths.home / "next").symlink_to(f"releases/{A}")
    return app


def test_a_live_release_is_what_current_points_at(warm: App) -> None:
    switching.switch(warm, A, ME, "deploy")
    assert os.readlink(warm.paths.home / "current") == f"releases/{A}"
    assert (warm.paths.live(), warm.paths.target("next"), warm.paths.target("previous")) == (A, None, None)


def test_a_live_release_starts_after_a_reboot(warm: App) -> None:
    switching.switch(warm, A, ME, "deploy")
    assert (warm.paths.conf_d / f"{PROGRAM}.conf").read_text() == RELEASE.files["supervisor.conf"]
    assert names(warm.paths.trial) == []


def test_a_switch_touches_no_process(warm: App, killed: Killed) -> None:
    before = list(warm.supervisor.rpc.calls)
    switching.switch(warm, A, ME, "deploy")
    assert (warm.supervisor.rpc.calls, killed) == (before, [])


def test_the_journal_records_a_switch(warm: App, set_time: Callable[[str], None]) -> None:
    set_time("2026-11-22T17:30:00Z")
    switching.switch(warm, A, ME, "deploy")
    assert warm.paths.journal().history == [
        {
            "release": A,
            "since": "2026-11-22T17:30:00Z",
            "by": ME,
            "what": "deploy",
            "source": {"path": "/home/me/blog"},
        }
    ]


def test_the_live_log_has_a_name_that_stays(switch: Switch) -> None:
    app = switch(A, B)
    assert os.readlink(app.paths.logs / "current.log") == f"{B}.log"


def test_previous_points_at_the_release_that_was_live(switch: Switch) -> None:
    app = switch(A, B)
    assert os.readlink(app.paths.home / "previous") == f"releases/{A}"


def test_a_restart_leaves_previous_alone(switch: Switch) -> None:
    """Clients have pages of the previous release; the restarted one has the same files as before."""
    app = switch(A, B)
    staging.copy(app.paths, B)
    switch(f"{B}.1", what="restart")
    assert (app.paths.live(), app.paths.target("previous")) == (f"{B}.1", A)


@pytest.mark.parametrize(("what", "voided"), [("deploy", set()), ("restart", set()), ("rollback", {B})])
def test_a_rollback_voids_what_it_leaves(switch: Switch, what: str, voided: set[str]) -> None:
    app = switch(A, B)
    switch(A, what=what)
    assert app.paths.journal().voided.keys() == voided


def test_a_rollback_records_the_user_that_voided_a_release(switch: Switch, set_time: Callable[[str], None]) -> None:
    app = switch(A, B)
    set_time("2026-11-22T17:30:00Z")
    switch(A, what="rollback")
    assert app.paths.journal().voided == {B: {"since": "2026-11-22T17:30:00Z", "by": ME}}


def test_a_rollback_from_a_restart_voids_its_release(switch: Switch) -> None:
    app = switch(A, B)
    staging.copy(app.paths, B)
    switch(f"{B}.1", what="restart")
    switch(A, what="rollback")
    assert app.paths.journal().voided.keys() == {B}


def test_a_voided_release_that_is_live_again_is_voided_no_longer(switch: Switch) -> None:
    app = switch(A, B)
    switch(A, what="rollback")
    switch(B)
    switch(A)
    assert app.paths.journal().voided == {}


def test_a_release_that_ended_before_the_switch_is_refused(switch: Switch, stage: Stage) -> None:
    app = switch(A)
    stage(B)
    try_out(app, B)
    (app.paths.logs / f"{B}.log").write_text("Killed\n")
    app.supervisor.rpc.run(f"blog-{B}", ("EXITED", 0))
    with pytest.raises(ReleaseFailed, match=rf"^blog {B} ended before the switch. Its log:\nKilled$"):
        switching.switch(app, B, ME, "deploy")
    assert (app.paths.live(), app.paths.on_disk(), app.programs.registered()) == (A, [A], {A})
    assert app.paths.journal().newest_first() == [A]


@pytest.mark.parametrize("what", ["deploy", "rollback"])
def test_after_an_interrupted_switch_a_reboot_starts_what_current_points_at(
    switch: Switch, stage: Stage, what: str
) -> None:
    """The journal agrees, and another run finishes the switch."""
    app = switch(A)
    stage(B)
    journal = app.paths.journal_file.read_bytes()

    def begin() -> None:
        (app.paths.home / "current").unlink()
        (app.paths.home / "current").symlink_to(f"releases/{A}")
        app.paths.journal_file.write_bytes(journal)
        (app.paths.conf_d / f"blog-{B}.conf").unlink(missing_ok=True)
        try_out(app, B)

    begin()
    seen = set()
    for number in interruptions(lambda _: switching.switch(app, B, ME, what)):
        where = f"interrupted before step {number}"
        live = app.paths.live()
        seen.add(live)
        assert f"blog-{live}.conf" in names(app.paths.conf_d), where
        assert app.paths.journal().newest_first() == ([A] if live == A else [B, A]), where
        assert live not in app.paths.journal().voided, where
        if live == A:
            switching.switch(app, B, ME, what)
            assert (app.paths.live(), app.paths.journal().newest_first()) == (B, [B, A]), where
        begin()
    assert seen == {A, B}
    assert app.paths.journal().voided.keys() == ({A} if what == "rollback" else set())


def test_a_program_is_registered_for_good_before_current_moves(warm: App, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []
    real = switching.point_symlink

    def look(link: Path, target: str) -> None:
        if link.name == "current":
            announced = [entry["release"] for entry in read_json(warm.paths.journal_file)["history"]]
            registered.append((names(warm.paths.conf_d), warm.paths.live(), announced))
        real(link, target)

    monkeypatch.setattr(switching, "point_symlink", look)
    switching.switch(warm, A, ME, "deploy")
    assert registered == [([f"{PROGRAM}.conf"], None, [A])]


def test_a_later_run_cleans_up_an_interrupted_first_release(warm: App, stage: Stage) -> None:
    """Otherwise it would start at each boot, and a rollback would switch to it."""
    for number in interruptions(lambda _: switching.switch(warm, A, ME, "first release")):
        if not warm.paths.live():
            warm_up.clean_up(warm, B, keep_warm=False)
            assert (warm.programs.registered(), warm.paths.on_disk()) == (set(), []), (
                f"interrupted before step {number}"
            )
            write_json(warm.paths.journal_file, {"user": True})
            stage(A)
            try_out(warm, A)
        (warm.paths.home / "current").unlink(missing_ok=True)


# kept running


@pytest.fixture
def live(switch: Switch) -> App:
    """The app with the live release A, which has no further programs."""
    return switch(A)


@pytest.fixture
def mailing(switch: Switch) -> App:
    """The app with the live release A, which has a mailer."""
    app = switch(A, programs=MAILER)
    app.programs.swap_further()
    app.supervisor.rpc.calls.clear()
    return app


def test_a_live_release_runs(live: App) -> None:
    assert live.programs.is_running(A)


STOPS: list[tuple[str, Callable[[App], object]]] = [
    ("stopped", lambda app: app.supervisor.rpc.run(PROGRAM, ("STOPPED", 0))),
    ("ended", lambda app: app.supervisor.rpc.run(PROGRAM, ("EXITED", 0))),
    ("fatal", lambda app: app.supervisor.rpc.run(PROGRAM, ("FATAL", 0))),
    ("forgotten by Supervisor", lambda app: app.supervisor.rpc.programs.clear()),
    ("not registered", lambda app: (app.paths.conf_d / f"{PROGRAM}.conf").unlink()),
    ("registered otherwise", lambda app: (app.paths.conf_d / f"{PROGRAM}.conf").write_text("[program:x]\n")),
]
MAILER_STOPS: list[tuple[str, Callable[[App], object]]] = [
    ("mailer stopped", lambda app: app.supervisor.rpc.run(f"{PROGRAM}-mailer", ("STOPPED", 0))),
    ("mailer not registered", lambda app: (app.paths.conf_d / f"{PROGRAM}.programs.conf").unlink()),
    (
        "mailer registered otherwise",
        lambda app: (app.paths.conf_d / f"{PROGRAM}.programs.conf").write_text("[program:x]\n"),
    ),
]


@pytest.mark.parametrize("stop", [pytest.param(stop, id=name) for name, stop in STOPS + MAILER_STOPS])
def test_a_live_release_that_does_not_run_is_run_again(mailing: App, stop: Callable[[App], object]) -> None:
    assert mailing.programs.is_running(A)
    stop(mailing)
    assert not mailing.programs.is_running(A)
    mailing.programs.start(A)
    assert mailing.programs.is_running(A)
    assert (mailing.paths.conf_d / f"{PROGRAM}.conf").read_text() == RELEASE.files["supervisor.conf"]


def test_a_live_release_that_does_not_start_is_a_failure_with_the_end_of_its_log(live: App) -> None:
    live.supervisor.rpc.run(PROGRAM, ("EXITED", 0))
    live.supervisor.rpc.life = [("STARTING", 1), ("BACKOFF", 0)]
    (live.paths.logs / f"{A}.log").write_text("ImportError\n")
    with pytest.raises(ReleaseFailed, match=rf"^blog {A} does not start. Its log:\nImportError$"):
        live.programs.start(A)


def test_a_program_that_runs_is_registered_again_without_a_restart(live: App) -> None:
    (live.paths.conf_d / f"{PROGRAM}.conf").unlink()
    live.supervisor.rpc.calls.clear()
    live.programs.start(A)
    assert calls(live, "startProcessGroup", "stopProcessGroup") == []


def test_a_start_touches_no_other_program(live: App) -> None:
    live.supervisor.rpc.run("shop", ("STOPPED", 0))
    live.programs.start(A)
    assert live.supervisor.rpc.states()["shop"] == "STOPPED"


@pytest.mark.parametrize(
    ("leave", "keep_warm", "settled"),
    [
        (lambda app: None, False, True),
        (lambda app: app.supervisor.rpc.run(f"blog-{B}", ("FATAL", 0)), False, False),
        (lambda app: app.supervisor.rpc.run(f"blog-{A}"), False, False),
        (lambda app: app.supervisor.rpc.run(f"blog-{A}"), True, True),
        (lambda app: (app.paths.trial / f"blog-{C}.conf").touch(), True, False),
        (lambda app: app.supervisor.rpc.run(f"blog-{A}-mailer"), False, False),
    ],
    ids=["nothing", "what is live has ended", "the one before", "it was to stay", "a trial", "a further program"],
)
def test_an_app_is_settled_if_only_the_live_release_runs(
    switch: Switch, leave: Callable[[App], object], keep_warm: bool, settled: bool
) -> None:
    app = switch(A, B)
    warm_up.clean_up(app, None, keep_warm=False)
    leave(app)
    assert switching.is_settled(app, keep_warm) == settled


def test_an_app_without_a_release_is_not_settled(app: App) -> None:
    assert not switching.is_settled(app, False)


# further programs


def test_workers_are_those_of_the_live_release(mailing: App, switch: Switch) -> None:
    switch(B, programs=MAILER)
    assert f"{PROGRAM}-mailer" in mailing.supervisor.known()
    mailing.programs.swap_further()
    assert {name for name in mailing.supervisor.known() if name.endswith("mailer")} == {f"blog-{B}-mailer"}
    assert mailing.supervisor.is_running(f"blog-{B}-mailer")


def test_workers_start_with_the_host(mailing: App, switch: Switch) -> None:
    switch(B, programs=MAILER)
    mailing.programs.swap_further()
    registered = {path.name: path.read_text() for path in mailing.paths.conf_d.glob("*.programs.conf")}
    assert registered == {f"blog-{B}.programs.conf": f"[program:blog-{B}-mailer]\n"}


def test_an_old_worker_has_ended_before_the_new_one_starts(mailing: App, switch: Switch, clock: Clock) -> None:
    """Two schedulers would run every job twice."""
    switch(B, programs=MAILER)
    supervisor, old, new = mailing.supervisor.rpc, f"{PROGRAM}-mailer", f"blog-{B}-mailer"
    supervisor.end = [("STOPPING", 4711)]
    clock.at[clock.passed + 44] = lambda: supervisor.run(old, ("STOPPED", 0))
    known = []
    supervisor.on_start = lambda program: known.append((program, old in supervisor.programs))
    mailing.programs.swap_further()
    assert known == [(new, False)]


def test_a_swap_is_done_once(mailing: App) -> None:
    mailing.programs.swap_further()
    assert calls(mailing, "startProcessGroup", "stopProcessGroup") == []


def test_a_worker_that_a_release_has_no_more_ends(mailing: App, switch: Switch) -> None:
    switch(B)
    mailing.programs.swap_further()
    assert (mailing.supervisor.known(), names(mailing.paths.conf_d)) == (
        {PROGRAM, f"blog-{B}"},
        [f"{PROGRAM}.conf", f"blog-{B}.conf"],
    )


def test_a_worker_of_a_removed_release_is_stopped(mailing: App, switch: Switch) -> None:
    switch(B)
    shutil.rmtree(mailing.paths.path(A))
    mailing.programs.swap_further()
    assert f"{PROGRAM}-mailer" not in mailing.supervisor.known()


def test_a_swap_touches_no_other_apps_programs(mailing: App, switch: Switch) -> None:
    others = ["blog-http", f"shop-{A}-mailer", f"blog-shop-{A}-mailer", "blog-mailer"]
    for program in others:
        mailing.supervisor.rpc.run(program)
        (mailing.paths.conf_d / f"{program}.programs.conf").write_text(f"[program:{program}]\n")
    switch(B)
    mailing.programs.swap_further()
    assert mailing.supervisor.known() == {PROGRAM, f"blog-{B}", *others}
    assert names(mailing.paths.conf_d) == sorted(
        [f"{PROGRAM}.conf", f"blog-{B}.conf", *(f"{program}.programs.conf" for program in others)]
    )


@pytest.mark.parametrize(
    "change", [lambda app: app.programs.swap_further(), lambda app: warm_up.clean_up(app, None, keep_warm=False)]
)
def test_an_app_named_like_another_apps_worker_is_left_alone(
    mailing: App, switch: Switch, change: Callable[[App], object]
) -> None:
    """``blog-202401011200-eu`` is an app, unless ``blog`` has such a release."""
    others = {f"blog-202401011200-eu-{C}", f"blog-202401011200-eu-{C}-mailer", "blog-202401011200-http"}
    for program in others:
        mailing.supervisor.rpc.run(program)
    switch(B)
    change(mailing)
    assert others <= mailing.supervisor.known()
    assert mailing.programs.registered() <= {A, B}
    assert not any(map(mailing.programs.owns, others))
    assert mailing.programs.owns("blog-http")


@pytest.mark.parametrize("before", [None, "[program:x]\n"], ids=["none", "an older one"])
def test_programs_that_supervisor_refuses_change_nothing(live: App, stage: Stage, switch: Switch, before) -> None:
    """At its next start it would refuse to run any app."""
    switch(B, programs=MAILER)
    live.programs.swap_further()
    running = live.supervisor.known()
    registered = live.paths.conf_d / f"blog-{B}.programs.conf"
    registered.write_text(before) if before else registered.unlink()
    (live.paths.path(B) / "programs.conf").write_text(f"[program:blog-{B}-mailer]\nno option\n")
    outcome = "from before was restored" if before else "was removed"
    words = rf"^blog: Supervisor refuses blog-{B}.programs.conf \(CANT_REREAD.*; the file {outcome}\."
    with pytest.raises(ReleaseFailed, match=words):
        live.programs.swap_further()
    assert (registered.read_text() if registered.exists() else None) == before
    live.supervisor.reload()
    assert live.supervisor.known() == running


def test_a_refused_file_that_was_there_already_goes(live: App) -> None:
    """An interrupted run has left it."""
    file = live.paths.conf_d / f"{PROGRAM}.programs.conf"
    file.write_text("[program:x]\nno option\n")
    with pytest.raises(ReleaseFailed):
        live.programs.register(file, file.read_bytes())
    assert not file.exists()


def test_a_router_that_supervisor_refuses_is_not_registered(app: App, environment: Environment) -> None:
    staging.prepare(app.paths)
    with pytest.raises(ReleaseFailed, match=r"Supervisor refuses blog-http\.conf"):
        http_router.configure(app, "no section", environment)
    assert names(app.paths.conf_d) == []


def test_a_worker_that_does_not_stay_up_is_named_and_left_to_supervisor(live: App, switch: Switch) -> None:
    switch(B, programs={**MAILER, "clock": {"command": "python -m blog.clock"}})
    life = {f"blog-{B}-mailer": [("STARTING", 1), ("BACKOFF", 0)], f"blog-{B}-clock": [("RUNNING", 2)]}
    supervisor = live.supervisor.rpc
    supervisor.on_start = lambda program: setattr(supervisor, "life", life[program])
    with pytest.raises(
        ReleaseFailed, match=rf"^blog: blog-{B}-mailer does not stay up; {B} is live, .*{live.paths.logs}/$"
    ):
        live.programs.swap_further()
    assert (supervisor.states()[f"blog-{B}-clock"], supervisor.states()[f"blog-{B}-mailer"]) == ("RUNNING", "BACKOFF")
    assert f"blog-{B}.programs.conf" in names(live.paths.conf_d)


# secrets


@pytest.fixture
def kept_warm(switch: Switch) -> App:
    """The app with B live and A beside it for a rollback."""
    return switch(A, B)


def test_new_secrets_stop_a_warm_release_with_old_ones(kept_warm: App) -> None:
    """A rollback would switch to it with the old secrets. The live release is never stopped for new secrets."""
    warm_up.provide_files(kept_warm, A, SECRETS)
    assert (kept_warm.programs.registered(), secret_files.has_set(kept_warm.paths, A, SECRETS)) == ({B}, True)
    warm_up.provide_files(kept_warm, B, SECRETS)
    assert kept_warm.programs.registered() == {B}


def test_the_same_secrets_stop_nothing(kept_warm: App) -> None:
    warm_up.provide_files(kept_warm, A, NO_SECRETS)
    assert kept_warm.programs.registered() == {A, B}


def test_an_interrupted_change_of_secrets_is_finished(kept_warm: App, switch: Switch) -> None:
    for number in interruptions(lambda _: warm_up.provide_files(kept_warm, A, SECRETS)):
        warm_up.provide_files(kept_warm, A, SECRETS)
        assert kept_warm.programs.registered() == {B}, f"interrupted before step {number}"
        warm_up.provide_files(kept_warm, A, NO_SECRETS)
        switch(A, B)


# leftovers of interrupted runs


@pytest.fixture
def left(switch: Switch, stage: Stage) -> App:
    """The app with B live, A running that was live before, and C running that never was."""
    app = switch(A, B)
    stage(C)
    try_out(app, C)
    return app


@pytest.mark.parametrize(
    ("target", "keep_warm", "running", "on_disk"),
    [
        (None, False, {B}, [A, B]),
        (None, True, {A, B}, [A, B]),
        (C, False, {B, C}, [A, B, C]),
        (A, False, {A, B}, [A, B]),
        (A, True, {A, B}, [A, B]),
    ],
    ids=["for nobody", "but for a rollback", "for it", "for a rollback", "for a rollback to what is warm"],
)
def test_leftover_releases_are_stopped(
    left: App, target: str | None, keep_warm: bool, running: set[str], on_disk: list[str]
) -> None:
    """A release that was live stays on disk."""
    warm_up.clean_up(left, target, keep_warm)
    assert {release for release in (A, B, C) if left.supervisor.is_running(f"blog-{release}")} == running
    assert (left.programs.registered(), left.paths.on_disk(), left.paths.live()) == (running, on_disk, B)


def test_a_release_that_was_never_live_is_killed_and_others_are_drained(
    left: App, killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = set()
    monkeypatch.setattr(app_programs, "unix_connections", lambda path: looked_at.add(path) or 0)
    left.supervisor.rpc.run(f"blog-{C}", ("RUNNING", 815))
    warm_up.clean_up(left, None, keep_warm=False)
    assert killed == [(815, signal.SIGKILL)]
    assert looked_at == {f"{left.paths.path(A)}/run/uwsgi.sock"}


def test_the_previous_release_is_kept_warm(switch: Switch) -> None:
    app = switch(A, B, C)
    warm_up.clean_up(app, None, keep_warm=True)
    assert app.programs.registered() == {B, C}


def test_a_voided_release_is_not_kept_warm(switch: Switch) -> None:
    app = switch(A, B)
    switch(A, what="rollback")
    warm_up.clean_up(app, None, keep_warm=True)
    assert app.programs.registered() == {A}


def test_partly_staged_and_unused_releases_are_removed(live: App, stage: Stage) -> None:
    stage(B)
    live.paths.path(f".{C}").mkdir()
    warm_up.clean_up(live, None, keep_warm=False)
    assert names(live.paths.home / "releases") == [A]


def test_a_target_that_runs_and_is_not_on_disk_is_ended(left: App, killed: Killed) -> None:
    left.paths.path(C).rename(left.paths.home / "away")
    warm_up.clean_up(left, C, keep_warm=False)
    assert not left.supervisor.processes(f"blog-{C}")
    assert killed


def test_leftovers_are_stopped_even_if_no_release_is_live(app: App, stage: Stage) -> None:
    for release in (A, B):
        stage(release)
        try_out(app, release)
    warm_up.clean_up(app, B, keep_warm=False)
    assert (app.programs.registered(), app.paths.on_disk()) == ({B}, [B])


def test_no_other_apps_programs_are_stopped(left: App) -> None:
    others = [f"shop-{A}", f"blog-shop-{A}", "blog-http", "blogs"]
    for program in others:
        left.supervisor.rpc.run(program)
        (left.paths.trial / f"{program}.conf").write_text(f"[program:{program}]\n")
    warm_up.clean_up(left, None, keep_warm=False)
    assert left.supervisor.known() == {f"blog-{B}", *others}
    assert names(left.paths.trial) == sorted(f"{program}.conf" for program in others)


def test_a_host_without_the_app_has_no_leftovers(app: App) -> None:
    warm_up.clean_up(app, A, keep_warm=False)
    assert not app.paths.home.exists()


def test_a_program_whose_folders_were_deleted_by_hand_ends(live: App) -> None:
    shutil.rmtree(live.paths.home)
    warm_up.clean_up(live, B, keep_warm=False)
    assert live.programs.registered() == set()


# retired


def test_an_old_release_is_stopped_and_kept_on_disk(switch: Switch) -> None:
    app = switch(A, B)
    switching.retire(app, 5, keep_warm=False)
    assert (app.programs.registered(), names(app.paths.conf_d), app.paths.on_disk()) == (
        {B},
        [f"blog-{B}.conf"],
        [A, B],
    )
    assert switching.is_settled(app, False)


def test_the_previous_release_may_keep_running(switch: Switch) -> None:
    app = switch(A, B, C)
    switching.retire(app, 5, keep_warm=True)
    assert app.programs.registered() == {B, C}
    assert switching.is_settled(app, True)


def test_older_releases_are_pruned(switch: Switch) -> None:
    app = switch(A, B, C)
    switching.retire(app, 2, keep_warm=False)
    assert app.paths.on_disk() == [B, C]


def test_a_release_that_a_worker_still_runs_stays_on_disk(mailing: App, switch: Switch) -> None:
    switch(B, C, programs=MAILER)
    mailing.supervisor.rpc.run(f"blog-{C}", ("FATAL", 0))
    mailing.supervisor.rpc.life = [("BACKOFF", 0)]
    with pytest.raises(ReleaseFailed, match=f"^blog {C} does not start"):
        switching.retire(mailing, 2, keep_warm=False)
    assert (mailing.programs.registered(), mailing.paths.on_disk()) == ({A, C}, [A, B, C])


def test_retiring_swaps_the_workers(mailing: App, switch: Switch) -> None:
    switch(B, programs=MAILER)
    switching.retire(mailing, 5, keep_warm=False)
    assert mailing.supervisor.known() == {f"blog-{B}", f"blog-{B}-mailer"}


def test_retiring_starts_a_stopped_live_release(switch: Switch) -> None:
    app = switch(A, B)
    app.supervisor.rpc.run(f"blog-{B}", ("FATAL", 0))
    switching.retire(app, 5, keep_warm=False)
    assert app.supervisor.rpc.states() == {f"blog-{B}": "RUNNING"}


@pytest.mark.parametrize("stop", [pytest.param(stop, id=name) for name, stop in STOPS + MAILER_STOPS])
def test_retiring_leaves_a_settled_app(mailing: App, stop: Callable[[App], object]) -> None:
    """Otherwise a deploy of the live release would repair it each time."""
    stop(mailing)
    assert not switching.is_settled(mailing, False)
    switching.retire(mailing, 5, keep_warm=False)
    assert switching.is_settled(mailing, False)


def test_old_releases_are_retired_even_if_a_worker_fails(mailing: App, switch: Switch) -> None:
    switch(B, C, programs=MAILER)
    mailing.rollout_lock.acquire(ROLLOUT)
    mailing.supervisor.rpc.life = [("BACKOFF", 0)]
    with pytest.raises(ReleaseFailed, match=f"blog-{C}-mailer does not stay up"):
        switching.retire(mailing, 2, keep_warm=False)
    assert (mailing.programs.registered(), mailing.paths.on_disk(), mailing.rollout_lock.record()) == ({C}, [B, C], {})


def test_the_lock_is_released_even_if_a_program_cannot_be_stopped(switch: Switch) -> None:
    """The run has ended, so the next one must fail with the reason and not with a lock."""
    app = switch(A, B)
    app.rollout_lock.acquire(ROLLOUT)
    app.supervisor.rpc.end = [("STOPPING", 4711)]
    with pytest.raises(Fault, match="STILL_RUNNING"):
        switching.retire(app, 5, keep_warm=False)
    assert app.rollout_lock.record() == {}


def test_the_next_run_finishes_an_interrupted_removal(switch: Switch) -> None:
    """Neither files nor logs."""
    app = switch(A, B, C)
    switching.retire(app, 5, keep_warm=False)
    for number in interruptions(lambda _: switching.retire(app, 2, keep_warm=False)):
        switching.retire(app, 2, keep_warm=False)
        assert names(app.paths.home / "releases") == [B, C], f"interrupted before step {number}"
        assert [name for name in names(app.paths.logs) if name.startswith(A)] == [], f"interrupted before step {number}"
        shutil.copytree(app.paths.path(B), app.paths.path(A), symlinks=True)
        (app.paths.logs / f"{A}.log").touch()


# drained


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clients each poll of a socket finds; the last number stays."""
    counts = [0]
    monkeypatch.setattr(app_programs, "unix_connections", lambda path: counts.pop(0) if len(counts) > 1 else counts[0])
    return counts


@pytest.mark.parametrize(
    ("looks", "enough"),
    [([0, 0, 0], 3), ([1, 1, 0, 0, 0], 5), ([0, 0, 1, 0, 0, 0], 6), ([1, 0, 1, 0, 1, 0, 0, 0], 8)],
    ids=["quiet", "two requests", "one between two looks", "one after the other"],
)
def test_a_socket_is_drained_when_it_stays_quiet(
    switch: Switch, connected: list[int], looks: list[int], enough: int
) -> None:
    app = switch(A, B)
    connected[:] = [*looks, *[9] * 9]
    left = []
    app.supervisor.rpc.on_stop = lambda program: left.append(len(connected))
    warm_up.clean_up(app, None, keep_warm=False)
    assert left == [len(looks) + 9 - enough]


def test_a_drained_release_gets_a_lower_priority_before_it_stops(
    switch: Switch, monkeypatch: pytest.MonkeyPatch, lowered: list[tuple[int, int]]
) -> None:
    app = switch(A, B)
    old = app.supervisor.processes(app.programs.name(A))[0]["pid"]
    seen = []

    def look(_: str) -> int:
        seen.append(("look", *lowered))
        return 0

    monkeypatch.setattr(app_programs, "unix_connections", look)
    app.supervisor.rpc.on_stop = lambda program: seen.append(("stop", *lowered))
    warm_up.clean_up(app, None, keep_warm=False)
    assert seen == [("look",)] * 3 + [("stop", (old, APP_ID))]


def test_a_drain_waits_for_a_request_no_longer_than_clients_do(
    switch: Switch, connected: list[int], clock: Clock
) -> None:
    app = switch(A, B, harakiri_seconds=40)
    connected[:] = [1]
    before = clock.passed
    warm_up.clean_up(app, None, keep_warm=False)
    assert clock.passed - before == pytest.approx(40 + DRAINED_WITHIN, abs=0.5)
    assert app.programs.registered() == {B}


def test_a_client_that_waits_in_the_queue_is_waited_for(switch: Switch, clock: Clock) -> None:
    app = switch(A, B)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(app.paths.path(A) / "run" / "uwsgi.sock"))
        server.listen()
        client.connect(server.getsockname())
        answered_at = clock.passed + 7
        clock.at[answered_at] = lambda: (client.close(), server.accept()[0].close())
        stopped_at = []
        app.supervisor.rpc.on_stop = lambda program: stopped_at.append(clock.passed)
        warm_up.clean_up(app, None, keep_warm=False)
    assert stopped_at == [pytest.approx(answered_at, abs=0.5)]


def test_all_are_drained_at_the_same_time(switch: Switch, connected: list[int], clock: Clock) -> None:
    app = switch(A, B, C)
    connected[:] = [1]
    before = clock.passed
    warm_up.clean_up(app, None, keep_warm=False)
    assert clock.passed - before == pytest.approx(HARAKIRI + DRAINED_WITHIN, abs=0.5)
    assert app.programs.registered() == {C}


def test_a_worker_in_the_middle_of_a_request_has_its_time_to_end(switch: Switch, clock: Clock) -> None:
    app = switch(A, B)
    supervisor = app.supervisor.rpc
    supervisor.end = [("STOPPING", 4711)]
    ends_at = clock.passed + HARAKIRI + STOPPED_WITHIN
    clock.at[ends_at] = lambda: supervisor.run(PROGRAM, ("STOPPED", 0))
    warm_up.clean_up(app, None, keep_warm=False)
    assert clock.passed == pytest.approx(ends_at, abs=0.5)
    assert supervisor.states() == {f"blog-{B}": "RUNNING"}


def test_nothing_to_stop_needs_no_wait(live: App, clock: Clock) -> None:
    live.supervisor.rpc.calls.clear()
    before = clock.passed
    warm_up.clean_up(live, None, keep_warm=False)
    assert (clock.passed - before, live.supervisor.rpc.calls) == (0, [])


# rollouts


@pytest.mark.parametrize("target", [B, C], ids=["after its switch", "before it"])
def test_a_rollback_keeps_the_release_that_was_live(switch: Switch, target: str) -> None:
    app = switch(A, B)
    app.rollout_lock.acquire({**ROLLOUT, "target": target, "before": A if target == B else B})
    assert switching.roll_back(app, keep_warm=False)
    live = A if target == B else B
    assert (app.paths.live(), app.programs.registered(), app.rollout_lock.record()) == (live, {live}, {})


def test_a_rollout_without_a_target_does_not_undo_an_interrupted_one(switch: Switch) -> None:
    app = switch(A, B)
    app.rollout_lock.acquire({**ROLLOUT, "before": A})
    app.rollout_lock.acquire({**ROLLOUT, "process": "desktop 1", "target": None}, break_lock=True)
    before = app.programs.registered()
    assert not switching.roll_back(app, keep_warm=False)
    assert (app.paths.live(), app.programs.registered()) == (B, before)
    app.rollout_lock.acquire({**ROLLOUT, "process": "desktop 2", "target": None}, break_lock=True)
    assert app.rollout_lock.record()["interrupted"] == {"what": "deploy", "target": B, "before": A}


# hooks


@pytest.fixture
def hook(app: App, staged: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A function that runs commands as hooks of the release A."""
    monkeypatch.setattr(os, "killpg", KILLPG)
    return lambda *commands, timeout=10, once=True: hooks.run(app.paths, A, commands, timeout, once)


def shell(text: str) -> str:
    return f'sh -c "{text}"'


def test_a_hooks_command_and_output_are_returned(hook: Callable[..., list[str]]) -> None:
    command = shell("echo \u2603; echo to stderr >&2; printf 'no end'")
    assert hook(command, "true") == [f"$ {command}", "\u2603", "to stderr", "no end", "$ true"]


def test_hooks_run_in_the_releases_environment(hook: Callable[..., list[str]], staged: Path) -> None:
    (staged / "exec").write_text('#!/bin/sh\nVARIABLE=x exec "$@"\n')
    assert hook(shell("echo $VARIABLE"))[1:] == ["x"]


def test_hooks_have_no_input(hook: Callable[..., list[str]]) -> None:
    assert hook("cat") == ["$ cat"]


def test_a_hooks_output_need_not_be_text(hook: Callable[..., list[str]]) -> None:
    assert hook(r"printf '\377'")[1:] == ["\ufffd"]


def test_a_hook_is_done_once_for_a_release(app: App, hook: Callable[..., list[str]], tmp_path: Path) -> None:
    command = f"mkdir {tmp_path}/once"
    hook(command)
    done = app.paths.journal().hooks[A][command]
    assert hook(command, "true") == [f"$ {command}: done at {done}", "$ true"]
    assert app.paths.journal().hooks[A].keys() == {command, "true"}


def test_hooks_run_again_for_another_release(
    app: App, hook: Callable[..., list[str]], stage: Stage, tmp_path: Path
) -> None:
    command = shell(f"echo x >> {tmp_path}/done")
    hook(command)
    stage(B)
    hooks.run(app.paths, B, [command], 10, once=True)
    assert (tmp_path / "done").read_text() == "x\nx\n"


def test_a_restart_of_a_release_has_its_hooks_done(app: App, hook: Callable[..., list[str]]) -> None:
    """If it is deployed again, its migrations must not run again."""
    hook("true")
    assert hooks.run(app.paths, staging.copy(app.paths, A), ["true"], 10, once=True)[0].startswith("$ true: done at ")


def test_a_hook_after_the_switch_runs_each_time(app: App, hook: Callable[..., list[str]]) -> None:
    assert [hook("true", once=False) for _ in range(2)] == [["$ true"]] * 2
    assert A not in app.paths.journal().hooks


def test_no_hook_runs_after_one_that_fails(app: App, hook: Callable[..., list[str]]) -> None:
    command = shell("echo no such table; exit 3")
    with pytest.raises(ReleaseFailed) as failed:
        hook("true", command, "false")
    assert str(failed.value) == f"blog {A}: {command}: ended with 3\nno such table\n"
    assert app.paths.journal().hooks[A].keys() == {"true"}


def test_a_hook_that_cannot_be_read_is_a_failure(hook: Callable[..., list[str]]) -> None:
    with pytest.raises(ReleaseFailed, match="flask 'db upgrade"):
        hook("flask 'db upgrade")


def has_ended(pid: int) -> bool:
    """Whether a process has ended; it may be a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_hook_that_takes_too_long_is_killed_with_all_that_it_has_started(hook: Callable[..., list[str]]) -> None:
    command = shell("echo $$; sleep 60 & echo $!; wait")
    with pytest.raises(ReleaseFailed, match=r"did not end within 0\.3 seconds\n\d+\n\d+\n$") as failed:
        hook(command, timeout=0.3)
    started = [int(line) for line in str(failed.value).splitlines()[1:]]
    end = time.monotonic_ns() + 20 * 10**9
    while not all(map(has_ended, started)) and time.monotonic_ns() < end:
        pass  # the kernel ends them, on a busy machine not at once
    assert all(map(has_ended, started))


def test_a_hooks_daemon_is_not_waited_for(hook: Callable[..., list[str]]) -> None:
    """Its group is not the hook's any more, and it has the hook's output open."""
    before = time.perf_counter()
    with pytest.raises(ReleaseFailed, match="did not end within"):
        hook(shell("setsid sleep 4 & wait"), timeout=0.2)
    assert time.perf_counter() - before < 2


# the router


@pytest.fixture
def routed(app: App, environment: Environment) -> App:
    """The app with a router, before any release."""
    staging.prepare(app.paths)
    http_router.configure(app, ROUTER, environment)
    app.supervisor.rpc.calls.clear()
    return app


def test_an_app_without_a_router_needs_none(app: App) -> None:
    assert not http_router.configure(app, None, None)
    assert app.supervisor.rpc.calls == []


def test_a_router_runs_from_an_environment_of_its_own(app: App, environment: Environment) -> None:
    staging.prepare(app.paths)
    assert http_router.configure(app, ROUTER, environment)
    assert names(app.paths.home / "venvs") == [app.paths.target("router")]
    assert app.supervisor.rpc.runs == {"blog-http": ROUTER}
    assert app.supervisor.is_running("blog-http")


def test_a_router_that_is_the_same_is_left_alone(routed: App, environment: Environment) -> None:
    assert not http_router.configure(routed, ROUTER, environment)
    assert routed.supervisor.rpc.calls == []


def test_a_router_that_changes_is_restarted(routed: App, environment: Environment) -> None:
    changed = ROUTER.replace("8080", "8081")
    assert http_router.configure(routed, changed, environment)
    assert routed.supervisor.rpc.runs == {"blog-http": changed}
    assert (routed.paths.conf_d / "blog-http.conf").read_text() == changed


def test_a_router_with_another_uwsgi_is_restarted(routed: App, environment: Environment) -> None:
    before = routed.paths.target("router")
    assert http_router.configure(routed, ROUTER, replace(environment, sets=("another uWSGI",)))
    assert routed.paths.target("router") != before
    assert calls(routed, "stopProcessGroup", "startProcessGroup") == [
        "stopProcessGroup blog-http",
        "startProcessGroup blog-http",
    ]


@pytest.mark.parametrize("state", ["STOPPED", "EXITED", "FATAL", "BACKOFF"])
def test_a_router_that_does_not_run_is_started(routed: App, environment: Environment, state: str) -> None:
    routed.supervisor.rpc.run("blog-http", (state, 0))
    assert http_router.configure(routed, ROUTER, environment)
    assert routed.supervisor.is_running("blog-http")


def test_an_unwanted_router_is_removed(routed: App) -> None:
    assert http_router.configure(routed, None, None)
    assert (routed.supervisor.known(), names(routed.paths.conf_d), routed.paths.target("router")) == (set(), [], None)


def test_a_router_that_does_not_start_is_a_failure(app: App, environment: Environment) -> None:
    staging.prepare(app.paths)
    app.supervisor.rpc.life = [("STARTING", 1), ("BACKOFF", 0)]
    with pytest.raises(ReleaseFailed, match=rf"^blog-http does not start; see {app.paths.logs}/http\.log$"):
        http_router.configure(app, ROUTER, environment)


def test_the_next_run_finishes_an_interrupted_change_of_a_router(routed: App, environment: Environment) -> None:
    changed = ROUTER.replace("8080", "8081")
    for number in interruptions(lambda _: http_router.configure(routed, changed, environment)):
        http_router.configure(routed, changed, environment)
        assert routed.supervisor.rpc.runs["blog-http"] == changed, f"interrupted before step {number}"
        http_router.configure(routed, ROUTER, environment)


def test_the_next_run_finishes_an_interrupted_removal_of_a_router(routed: App, environment: Environment) -> None:
    for number in interruptions(lambda _: http_router.configure(routed, None, None)):
        http_router.configure(routed, None, None)
        assert (routed.supervisor.known(), names(routed.paths.conf_d), routed.paths.target("router")) == (
            set(),
            [],
            None,
        ), f"interrupted before step {number}"
        http_router.configure(routed, ROUTER, environment)


def test_a_deploy_leaves_the_router_alone(routed: App, switch: Switch) -> None:
    switch(A, B)
    switching.retire(routed, 2, keep_warm=False)
    assert not [call for call in routed.supervisor.rpc.calls if call.endswith("blog-http")]
    assert (routed.paths.home / "router").resolve(strict=True).is_dir()


# removed


@pytest.fixture
def whole(mailing: App, switch: Switch, environment: Environment) -> App:
    """The app with all that it can have on a host."""
    switch(B, programs=MAILER)
    mailing.programs.swap_further()
    for release in (A, B):
        warm_up.provide_files(mailing, release, SECRETS)
    http_router.configure(mailing, ROUTER, environment)
    (mailing.paths.home / "shared" / "db.sqlite").write_text("rows")
    (mailing.paths.logs / f"{B}.log").write_text("words\n")
    mailing.rollout_lock.acquire(ROLLOUT)
    return mailing


def test_a_removed_app_leaves_shared_folders_and_logs(whole: App) -> None:
    assert presence.remove(whole, False, ME)
    assert (whole.supervisor.known(), names(whole.paths.conf_d), names(whole.paths.trial)) == (set(), [], [])
    assert [str(path.relative_to(whole.paths.home)) for path in sorted(whole.paths.home.rglob("*"))] == [
        "shared",
        "shared/db.sqlite",
        "shared/var",
    ]
    assert (f"{B}.log" in names(whole.paths.logs), whole.paths.journal().newest_first()) == (True, [B, A])
    assert whole.rollout_lock.record() == {}


def test_files_of_a_removed_app_become_roots(whole: App, owners: dict[str, tuple[int, int]]) -> None:
    """Otherwise the next user with the number would own it."""
    presence.remove(whole, False, ME)
    shared = whole.paths.home / "shared"
    assert [owners[str(path)] for path in (shared, shared / "db.sqlite")] == [(0, 0), (0, 0)]


def test_logs_of_a_removed_app_become_roots(whole: App, owners: dict[str, tuple[int, int]]) -> None:
    presence.remove(whole, False, ME)
    assert [owners[str(path)] for path in (whole.paths.logs, whole.paths.logs / f"{B}.log")] == [(0, 0), (0, 0)]


def test_processes_of_the_apps_user_end_before_anything_is_removed(
    whole: App, ended_users: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon could keep a number that the next app gets, or replace files that root is about to change."""
    seen: list[list[str]] = []
    monkeypatch.setattr(
        presence, "end_processes", lambda uid: (ended_users.append(uid), seen.append(names(whole.paths.home)))
    )
    presence.remove(whole, True, ME)
    assert ended_users == [APP_ID]
    assert {"current", "releases", "shared"} <= {*seen[0]}


def test_files_of_the_apps_user_in_shared_folders_are_removed_as_that_user(
    whole: App, as_me: list[tuple[int, int, list[str]]], host: Path
) -> None:
    """The next user of its number would own it."""
    presence.remove(whole, True, ME)
    mine = ["find", f"{host}/tmp", f"{host}/var/tmp", f"{host}/dev/shm", "-xdev", "-uid", str(APP_ID), "-delete"]
    assert (APP_ID, APP_ID, mine) in as_me


def test_processes_of_another_user_are_not_killed(
    whole: App, ended_users: list[int], host_users: dict[str, str]
) -> None:
    host_users["blog"] = "/home/blog"
    presence.remove(whole, True, ME)
    assert ended_users == []


def test_a_removal_is_in_the_journal(whole: App, set_time: Callable[[str], None]) -> None:
    set_time("2026-11-22T17:30:00Z")
    presence.remove(whole, False, ME)
    assert whole.paths.journal().history[-1] == {
        "release": None,
        "since": "2026-11-22T17:30:00Z",
        "by": ME,
        "what": "removed",
        "source": None,
    }


def test_an_app_that_comes_back_has_its_history_and_no_way_back(whole: App, switch: Switch) -> None:
    presence.remove(whole, False, ME)
    switch(C)
    assert (whole.paths.journal().newest_first(), whole.paths.previous()) == ([C, B, A], None)


def test_a_purged_app_leaves_nothing(whole: App) -> None:
    assert presence.remove(whole, True, ME)
    assert not any(path.exists() for path in (whole.paths.home, whole.paths.logs, whole.paths.journal_file))
    assert whole.supervisor.known() == set()


@pytest.mark.parametrize("purge", [False, True])
def test_a_removed_app_is_not_removed_again(whole: App, purge: bool) -> None:
    presence.remove(whole, purge, ME)
    whole.supervisor.rpc.calls.clear()
    assert not presence.remove(whole, purge, ME)
    assert calls(whole, "stopProcessGroup") == []


def test_an_app_that_was_removed_can_be_purged(whole: App) -> None:
    presence.remove(whole, False, ME)
    assert presence.remove(whole, True, ME)
    assert not whole.paths.home.exists()


@pytest.mark.parametrize("purge", [False, True])
def test_a_host_without_the_app_has_nothing_to_remove(host: Path, purge: bool) -> None:
    assert not presence.remove(App("blgo", None, host), purge, ME)


@pytest.fixture
def foreign(host: Path, host_users: dict[str, str]) -> App:
    """A foreign user with folders and programs, like an FTP server's."""
    app = App("ftp", Supervisor(), host)
    host_users["ftp"] = "/srv/ftp"
    for path in (app.paths.home / "releases", app.paths.home / "shared", app.paths.logs, app.paths.conf_d):
        path.mkdir(parents=True)
    (app.paths.conf_d / f"ftp-{A}.conf").write_text(f"[program:ftp-{A}]\n")
    app.supervisor.rpc.run(f"ftp-{A}")
    return app


@pytest.mark.parametrize("purge", [False, True])
def test_an_app_without_a_journal_is_not_removed(
    foreign: App, host: Path, host_users: dict[str, str], snapshot, purge: bool
) -> None:
    before = snapshot(host)
    with pytest.raises(ReleaseFailed) as refused:
        presence.remove(foreign, purge, ME)
    assert str(refused.value) == (
        f"ftp: this host has no record of such an app ({foreign.paths.journal_file}), so {foreign.paths.home}, "
        f"{foreign.paths.logs}, the user ftp may be another program's. Nothing was changed; "
        "remove by hand what is the app's"
    )
    assert (snapshot(host), host_users, foreign.supervisor.known()) == (before, {"ftp": "/srv/ftp"}, {f"ftp-{A}"})


@pytest.mark.parametrize(
    ("home", "recorded", "left"),
    [("/srv/blog", True, []), ("/srv/blog", False, ["blog"]), ("/var/lib/blog", True, ["blog"])],
    ids=["the app's", "there before the app", "with another home"],
)
def test_a_user_is_removed_only_if_it_was_created_for_the_app(
    whole: App, host_users: dict[str, str], home: str, recorded: bool, left: list[str]
) -> None:
    host_users["blog"] = home
    journal = whole.paths.journal()
    journal.user = recorded
    journal.save()
    presence.remove(whole, True, ME)
    assert [*host_users] == left


@pytest.mark.parametrize("purge", [False, True])
def test_a_first_release_that_failed_can_be_removed(app: App, host_users: dict[str, str], purge: bool) -> None:
    staging.prepare(app.paths)
    secret_files.store(app.paths, SECRETS)
    assert presence.remove(app, purge, ME)
    assert (names(app.paths.home), host_users, presence.is_present(app, purge)) == (
        [] if purge else ["shared"],
        {},
        False,
    )


def test_a_user_that_was_created_is_the_apps(app: App, host_users: dict[str, str]) -> None:
    assert host_users == {"blog": "/srv/blog"}
    assert not presence.create(app)


def test_an_app_is_recorded_before_its_user(host: Path, host_users: dict[str, str], monkeypatch) -> None:
    """An interruption between the two leaves no user behind for ever."""

    def end(*_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(users, "_run", end)
        presence.create(App("blog", None, host))
    app = App("blog", Supervisor(), host)
    assert (presence.is_present(app, False), presence.create(app), presence.create(app)) == (True, True, False)


@pytest.mark.parametrize(("home", "removed"), [("/srv/blog", True), ("/home/blog", False)])
def test_a_user_that_was_not_created_for_the_app_is_refused(
    app: App, host_users: dict[str, str], home: str, removed: bool
) -> None:
    if removed:
        presence.remove(app, False, ME)
    host_users["blog"] = home
    with pytest.raises(ReleaseFailed, match="there is a user blog already"):
        presence.create(app)


def test_an_app_without_its_user_can_be_removed(whole: App, host_users: dict[str, str]) -> None:
    host_users.clear()
    assert presence.remove(whole, False, ME)
    assert (whole.supervisor.known(), names(whole.paths.home)) == (set(), ["shared"])


def test_removing_drains_what_is_live(whole: App, connected: list[int], clock: Clock) -> None:
    connected[:] = [1]
    before = clock.passed
    presence.remove(whole, False, ME)
    assert clock.passed - before == pytest.approx(HARAKIRI + DRAINED_WITHIN, abs=1)


def test_removing_touches_no_other_app(whole: App, host: Path, snapshot) -> None:
    for program in ("shop-http", f"shop-{A}", f"blog-shop-{A}-mailer"):
        whole.supervisor.rpc.run(program)
        (whole.paths.conf_d / f"{program}.programs.conf").write_text(f"[program:{program}]\n")
    (host / "srv/shop/releases").mkdir(parents=True)
    before = names(whole.paths.conf_d)
    presence.remove(whole, True, ME)
    assert whole.supervisor.known() == {"shop-http", f"shop-{A}", f"blog-shop-{A}-mailer"}
    assert names(whole.paths.conf_d) == [name for name in before if "shop" in name]
    assert names(host / "srv") == ["shop"]


@pytest.mark.parametrize("purge", [False, True])
def test_an_interrupted_removal_is_finished_by_the_next(
    app: App, stage: Stage, environment: Environment, owners: dict[str, tuple[int, int]], purge: bool
) -> None:
    def remove(_: int) -> None:
        presence.remove(app, purge, ME)

    def install() -> None:
        shutil.rmtree(app.paths.home, ignore_errors=True)
        stage(A)
        try_out(app, A)
        switching.switch(app, A, ME, "first release")
        http_router.configure(app, ROUTER, environment)

    install()
    for number in interruptions(remove):
        presence.remove(app, purge, ME)
        where = f"interrupted before step {number}"
        assert (app.programs.registered(), names(app.paths.home)) == (set(), [] if purge else ["shared"]), where
        assert purge or owners[f"{app.paths.home}/shared"] == (0, 0), where
        assert (app.paths.logs.exists(), app.paths.journal_file.exists()) == (not purge, not purge), where
        assert app.paths.journal().newest_first() == ([] if purge else [A]), where
        install()


# singletons


def test_singletons_that_leave_a_host_stay_away(mailing: App, switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Supervisor does not start them at its own next start."""
    switch(A)
    entry = mailing.paths.entry(A)
    entry["programs"]["mailer"]["run_on"] = "one"
    monkeypatch.setattr(mailing.paths, "entry", lambda release: entry)
    program, file = f"blog-{A}-mailer", mailing.paths.conf_d / f"blog-{A}.programs.conf"
    for here in (True, False, True):
        assert mailing.programs.assign_singletons(here)
        assert not mailing.programs.assign_singletons(here)
        mailing.programs.swap_further()
        assert (file.exists(), mailing.supervisor.is_running(program)) == (here, here)


# reports


def test_a_dangling_current_is_no_live_release(app: App, switch: Switch) -> None:
    """It is drift, and the next run of site.yml releases the app again."""
    switch(A)
    shutil.rmtree(app.paths.path(A))
    assert (app.paths.live(), app_state.report(app)["live"]) == (None, None)
    assert app_state.report(app)["edited"] == [
        f"{app.paths.path(A)} was removed: {app.paths.home}/current points at it; run site.yml"
    ]
    switch(B)
    assert (app.paths.live(), app_state.report(app)["edited"]) == (B, [])


def test_a_release_whose_start_fails_for_a_full_disk_is_not_left_running(
    app: App, staged: Path, start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What undo finds is what the rollout's record says, and that ends with the step."""
    start()
    monkeypatch.setattr(warm_up, "point_symlink", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        warm_up.warm_up(app, A)
    assert (app.programs.registered(), names(app.paths.trial), staged.exists()) == (set(), [], False)


def test_a_report_has_the_whole_state_of_an_app(whole: App, switch: Switch, set_time: Callable[[str], None]) -> None:
    set_time("2026-11-22T17:30:00Z")
    switch(A, what="rollback")
    whole.supervisor.rpc.run(f"shop-{A}")
    (whole.paths.path(A) / "uwsgi.ini").write_text("by hand")
    since = {release: whole.paths.journal().last(release)["since"] for release in (A, B)}
    assert app_state.report(whole) == {
        "app": "blog",
        "live": A,
        "since": since[A],
        "by": ME,
        "what": "rollback",
        "source": {"path": "/home/me/blog"},
        "programs": [
            {"name": name, "program": name, "state": "RUNNING", "pid": 4711, "since": STARTED_AT}
            for name in (f"blog-{B}", f"blog-{B}-mailer", "blog-http", f"blog-{A}")
        ],
        "on_disk": [
            {"release": A, "is": "live", "since": since[A], "voided": None},
            {"release": B, "is": "kept", "since": since[B], "voided": {"since": since[A], "by": ME}},
        ],
        "lock": whole.rollout_lock.record(),
        "singletons": None,
        "edited": [
            f"{whole.paths.path(A)}/uwsgi.ini was edited",
            f"{whole.paths.conf_d}/blog-{A}.programs.conf was edited or removed",
        ],
    }


@pytest.mark.parametrize("here", [True, False])
def test_a_report_has_whether_singletons_run_on_this_host(
    app: App, switch: Switch, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    switch(A)
    entry = {**app.paths.entry(A), "programs": {"mailer": {"run_on": "one"}}}
    monkeypatch.setattr(app.paths, "entry", lambda release: entry)
    app.programs.assign_singletons(here)
    assert app_state.report(app)["singletons"] == here


@pytest.mark.parametrize("file", ["supervisor.conf", "programs.conf"])
def test_a_removed_file_of_the_live_release_is_reported(whole: App, switch: Switch, file: str) -> None:
    switch(A)
    (whole.paths.path(A) / file).unlink()
    assert f"{whole.paths.path(A) / file} was removed" in app_state.report(whole)["edited"]


def test_a_report_has_the_releases_as_they_were_live(switch: Switch, stage: Stage) -> None:
    app = switch(B, A, C)
    stage("0" * 12)
    assert [
        (release["release"], release["is"], bool(release["since"])) for release in app_state.report(app)["on_disk"]
    ] == [
        (C, "live", True),
        (A, "previous", True),
        (B, "kept", True),
        ("0" * 12, "kept", False),
    ]


def test_a_report_of_an_app_that_is_not_live_is_empty(app: App) -> None:
    report = app_state.report(app)
    assert {name: value for name, value in report.items() if value} == {"app": "blog"}


def test_a_report_changes_nothing(whole: App, host: Path, snapshot) -> None:
    before = snapshot(host)
    whole.supervisor.rpc.calls.clear()
    app_state.report(whole)
    assert (snapshot(host), whole.supervisor.rpc.calls) == (before, [])


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
