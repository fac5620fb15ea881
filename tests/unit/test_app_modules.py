"""The modules of apps and the phases of a rollout: their steps for an app, and their results."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest
from ansible.module_utils.flaskfleet import (
    health,
    hooks,
    host_module,
    http_router,
    phases,
    presence,
    secret_files,
    staging,
    switching,
    uploads,
    warm_up,
)
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.environments import Environment, EnvironmentFailed
from ansible.module_utils.flaskfleet.paths import ReleaseFailed
from ansible.module_utils.flaskfleet.rollout_lock import Locked
from ansible.module_utils.flaskfleet.secret_files import Secrets
from ansible.module_utils.flaskfleet.staging import Release
from ansible.module_utils.flaskfleet.wheels import WheelFailed, sha256_of
from ansible.module_utils.testing import patch_module_args
from ansible.modules import app_release, app_rollout, app_singletons, app_wheels, flask_app
from conftest import Clock
from examples import ME, PLATFORM, PYTHON, SECRETS, A, B, C, D, make_environment, make_release
from plugin_utils.release_inputs import hidden
from servers import OK, stats_server, uwsgi_server
from supervisor import Supervisor

LAPTOP, DESKTOP = "laptop 1", "desktop 1"
HOOKS = {"before_switch": ["flask db upgrade"], "after_switch": ["flask warm-cache"], "timeout_seconds": 9}
WANTED = make_release(D, processes=8)
SETS = ("uwsgi", "app")


class Recorder(App):
    """An app that records its steps, and changes on the disk only what the next steps need."""

    def __init__(self, host: Path) -> None:
        super().__init__("blog", Supervisor(), host)
        self.programs.is_running = lambda release: self.runs
        self.programs.start = lambda release: self._step(f"run {release} again")
        self.programs.swap_further = lambda: self._step("swap programs")
        self.rollout_lock.one_step = self.one_step
        self.steps: list[str] = []
        self.cleaned: list[str | None] = []  # up after a build that was killed, with what was live
        self.rollouts: list[str | None] = []  # what went on at each
        self.locked = self.created = False
        self.settled = self.runs = True
        self.routes = False
        self.fails = ""  # the step that does
        self.staged: Release | None = None
        self.equipped = SECRETS
        self.repaired = False

    @contextmanager
    def one_step(self) -> Iterator[None]:
        self.paths.journal_file.parent.mkdir(parents=True, exist_ok=True)
        self.locked = True
        yield
        self.locked = False

    def is_settled(self, keep_warm: bool) -> bool:
        return self.settled

    def clean_up(self, target: str | None, keep_warm: bool) -> None:
        self._step(f"clear all but {target}, {'the one before' if keep_warm else 'none'} kept warm")

    def create(self) -> bool:
        created, self.created = not self.created, True
        return created

    def prepare(self) -> None:
        self._step("prepare")

    def provide_files(self, release: str, secrets: Secrets) -> None:
        self._step(f"provide {release} with {' '.join(secrets.env)}")
        self.equipped = secrets

    def has_set(self, release: str, secrets: Secrets) -> bool:
        return self.equipped == secrets

    def store(self, secrets: Secrets) -> bool:
        self._step(f"store {' '.join(secrets.env)}")
        return self.repaired

    def stage(self, release: Release, archive: Path, environment: Environment) -> None:
        self._step(f"stage {release.id} {archive} with {' '.join(environment.sets)}")
        self.staged = release
        self.paths.path(release.id).mkdir(parents=True)

    def copy(self, release: str) -> str:
        self._step(f"copy {release}")
        return f"{release}.1"

    def run(self, release: str, commands: list[str], timeout: float, once: bool) -> list[str]:
        self._step(f"run {commands} of {release} within {timeout}{', once' if once else ''}")
        return [f"$ {command}" for command in commands]

    def warm_up(self, release: str) -> None:
        self._step(f"warm {release}")

    def discard(self, release: str) -> None:
        self._step(f"discard {release}")

    def switch(self, release: str, by: str, what: str) -> float:
        self._step(f"live {release}, a {what} by {by}")
        self.live_is(release)
        return 7.5

    def retire(self, keep: int, keep_warm: bool) -> None:
        self._step(f"retire to {keep}, {'the one before' if keep_warm else 'none'} kept warm")
        self.rollout_lock.release()

    def configure(self, conf: str | None, environment: Environment | None) -> bool:
        self._step(f"router {conf} with {' '.join(environment.sets) if environment else None}")
        return self.routes

    def remove(self, purge: bool, by: str) -> bool:
        self._step(f"{'purge' if purge else 'remove'}, asked for by {by}")
        return True

    def live_is(self, *releases: str, voided: tuple[str, ...] = ()) -> None:
        """Put releases on disk that were live in this order; the last one is live."""
        self.paths.journal_file.parent.mkdir(parents=True, exist_ok=True)
        journal = self.paths.journal()
        for release in releases:
            self.paths.path(release).mkdir(parents=True, exist_ok=True)
            (self.paths.path(release) / "release.json").write_text(json.dumps(make_release(release).record))
            journal.history.append({"release": release, "since": "2026-11-22"})
        journal.voided = {release: {"since": "2026-11-22", "by": ME} for release in voided}
        journal.user = self.created = True
        journal.save()
        (self.paths.home / "current").unlink(missing_ok=True)
        (self.paths.home / "current").symlink_to(f"releases/{releases[-1]}")

    def _step(self, step: str) -> None:
        assert self.locked, f"{step}, without the lock"
        self.steps.append(step)
        self.rollouts.append(self.rollout_lock.record().get("what"))
        if self.fails and step.startswith(self.fails):
            raise ReleaseFailed("the app's own words")


RECORDED = (
    (staging, ("prepare", "stage", "copy")),
    (secret_files, ("has_set", "store")),
    (hooks, ("run",)),
    (warm_up, ("clean_up", "provide_files", "warm_up", "discard")),
    (switching, ("is_settled", "switch", "retire")),
    (http_router, ("configure",)),
    (presence, ("create", "remove")),
)


@pytest.fixture
def recorder(host: Path, host_users: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """An app without a release on the host. The host has its wheels."""
    for room in (uploads, app_wheels):
        monkeypatch.setattr(room, "platform_of", lambda python: PLATFORM)
    recorder = Recorder(host)
    for room, functions in RECORDED:
        for function in functions:
            record = getattr(recorder, function)
            monkeypatch.setattr(room, function, lambda _, *asked, record=record, **further: record(*asked, **further))
    monkeypatch.setattr(flask_app, "clean_up", lambda: recorder.cleaned.append(recorder.paths.live()))
    make_environment(recorder.paths.pool, *SETS)
    return recorder


@pytest.fixture
def lived(recorder: Recorder) -> Recorder:
    """An app with the releases A, B and C on disk. C is live, B is voided."""
    recorder.live_is(A, B, C, voided=(B,))
    return recorder


def known(*names: str, elsewhere: tuple[str, ...] = ()) -> dict[str, Any]:
    """The app's wheel sets, or some of them. They were built, except those that were only built elsewhere."""
    return {
        name: {
            "key": name,
            "known": {
                "debian-13-x86_64-cp313/5e6f7a8b" if name in elsewhere else PLATFORM: [
                    {"file": f"{name}-1.0-py3-none-any.whl", "sha256": f"{number}" * 64}
                ]
            },
        }
        for number, name in enumerate(SETS)
        if name in (names or SETS)
    }


def arguments(step: str, **changed: Any) -> dict[str, Any]:
    """The module's arguments from the action plugin."""
    return {
        "name": "blog",
        "target": "inventory",
        "force": False,
        "purge": False,
        "keep_releases": 5,
        "keep_warm": False,
        "alone": True,
        "singletons": None,
        "hooks_done": {},
        "canary": {},
        "access_log": None,
        "holder": {"process": LAPTOP, "by": ME},
        "break_holders": [],
        "hooks": HOOKS,
        "release": D,
        "archive": "/tmp/blog.tar.gz",
        "archive_content": None,
        "files": WANTED.files,
        "router": None,
        "env": WANTED.env,
        "secrets": hidden(asdict(SECRETS)),
        "secret_files": [],
        "own_files": hidden({}),
        "static": WANTED.static,
        "python": PYTHON,
        "wheels": known(),
        "wheels_archive": None,
        "record": WANTED.record,
        **changed,
    }


def run(app: App, step: str, check_mode: bool = False, **changed: Any) -> dict[str, Any]:
    """Run a module, or a phase of app_rollout."""
    wanted = arguments(step, **changed)
    if step in flask_app.STATES:
        return flask_app.run(app, {**wanted, "state": step}, check_mode)
    if step in app_release.STATES:
        return app_release.run(app, {**wanted, "state": step})
    if step in ("started", "stopped"):
        return app_singletons.run(app, {**wanted, "state": step}, check_mode)
    if step == "wheels":
        return app_wheels.run(wanted)
    if check_mode:
        return app_rollout.predict(app, wanted)
    return {"said": [], **phases.take(step, app, wanted), "live": app.paths.live()}


# present, on a host without a release

FIRST = [
    f"clear all but {D}, none kept warm",
    "prepare",
    f"stage {D} /tmp/blog.tar.gz with uwsgi app",
    f"provide {D} with KEY",
    f"run ['flask db upgrade'] of {D} within 9, once",
    f"warm {D}",
    f"live {D}, a first release by {ME}",
    "swap programs",
    "router None with None",
    f"run ['flask warm-cache'] of {D} within 9",
]


def test_a_first_release_is_staged_warmed_up_and_switched_to(recorder: Recorder) -> None:
    """Its hooks run before the warm-up, because the first release may need them."""
    result = run(recorder, "present")
    assert recorder.steps == FIRST
    assert result == {
        "changed": True,
        "release": D,
        "live": D,
        "undeployed": [],
        "said": ["$ flask db upgrade", "$ flask warm-cache"],
        "apps": {"blog": {"hooks": {}}},
    }


def test_a_first_release_whose_hook_fails_is_discarded(recorder: Recorder) -> None:
    recorder.fails = "run ['flask db upgrade']"
    with pytest.raises(ReleaseFailed, match="the app's own words"):
        run(recorder, "present")
    assert (recorder.steps[-1], recorder.rollout_lock.record(), recorder.paths.live()) == (f"discard {D}", {}, None)


def test_a_first_release_may_come_from_another_host(recorder: Recorder) -> None:
    run(recorder, "present")
    assert recorder.staged == WANTED


def test_a_release_that_is_staged_already_is_not_staged_again(recorder: Recorder) -> None:
    recorder.paths.path(D).mkdir(parents=True)
    run(recorder, "present", archive=None)
    assert recorder.steps == [step for step in FIRST if not step.startswith("stage")]


def test_a_first_router_has_uwsgis_wheels(recorder: Recorder) -> None:
    run(recorder, "present", router="[program:blog-http]")
    assert "router [program:blog-http] with uwsgi" in recorder.steps


def test_a_host_that_lacks_the_source_asks_for_it(recorder: Recorder) -> None:
    result = run(recorder, "present", archive=None)
    assert (result["needs"], result["changed"], result["live"]) == ({**NOTHING, "archive": True}, False, None)
    assert (recorder.steps, recorder.rollout_lock.record()) == ([], {})


def test_check_mode_reports_a_first_release_and_changes_nothing(recorder: Recorder) -> None:
    result = run(recorder, "present", check_mode=True, archive=None)
    assert (result["changed"], result["live"], recorder.steps) == (True, None, [])


@pytest.mark.parametrize("fails", ["", "clear", "stage", "run", "warm", "live", "swap"])
def test_a_first_release_holds_the_lock_until_its_end(recorder: Recorder, fails: str) -> None:
    recorder.fails = fails
    with pytest.raises(ReleaseFailed) if fails else nullcontext():
        run(recorder, "present")
    assert (set(recorder.rollouts), recorder.rollout_lock.record()) == ({"first release"}, {})


def test_a_first_release_is_refused_if_another_run_holds_the_lock(recorder: Recorder) -> None:
    recorder.rollout_lock.acquire({"process": DESKTOP, "by": ME, "what": "first release", "target": D})
    with pytest.raises(Locked):
        run(recorder, "present")
    assert recorder.steps == []


def test_a_first_release_breaks_the_lock_of_an_ended_controller_process(recorder: Recorder) -> None:
    recorder.rollout_lock.acquire({"process": DESKTOP, "by": ME, "what": "first release", "target": D})
    run(recorder, "present", break_holders=[DESKTOP])
    assert recorder.paths.live() == D


@pytest.mark.parametrize("alone", [True, False])
def test_an_app_is_recorded_before_anything_else(recorder: Recorder, alone: bool) -> None:
    """Its wheels may fail to build. Then the app can still be removed."""
    result = run(recorder, "present", alone=alone, archive=None)
    assert (recorder.created, recorder.steps, result["changed"]) == (True, [], not alone)


def test_check_mode_records_nothing(recorder: Recorder) -> None:
    run(recorder, "present", check_mode=True)
    assert not recorder.created


def test_creating_a_missing_user_is_a_change(recorder: Recorder) -> None:
    recorder.live_is(A)
    recorder.created = False
    assert run(recorder, "present")["changed"]


# present, on a host with a release


@pytest.mark.parametrize(("runs", "steps"), [(True, []), (False, [f"run {A} again"])])
def test_a_live_release_stays_and_is_kept_running(recorder: Recorder, runs: bool, steps: list[str]) -> None:
    recorder.live_is(A)
    recorder.runs = runs
    result = run(recorder, "present")
    assert recorder.steps == [*steps, "router None with None"]
    assert (result["changed"], result["live"], result["release"]) == (not runs, A, D)


def test_a_router_that_changed_is_a_change(recorder: Recorder) -> None:
    recorder.live_is(A)
    recorder.routes = True
    assert run(recorder, "present", router="[program:blog-http]")["changed"]
    assert recorder.steps == ["router [program:blog-http] with uwsgi"]


def test_undeployed_changes_are_reported_in_words(recorder: Recorder) -> None:
    recorder.live_is(A)
    assert run(recorder, "present")["undeployed"] == ["processes 2 → 8"]


def test_a_live_release_has_no_undeployed_changes(recorder: Recorder) -> None:
    recorder.live_is(A)
    assert run(recorder, "present", record=make_release(A).record)["undeployed"] == []


@pytest.mark.parametrize("runs", [True, False])
def test_check_mode_reports_a_stopped_release_and_starts_nothing(recorder: Recorder, runs: bool) -> None:
    recorder.live_is(A)
    recorder.runs = runs
    result = run(recorder, "present", check_mode=True)
    assert (result["changed"], result["undeployed"], recorder.steps) == (not runs, ["processes 2 → 8"], [])


# warm


def test_a_deploy_is_warmed_up_beside_the_live_release(lived: Recorder) -> None:
    result = run(lived, "warm_up", keep_warm=True)
    assert lived.steps == [
        f"clear all but {D}, the one before kept warm",
        "prepare",
        f"stage {D} /tmp/blog.tar.gz with uwsgi app",
        f"provide {D} with KEY",
        f"warm {D}",
    ]
    assert result == {
        "changed": True, "release": D, "switching": "deploy", "before": C, "hooked": True, "seconds": 0.0, "said": [],
        "live": C,
    }  # fmt: skip
    assert (lived.staged, lived.rollout_lock.renew(LAPTOP)["target"]) == (WANTED, D)


def test_a_deploy_to_a_host_without_a_release_is_refused(recorder: Recorder) -> None:
    with pytest.raises(ReleaseFailed, match=r"^blog: no release is live on this host; run site\.yml first$"):
        run(recorder, "warm_up")


@pytest.mark.parametrize(
    ("asked", "wanted", "target", "switching"),
    [
        ("inventory", D, D, "deploy"),
        ("inventory", A, A, "deploy"),
        ("previous", None, A, "rollback"),
        (A, None, A, "rollback"),
        (f"{A}", D, A, "rollback"),
    ],
    ids=["a new one", "an old one", "the one before", "by its id", "whatever is wanted"],
)
def test_the_target_is_warmed_up(lived: Recorder, asked: str, wanted: str | None, target: str, switching: str) -> None:
    result = run(lived, "warm_up", target=asked, release=wanted)
    assert (result["release"], result["switching"]) == (target, switching)
    assert f"warm {target}" in lived.steps
    assert lived.rollout_lock.record()["what"] == switching


@pytest.mark.parametrize("asked", ["inventory", A, f"{A}.1"])
def test_a_restarted_release_is_found_under_its_new_name(recorder: Recorder, asked: str) -> None:
    recorder.live_is(f"{A}.1", B)
    assert run(recorder, "warm_up", target=asked, release=A)["release"] == f"{A}.1"


def test_a_small_archive_is_an_argument(lived: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = []
    monkeypatch.setattr(
        staging, "stage", lambda paths, release, archive, environment: contents.append(archive.read_bytes())
    )
    run(lived, "warm_up", archive=None, archive_content=base64.b64encode(b"packed").decode())
    assert contents == [b"packed"]


@pytest.mark.parametrize("asked", ["inventory", A])
def test_a_release_on_disk_needs_no_archive(lived: Recorder, asked: str) -> None:
    run(lived, "warm_up", target=asked, release=A, archive=None)
    assert [step for step in lived.steps if step.startswith("stage")] == []


def test_a_restart_warms_up_a_copy_of_the_live_release(lived: Recorder) -> None:
    """A concurrent rollout is refused from the first step on."""
    result = run(lived, "warm_up", target="live", release=None, archive=None)
    assert lived.steps == [
        "clear all but None, none kept warm",
        "prepare",
        f"copy {C}",
        f"provide {C}.1 with KEY",
        f"warm {C}.1",
    ]
    assert (result["release"], result["switching"]) == (f"{C}.1", "restart")
    assert (lived.rollout_lock.renew(LAPTOP)["target"], set(lived.rollouts)) == (f"{C}.1", {"restart"})


def test_new_secrets_of_the_live_release_are_deployed_as_a_copy(recorder: Recorder) -> None:
    """A rollback started it with older ones."""
    recorder.live_is(C)
    recorder.equipped = replace(SECRETS, id="0ther")
    assert run(recorder, "present", release=C)["undeployed"] == ["secrets changed"]
    result = run(recorder, "warm_up", release=C, archive=None)
    assert (result["release"], result["switching"]) == (f"{C}.1", "deploy")
    assert recorder.steps[-1] == f"warm {C}.1"


@pytest.mark.parametrize("repaired", [True, False])
def test_secrets_that_were_edited_are_repaired(recorder: Recorder, repaired: bool) -> None:
    recorder.live_is(C)
    recorder.repaired = repaired
    result = run(recorder, "present", release=C)
    assert (result["changed"], recorder.steps[0]) == (repaired, "store KEY")


def test_a_deploy_of_what_the_host_lacks_asks_for_it(lived: Recorder) -> None:
    """This run then holds the lock."""
    result = run(lived, "warm_up", archive=None)
    assert (result["needs"], result["changed"]) == ({**NOTHING, "archive": True}, False)
    assert (lived.steps, lived.rollout_lock.record()["process"]) == ([], LAPTOP)


@pytest.mark.parametrize("live", [C, f"{C}.1"])
@pytest.mark.parametrize("asked", ["inventory", C])
def test_the_live_release_is_not_deployed_again(recorder: Recorder, live: str, asked: str) -> None:
    recorder.live_is(live)
    result = run(recorder, "warm_up", target=asked, release=C, archive=None)
    assert result == {"changed": False, "release": live, "live": live, "said": []}
    assert (recorder.steps, recorder.rollout_lock.record()) == ([], {})


@pytest.mark.parametrize("asked", ["inventory", C])
def test_a_copy_left_by_an_interrupted_restart_is_not_deployed(lived: Recorder, asked: str) -> None:
    lived.paths.path(f"{C}.1").mkdir()
    assert run(lived, "warm_up", target=asked, release=C)["changed"] is False


def test_an_interrupted_rollout_is_finished(lived: Recorder) -> None:
    lived.settled = False
    result = run(lived, "warm_up", release=C, archive=None, keep_releases=3, keep_warm=True)
    assert lived.steps == ["retire to 3, the one before kept warm"]
    assert result == {"changed": True, "release": C, "live": C, "said": []}


def test_a_rollback_without_a_previous_release_is_refused(recorder: Recorder) -> None:
    recorder.live_is(B, A, voided=(B,))
    words = f"^blog: there is no release to roll back to; on disk: {A}, {B} \\(voided\\); {A} is live$"
    with pytest.raises(ReleaseFailed, match=words):
        run(recorder, "warm_up", target="previous")


def test_an_unknown_release_is_refused_with_those_on_disk(recorder: Recorder) -> None:
    recorder.live_is(A, B)
    words = f"^blog: there is no release {C} on this host; on disk: {A}, {B}; {B} is live$"
    with pytest.raises(ReleaseFailed, match=words):
        run(recorder, "warm_up", target=C)


VOIDED = [{"target": "inventory", "release": B}, {"target": B}]


@pytest.mark.parametrize("asked", VOIDED, ids=["wanted", "by its id"])
def test_a_voided_release_is_refused(lived: Recorder, asked: dict[str, str]) -> None:
    words = (
        f"^blog: {B} was voided by me@laptop at 2026-11-22, when it was rolled back from; "
        ".* -e force=true, which also breaks the lock of another run$"
    )
    with pytest.raises(ReleaseFailed, match=words):
        run(lived, "warm_up", **asked)
    assert (lived.steps, lived.rollout_lock.record()) == ([], {})


@pytest.mark.parametrize("asked", VOIDED, ids=["wanted", "by its id"])
def test_a_voided_release_can_be_forced(lived: Recorder, asked: dict[str, str]) -> None:
    assert run(lived, "warm_up", force=True, **asked)["release"] == B


def test_a_voided_release_is_voided_after_a_restart_too(recorder: Recorder) -> None:
    recorder.live_is(A, f"{A}.1", B, voided=(A,))
    with pytest.raises(ReleaseFailed, match=rf"^blog: {A}\.1 was voided"):
        run(recorder, "warm_up", release=A)


@pytest.mark.parametrize("fails", ["clear", "prepare", "stage", "warm"])
def test_a_failed_deploy_releases_the_lock(lived: Recorder, fails: str) -> None:
    lived.fails = fails
    with pytest.raises(ReleaseFailed, match="the app's own words"):
        run(lived, "warm_up")
    assert (lived.rollout_lock.record(), lived.paths.live()) == ({}, C)


# uploads

NOTHING = {"archive": False, "sets": [], "wheels": [], "platform": PLATFORM}


@pytest.mark.parametrize(("step", "live"), [("present", None), ("warm_up", A)])
@pytest.mark.parametrize(
    ("elsewhere", "gone", "expected"),
    [
        (("app",), (), {"sets": ["app"]}),
        (SETS, (), {"sets": ["uwsgi", "app"]}),
        ((), ("0",), {"wheels": ["0" * 64]}),
        ((), ("1", "0"), {"wheels": ["0" * 64, "1" * 64]}),
        (("app",), ("0", "1"), {"sets": ["app"]}),  # wheels are asked for once all sets are known
    ],
    ids=["a set", "sets", "a wheel", "wheels", "both"],
)
def test_missing_uploads_are_requested_before_anything_changes(
    recorder: Recorder,
    step: str,
    live: str | None,
    elsewhere: tuple[str, ...],
    gone: tuple[str, ...],
    expected: dict[str, Any],
) -> None:
    if live:
        recorder.live_is(live)
    for number in gone:
        shutil.rmtree(recorder.paths.pool / (number * 64))
    result = run(recorder, step, wheels=known(elsewhere=elsewhere))
    assert (result["needs"], result["changed"]) == ({**NOTHING, **expected}, False)
    assert (recorder.steps, recorder.rollout_lock.record().get("process")) == ([], LAPTOP if live else None)


@pytest.mark.parametrize("step", ["present", "warm_up"])
def test_no_upload_is_requested_that_the_host_has(recorder: Recorder, step: str) -> None:
    if step == "warm_up":
        recorder.live_is(A)
    assert "needs" not in run(recorder, step)


def test_an_environment_that_is_there_needs_no_wheels(lived: Recorder) -> None:
    shutil.rmtree(lived.paths.pool)
    wanted = known(elsewhere=SETS)
    (lived.paths.venvs / uploads.environment(arguments("warm", wheels=wanted), *SETS).key).mkdir(parents=True)
    assert "needs" not in run(lived, "warm_up", wheels=wanted)


@pytest.mark.parametrize("asked", ["previous", "live"])
def test_a_rollback_and_a_restart_need_nothing(lived: Recorder, asked: str) -> None:
    shutil.rmtree(lived.paths.pool)
    assert "needs" not in run(lived, "warm_up", target=asked, release=None, archive=None, wheels={})


def test_an_app_that_requires_nothing_needs_uwsgi_alone(lived: Recorder) -> None:
    result = run(lived, "warm_up", wheels=known("uwsgi", elsewhere=("uwsgi",)))
    assert result["needs"] == {**NOTHING, "sets": ["uwsgi"]}


@pytest.mark.parametrize(("runs", "router"), [(True, "[program:blog-http]"), (False, "[program:blog-http]")])
def test_a_router_of_a_live_app_needs_uwsgis_wheels_alone(recorder: Recorder, runs: bool, router: str) -> None:
    recorder.live_is(A)
    recorder.runs = runs
    shutil.rmtree(recorder.paths.pool)
    result = run(recorder, "present", router=router, archive=None)
    assert (result["needs"], recorder.steps) == ({**NOTHING, "wheels": ["0" * 64]}, [])


def test_a_live_app_without_a_router_needs_nothing(recorder: Recorder) -> None:
    recorder.live_is(A)
    shutil.rmtree(recorder.paths.pool)
    assert "needs" not in run(recorder, "present", archive=None, wheels=known(elsewhere=SETS))


def test_uploaded_wheels_are_used_for_the_release(lived: Recorder, tmp_path: Path) -> None:
    shutil.rmtree(lived.paths.pool)
    (tmp_path / "one.whl").write_text("one")
    sha256 = sha256_of(tmp_path / "one.whl")
    with tarfile.open(tmp_path / "wheels.tar", "w") as tar:
        tar.add(tmp_path / "one.whl", f"{sha256}/one.whl")
    wheels = {"uwsgi": {"key": "uwsgi", "known": {PLATFORM: [{"file": "one.whl", "sha256": sha256}]}}}
    assert run(lived, "warm_up", wheels=wheels)["needs"] == {**NOTHING, "wheels": [sha256]}
    result = run(lived, "warm_up", wheels=wheels, wheels_archive=str(tmp_path / "wheels.tar"))
    assert (result["changed"], (lived.paths.pool / sha256 / "one.whl").read_text()) == (True, "one")


@pytest.mark.parametrize("live", [None, A])
def test_check_mode_requests_no_upload(recorder: Recorder, live: str | None) -> None:
    if live:
        recorder.live_is(live)
    wanted = {"archive": None, "wheels": known(elsewhere=SETS), "router": "[program:blog-http]"}
    assert "needs" not in run(recorder, "present", check_mode=True, **wanted)
    assert "needs" not in run(recorder, "warm_up", check_mode=True, **wanted)


def test_an_environment_has_the_wheels_of_all_its_sets(recorder: Recorder) -> None:
    wanted = known()
    found = uploads.environment(arguments("warm", wheels=wanted), *SETS)
    assert (found.python, found.platform, found.sets) == (PYTHON, PLATFORM, SETS)
    assert found.wheels == tuple(wheel for name in SETS for wheel in wanted[name]["known"][PLATFORM])


@pytest.mark.parametrize("step", ["present", "warm_up"])
def test_packages_left_by_a_killed_build_are_removed(lived: Recorder, step: str) -> None:
    run(lived, step, check_mode=True)
    assert lived.cleaned == []
    run(lived, step)
    assert lived.cleaned == ([C] if step == "present" else [])


def test_an_apps_requirements_do_not_replace_its_servers_uwsgi(recorder: Recorder) -> None:
    """A dependency of the app may require it; pip would refuse two of them."""
    wanted = known()
    (ours,) = wanted["uwsgi"]["known"][PLATFORM]
    wanted["app"]["known"][PLATFORM].append({"file": "uWSGI-2.0.30-py3-none-any.whl", "sha256": "f" * 64})
    found = uploads.environment(arguments("warm", wheels=wanted), *SETS)
    assert [wheel for wheel in found.wheels or () if "wsgi" in wheel["file"].lower()] == [ours]


def test_an_environment_of_a_set_that_was_not_built_for_its_platform_has_no_wheels(recorder: Recorder) -> None:
    wanted = known(elsewhere=("app",))
    assert uploads.environment(arguments("warm", wheels=wanted), *SETS).wheels is None


# wheels


@pytest.mark.parametrize("elsewhere", [("app",), SETS])
def test_a_builder_asks_for_the_sets_that_were_not_built_for_its_platform(
    recorder: Recorder, elsewhere: tuple[str, ...]
) -> None:
    """It needs no wheels itself, nor a source."""
    shutil.rmtree(recorder.paths.pool)
    assert run(recorder, "wheels", wheels=known(elsewhere=elsewhere)) == {
        "changed": False, "platform": PLATFORM,
        "needs": {**NOTHING, "sets": [name for name in SETS if name in elsewhere]},
    }  # fmt: skip


def test_a_builder_asks_for_no_set_that_was_built(recorder: Recorder) -> None:
    assert run(recorder, "wheels") == {"changed": False, "platform": PLATFORM}


# one rollout at a time


@pytest.fixture
def in_use(lived: Recorder) -> Recorder:
    """An app that another run is deploying."""
    lived.rollout_lock.acquire({"process": DESKTOP, "by": "you@desktop", "what": "deploy", "target": D})
    return lived


@pytest.mark.parametrize("settled", [True, False], ids=["a deploy", "a repair"])
def test_an_app_that_another_run_has_locked_is_left_alone(in_use: Recorder, settled: bool) -> None:
    in_use.settled = settled
    with pytest.raises(Locked, match="a deploy by you@desktop has held the lock"):
        run(in_use, "warm_up", break_holders=["laptop 2"], **({} if settled else {"release": C}))
    assert (in_use.steps, in_use.rollout_lock.record()["process"]) == ([], DESKTOP)


def test_a_run_is_refused_at_once_if_another_run_holds_the_lock(
    in_use: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its hooks may hold that for long."""
    monkeypatch.setattr(in_use.rollout_lock, "one_step", lambda: pytest.fail("it waits"))
    with pytest.raises(Locked):
        run(in_use, "warm_up")


@pytest.mark.parametrize("how", [{"force": True}, {"break_holders": [DESKTOP]}], ids=["by force", "holder is gone"])
@pytest.mark.parametrize("settled", [True, False], ids=["a deploy", "a repair"])
def test_a_lock_can_be_broken(in_use: Recorder, how: dict[str, Any], settled: bool) -> None:
    in_use.settled = settled
    run(in_use, "warm_up", **how, **({} if settled else {"release": C}))
    assert in_use.rollout_lock.record().get("process") == (LAPTOP if settled else None)


def test_a_broken_lock_is_held_while_the_archive_is_uploaded(in_use: Recorder) -> None:
    run(in_use, "warm_up", archive=None, force=True)
    assert (in_use.steps, in_use.rollout_lock.record()["process"]) == ([], LAPTOP)


@pytest.mark.parametrize("step", ["before_switch", "switch", "watch", "confirm", "after_switch", "retire"])
def test_a_step_of_a_rollout_whose_lock_was_broken_is_refused(in_use: Recorder, step: str) -> None:
    with pytest.raises(ReleaseFailed, match="this run has lost the lock: you@desktop holds it now"):
        run(in_use, step)
    assert (in_use.steps, in_use.paths.live()) == ([], C)


def test_a_rollout_of_another_run_is_not_rolled_back(in_use: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run does not wait either, because a hook may hold the step lock for long."""
    monkeypatch.setattr(in_use.rollout_lock, "one_step", lambda: pytest.fail("it waits"))
    result = run(in_use, "roll_back")
    assert (result["changed"], result["live"], in_use.rollout_lock.record()["process"]) == (False, C, DESKTOP)


# later phases


@pytest.fixture
def warmed(lived: Recorder) -> Recorder:
    """An app whose release D is warm."""
    run(lived, "warm_up")
    lived.steps.clear()
    return lived


@pytest.mark.parametrize(
    ("what", "asked"), [("deploy", "inventory"), ("rollback", "previous"), ("restart", "inventory")]
)
def test_a_rollout_that_was_interrupted_after_its_switch_is_continued(lived: Recorder, what: str, asked: str) -> None:
    """A deploy with its hooks, and without another switch."""
    lived.settled = False
    lived.rollout_lock.acquire({"process": DESKTOP, "by": ME, "what": what, "target": C})
    result = run(lived, "warm_up", target=asked, release=C, break_holders=[DESKTOP])
    assert (result["changed"], result["release"], result["switching"]) == (True, C, what)
    run(lived, "switch")
    run(lived, "after_switch")
    run(lived, "retire")
    hooked = [f"run ['flask warm-cache'] of {C} within 9"] if what == "deploy" else []
    assert lived.steps == [*hooked, "retire to 5, none kept warm"]


def test_hooks_before_the_switch_run_once_for_the_warm_release(warmed: Recorder) -> None:
    result = run(warmed, "before_switch")
    assert warmed.steps == [f"run ['flask db upgrade'] of {D} within 9, once"]
    assert result == {"changed": True, "release": D, "live": C, "said": ["$ flask db upgrade"]}


def test_a_hook_that_fails_before_the_switch_discards_the_release(warmed: Recorder) -> None:
    warmed.fails = "run"
    with pytest.raises(ReleaseFailed, match="the app's own words"):
        run(warmed, "before_switch")
    assert (warmed.steps[1:], warmed.rollout_lock.record(), warmed.paths.live()) == ([f"discard {D}"], {}, C)


def test_the_size_of_the_releases_log_at_the_switch_is_recorded(warmed: Recorder) -> None:
    warmed.paths.logs.mkdir(parents=True, exist_ok=True)
    (warmed.paths.logs / f"{D}.log").write_text("warm\n")
    run(warmed, "switch")
    assert warmed.rollout_lock.record()["said"] == 5


def test_the_warm_release_becomes_live(warmed: Recorder) -> None:
    result = run(warmed, "switch")
    assert warmed.steps == [f"live {D}, a deploy by {ME}"]
    assert result == {"changed": True, "release": D, "live": D, "at": 7.5, "said": []}


def test_hooks_after_the_switch_run_for_the_live_release(warmed: Recorder) -> None:
    run(warmed, "switch")
    result = run(warmed, "after_switch")
    assert warmed.steps[1:] == [f"run ['flask warm-cache'] of {D} within 9"]
    assert result["said"] == ["$ flask warm-cache"]


def test_old_releases_are_retired(warmed: Recorder) -> None:
    result = run(warmed, "retire", keep_releases=3, keep_warm=True)
    assert warmed.steps == ["retire to 3, the one before kept warm"]
    assert (result["changed"], warmed.rollout_lock.record()) == (True, {})


def test_confirm_checks_that_the_live_release_answers(warmed: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [None, "/healthz answered 500"]
    monkeypatch.setattr(health, "probe", lambda paths, release, timeout: problems.pop(0))
    with pytest.raises(ReleaseFailed, match=f"^blog {D} failed after the switch: {C} is live instead$"):
        run(warmed, "confirm")
    run(warmed, "switch")
    assert run(warmed, "confirm")["release"] == D
    with pytest.raises(ReleaseFailed, match=f"^blog {D} failed after the switch: /healthz answered 500$"):
        run(warmed, "confirm")


def test_the_end_of_nginxs_log_is_recorded_at_the_switch(warmed: Recorder, tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text("before\n")
    run(warmed, "switch", access_log=str(tmp_path / "access.log"))
    assert warmed.rollout_lock.record()["log"]["size"] == len("before\n")


def test_singletons_are_started_and_stopped(warmed: Recorder) -> None:
    for state, here in (("started", True), ("started", True), ("stopped", False), ("stopped", False)):
        run(warmed, state)
        assert warmed.paths.singletons_file.exists() == here
    assert warmed.steps == ["swap programs", "swap programs"]


def test_check_mode_reports_whether_singletons_would_move(lived: Recorder) -> None:
    for state in ("started", "stopped"):
        assert run(lived, state, check_mode=True)["changed"] == (state == "started")
    assert not lived.paths.singletons_file.exists()


@pytest.mark.parametrize(("purge", "step"), [(False, "remove"), (True, "purge")])
def test_an_app_is_removed(lived: Recorder, purge: bool, step: str) -> None:
    assert run(lived, "absent", purge=purge)["changed"]
    assert lived.steps == [f"{step}, asked for by {ME}"]


@pytest.mark.parametrize("step", ["absent", "started"])
@pytest.mark.parametrize("how", [{}, {"force": True}, {"break_holders": [DESKTOP]}], ids=["refused", "force", "gone"])
def test_an_app_that_another_run_has_locked_is_neither_removed_nor_are_its_singletons_moved(
    lived: Recorder, step: str, how: dict[str, Any]
) -> None:
    lived.rollout_lock.acquire({"process": DESKTOP, "by": ME, "what": "deploy", "target": D})
    with nullcontext() if how else pytest.raises(Locked):
        run(lived, step, **how)
    assert bool(lived.steps) == bool(how)


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("purge", [True, False])
def test_an_app_without_a_journal_is_not_removed(
    recorder: Recorder, host_users: dict[str, str], host: Path, snapshot, purge: bool, check_mode: bool
) -> None:
    """If a name is mistyped, nothing is changed, not even a lock acquired."""
    host_users["blog"] = "/srv/blog"
    (recorder.paths.home / "files").mkdir(parents=True)
    before = snapshot(host)
    with pytest.raises(ReleaseFailed, match="this host has no record of such an app"):
        run(recorder, "absent", check_mode, purge=purge)
    assert (recorder.steps, snapshot(host), recorder.locked) == ([], before, False)


# check mode


@pytest.mark.parametrize(
    ("target", "release", "changed"),
    [("inventory", D, True), ("inventory", C, False), ("previous", None, True), ("live", None, True)],
)
def test_check_mode_reports_a_switch(lived: Recorder, target: str, release: str | None, changed: bool) -> None:
    result = run(lived, "warm_up", check_mode=True, target=target, release=release, archive=None)
    assert (result["changed"], lived.steps, lived.rollout_lock.record()) == (changed, [], {})
    assert result["undeployed"] == (["processes 2 → 8"] if release == D else [])


def test_check_mode_refuses_a_voided_release(lived: Recorder) -> None:
    with pytest.raises(ReleaseFailed, match="was voided"):
        run(lived, "warm_up", check_mode=True, release=B)


def test_check_mode_of_a_first_deploy_is_a_change(recorder: Recorder) -> None:
    assert run(recorder, "warm_up", check_mode=True)["changed"]


@pytest.mark.parametrize("releases", [[], [A]], ids=["nothing", "something"])
def test_check_mode_reports_a_removal(recorder: Recorder, releases: list[str]) -> None:
    if releases:
        recorder.live_is(*releases)
    result = run(recorder, "absent", check_mode=True, release=None)
    assert (result["changed"], recorder.steps) == (bool(releases), [])


# app_release


@pytest.fixture
def other(host: Path, app: App) -> App:
    """The app on a second host, which has its user and its wheels, and no release."""
    other = App("blog", Supervisor(), host / "other")
    make_environment(other.paths.pool, *SETS)
    return other


@pytest.fixture
def packed(app: App, stage: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release that a host has packed, with the record of its environment."""
    monkeypatch.setattr(uploads, "platform_of", lambda python: PLATFORM)
    release = stage(A)
    (release / "venv").resolve().mkdir(exist_ok=True)
    (release / "venv" / "wheels.json").write_text('{"python": "/usr/bin/python3", "sets": []}')
    (release / "run/uwsgi.sock").touch()
    result = run(app, "packed", release=A, archive=str(tmp_path / "release.tar.gz"))
    assert not result["changed"]
    return tmp_path / "release.tar.gz"


def test_a_packed_release_is_the_same_on_another_host(app: App, other: App, packed: Path) -> None:
    assert run(other, "staged", release=A, archive=str(packed))["changed"]
    here, there = app.paths.path(A), other.paths.path(A)
    files = [path.relative_to(here) for path in here.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    kept = [path for path in files if path.parts[0] not in ("run", "venv", "secrets", "manifest.json")]
    assert len(kept) > 10
    assert {path: (there / path).read_bytes() for path in kept} == {path: (here / path).read_bytes() for path in kept}
    assert not (there / "run/uwsgi.sock").exists()
    assert (there / "venv").is_symlink()
    assert not (there / "secrets").is_symlink()
    assert {path: (there / path).stat().st_mode for path in kept} == {
        path: (here / path).stat().st_mode for path in kept
    }


def test_a_release_on_disk_is_not_staged_again(app: App, packed: Path) -> None:
    assert not run(app, "staged", release=A, archive="/no/such/archive")["changed"]


def test_a_release_that_is_not_on_disk_cannot_be_packed(app: App, packed: Path) -> None:
    with pytest.raises(ReleaseFailed, match=f"there is no release {B} on this host; on disk: {A}"):
        run(app, "packed", release=B)


def test_a_release_whose_wheels_are_not_in_the_wheelhouse_is_refused(other: App, packed: Path) -> None:
    with pytest.raises(ReleaseFailed, match=f"the wheelhouse has no wheels of {A} for {PLATFORM}; deploy"):
        run(other, "staged", release=A, archive=str(packed), wheels=known(elsewhere=SETS))


def test_missing_wheels_of_a_packed_release_are_requested(other: App, packed: Path) -> None:
    shutil.rmtree(other.paths.pool)
    result = run(other, "staged", release=A, archive=str(packed))
    assert (result["changed"], result["needs"]["wheels"]) == (False, ["0" * 64, "1" * 64])
    assert other.paths.on_disk() == []


# whole rollouts, with a fake Supervisor and a fake app


@pytest.fixture
def play(app: App, archive: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str | None]]:
    """A function that takes all steps of a playbook to a target, and returns what is live."""
    for room in (uploads, app_wheels):
        monkeypatch.setattr(room, "platform_of", lambda python: PLATFORM)
    make_environment(app.paths.pool, *SETS)
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    servers: list[Any] = []

    def listen(program: str) -> None:
        path = app.paths.path(program.removeprefix("blog-")) / "run"
        workers = [{"id": 1, "requests": 1, "status": "idle"}]
        for server in (
            uwsgi_server(path / "uwsgi.sock", OK),
            stats_server(path / "stats.sock", lambda: {"workers": workers}),
        ):
            server.__enter__()
            servers.append((program, server))

    def close(program: str) -> None:
        for _, server in [pair for pair in servers if pair[0] == program]:
            server.__exit__(None, None, None)
        servers[:] = [pair for pair in servers if pair[0] != program]
        for name in ("uwsgi.sock", "stats.sock"):
            (app.paths.path(program.removeprefix("blog-")) / "run" / name).unlink(missing_ok=True)

    app.supervisor.rpc.on_start, app.supervisor.rpc.on_stop = listen, close

    def play(release: str | None = None, target: str = "inventory", **changed: Any) -> str | None:
        wanted = make_release(release or A)
        given = {name: getattr(wanted, name) for name in ("files", "env", "static", "record")}
        quiet = {"before_switch": [], "after_switch": [], "timeout_seconds": 9}
        common = {**given, "release": release, "archive": str(archive), "hooks": quiet, "keep_releases": 2, **changed}
        first = "warm_up" if app.paths.live() else "present"
        if run(app, first, target=target, **common).get("switching"):
            for step in ("before_switch", "switch", "after_switch", "retire"):
                run(app, step, **common)
        return app.paths.live()

    yield play
    for program in {program for program, _ in servers}:
        close(program)


def test_deploys_rollbacks_and_restarts_end_with_one_release_that_runs(app: App, play: Callable[..., str]) -> None:
    """And with the ones that a rollback leads to on disk."""
    restart = f"{A}.1"
    for (release, target, force), live, on_disk in [
        ((A, "inventory", False), A, [A]),
        ((A, "inventory", False), A, [A]),
        ((B, "inventory", False), B, [A, B]),
        ((None, "previous", False), A, [A, B]),
        ((None, "live", False), restart, [restart, B]),
        ((B, "inventory", True), B, [restart, B]),
        ((C, "inventory", False), C, [B, C]),
        ((None, "previous", False), B, [B, C]),
    ]:
        assert play(release, target, force=force) == live, (release, target)
        assert (app.paths.on_disk(), app.supervisor.rpc.states()) == (on_disk, {f"blog-{live}": "RUNNING"}), (
            release,
            target,
        )
        assert switching.is_settled(app, False)
    assert [entry["what"] for entry in app.paths.journal().history] == [
        "first release", "deploy", "rollback", "restart", "deploy", "deploy", "rollback",
    ]  # fmt: skip
    assert app.paths.journal().voided.keys() == {C}


def test_a_rollback_to_a_warm_release_starts_nothing(app: App, play: Callable[..., str]) -> None:
    for release in (A, B):
        play(release, keep_warm=True)
    started = list(app.supervisor.rpc.calls)
    play(None, "previous", keep_warm=True)
    assert (app.paths.live(), app.programs.registered()) == (A, {A})
    assert f"startProcessGroup blog-{A}" not in app.supervisor.rpc.calls[len(started) :]


# the module


@pytest.fixture
def module(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """A function that runs the module and returns its result."""
    monkeypatch.setattr(host_module, "App", lambda name, supervisor: recorder)
    monkeypatch.setattr(os, "nice", lambda _: 0)

    def execute(step: str = "present", **changed: Any) -> dict[str, Any]:
        given = {name: value for name, value in arguments(step, **changed).items() if value is not None}
        of_app = {**uploads.ARGUMENTS, **app_rollout.APP_OPTIONS}
        ours: dict[Any, set[str]] = {
            flask_app: {*uploads.ARGUMENTS, *host_module.ARGUMENTS, *flask_app.OPTIONS},
            app_release: {"name", "release", "archive", "python", "wheels", "state"},
            app_singletons: {*host_module.ARGUMENTS, "app", "state"},
            app_wheels: {"python", "wheels"},
            app_rollout: {*host_module.ARGUMENTS, *app_rollout.OPTIONS},
        }
        module = {
            **dict.fromkeys(flask_app.STATES, flask_app), **dict.fromkeys(app_release.STATES, app_release),
            "started": app_singletons, "stopped": app_singletons, "wheels": app_wheels,
        }.get(step, app_rollout)  # fmt: skip
        given |= {"state": step, "app": "blog"}
        given |= {"phases": [step], "apps": [{name: given[name] for name in of_app.keys() & given.keys()}]}
        ours[module].add("_ansible_check_mode")
        with patch_module_args({name: given[name] for name in ours[module] & given.keys()}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    return execute


def test_the_result_is_that_of_the_step(module: Callable[..., dict[str, Any]]) -> None:
    result = module()
    assert (result["changed"], result["live"]) == (True, D)


def test_undeployed_changes_are_a_warning(
    recorder: Recorder, module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings = []
    monkeypatch.setattr(flask_app.AnsibleModule, "warn", lambda self, warning: warnings.append(warning))
    recorder.live_is(A)
    module()
    assert warnings == ["blog: undeployed changes: processes 2 → 8; playbooks/deploy.yml makes them live"]


def test_secrets_are_not_in_the_result(module: Callable[..., dict[str, Any]]) -> None:
    assert "s3cret" not in json.dumps(module())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ReleaseFailed("the app's own words"), "^the app's own words$"),
        (EnvironmentFailed("pip's words"), "^pip's words$"),
        (WheelFailed("a wheel was altered"), "^a wheel was altered$"),
        (Fault(92, "CANT_REREAD: x.conf"), r"^blog: Supervisor refused \(CANT_REREAD: x.conf\)"),
        (FileNotFoundError(2, "No such file", "/run/supervisor.sock"), "^blog: .*supervisor.sock.*is Supervisor run"),
        (PermissionError(13, "Permission denied", "/srv"), "^blog: .*Permission denied: '/srv'$"),
    ],
)
def test_a_refusal_is_the_failures_message(
    recorder: Recorder,
    module: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    words: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(warm_up, "warm_up", fail)
    result = module()
    assert result["failed"]
    assert re.search(words, result["msg"])


def test_the_holder_of_the_lock_is_returned(recorder: Recorder, module: Callable[..., dict[str, Any]]) -> None:
    """The controller knows whether the holder's process has ended."""
    recorder.live_is(A)
    recorder.rollout_lock.acquire({"process": DESKTOP, "by": ME, "what": "deploy", "target": B})
    result = module("warm_up")
    assert (result["failed"], result["holder"]) == (True, recorder.rollout_lock.record())


@pytest.mark.parametrize("phase", ["switch", "roll_back", "retire"])
def test_check_mode_of_phases_after_the_warm_up_changes_nothing(
    recorder: Recorder, module: Callable[..., dict[str, Any]], phase: str
) -> None:
    """Also if nothing is to be deployed: a failure in check mode has its own message."""
    recorder.live_is(A)
    result = module(phase, release=None, _ansible_check_mode=True)
    assert (result["changed"], result["apps"], recorder.steps) == (False, {}, [])


def test_check_mode_reports_each_app_that_would_fail(recorder: Recorder, module: Callable[..., dict[str, Any]]) -> None:
    recorder.live_is(A, B, C, voided=(B,))
    result = module("warm_up", release=B, _ansible_check_mode=True)
    assert "was voided" in result["apps"]["blog"]["failed"]


def test_a_failed_rollout_returns_the_result_of_each_app(
    recorder: Recorder, module: Callable[..., dict[str, Any]]
) -> None:
    recorder.live_is(A)
    recorder.fails = "warm"
    result = module("warm_up")
    assert (result["failed"], result["msg"]) == (True, "the app's own words")
    assert (result["apps"]["blog"]["failed"], result["apps"]["blog"]["live"]) == ("the app's own words", A)


@pytest.mark.parametrize(("state", "changed"), [("started", True), ("stopped", False)])
def test_singletons_have_a_module(
    recorder: Recorder, module: Callable[..., dict[str, Any]], state: str, changed: bool
) -> None:
    recorder.live_is(A)
    result = module(state)
    assert (result["changed"], result["live"], recorder.steps) == (changed, A, ["swap programs"] * changed)


def test_singletons_of_a_host_without_a_release_wait_for_one(
    recorder: Recorder, module: Callable[..., dict[str, Any]]
) -> None:
    assert module("started")["changed"]
    assert (recorder.steps, recorder.paths.singletons_file.exists()) == ([], True)


def test_if_singletons_cannot_move_the_holder_is_returned(
    recorder: Recorder, module: Callable[..., dict[str, Any]]
) -> None:
    recorder.rollout_lock.acquire({"process": DESKTOP, "by": ME, "what": "deploy"})
    assert module("started")["holder"] == recorder.rollout_lock.record()


@pytest.mark.parametrize("step", ["packed", "staged"])
def test_the_module_app_release_packs_and_stages(module: Callable[..., dict[str, Any]], step: str) -> None:
    result = module(step, release="0" * 12)
    assert result["failed"]
    assert re.search("there is no release 0{12} on this host|No such file", result["msg"])


def test_wheels_have_a_module(module: Callable[..., dict[str, Any]], recorder: Recorder) -> None:
    assert module("wheels")["platform"] == PLATFORM


@pytest.mark.parametrize(("step", "nice"), [("warm_up", [10]), ("retire", [10]), ("present", []), ("switch", [])])
def test_live_programs_have_priority_over_staging(
    recorder: Recorder,
    module: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    nice: list[int],
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "nice", asked.append)
    module(step)
    assert asked == nice


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_unpacked_folders_are_accessible_whatever_the_umask(
    recorder: Recorder, module: Callable[..., dict[str, Any]], umask: int
) -> None:
    """With a strict umask of root the app could not read its release."""
    os.umask(umask)
    module()
    assert recorder.paths.path(D).stat().st_mode & 0o777 == 0o755
