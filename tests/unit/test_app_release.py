"""The module app_release: which steps of a release's life a host needs, and what is told of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet.environments import EnvironmentFailed
from ansible.module_utils.flaskfleet.releases import Release, ReleaseFailed
from ansible.module_utils.testing import patch_module_args
from ansible.modules import app_release

WANTED = {
    "name": "blog",
    "release": "new",
    "archive": "/tmp/blog.tar.gz",
    "files": {},
    "env": {},
    "secret_env": {"KEY": "s3cret"},
    "static": {},
    "requirements": "",
    "python": "/usr/bin/python3",
    "uwsgi_version": "2.0.31",
    "processes": 2,
    "health": {"path": "/"},
    "record": {"source": "/home/me/blog", "inputs": {"entry": {"processes": 8}}},
    "by": "me@laptop",
}


class App:
    """An app that writes down what it is asked to do."""

    name = "blog"

    def __init__(self, folder: Path, live: str | None = None) -> None:
        self.folder, self.is_live, self.locked = folder, live, False
        self.runs = True
        self.steps: list[str] = []
        self.release: Release | None = None

    @contextmanager
    def lock(self) -> Iterator[None]:
        self.locked = True
        yield
        self.locked = False

    def live(self) -> str | None:
        return self.is_live

    def path(self, release: str) -> Path:
        return self.folder / release

    def record(self, release: str) -> dict[str, Any]:
        return {"inputs": {"entry": {"processes": 4}}}

    def is_running(self, release: str) -> bool:
        return self.runs

    def run_again(self, release: str) -> None:
        self._step(f"run {release} again")

    def discard_leftovers(self, wanted: str) -> None:
        self._step(f"discard all but {wanted}")

    def prepare(self, secrets: dict[str, str]) -> None:
        self._step(f"prepare {' '.join(secrets)}")

    def stage(self, release: Release, archive: Path, wheel: Path) -> None:
        self._step(f"stage {archive} {wheel}")

    def warm(self, release: Release) -> None:
        self._step("warm")
        self.release = release

    def go_live(self, release: Release, by: str) -> None:
        self._step(f"live by {by}")

    def _step(self, step: str) -> None:
        assert self.locked, f"{step}, without the lock"
        self.steps.append(step)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """An app of which the host has no release."""
    monkeypatch.setattr(app_release, "python_abi", lambda python: "abi")
    monkeypatch.setattr(app_release, "find_wheel", lambda wheels, *inputs: Path("/wheel"))
    return App(tmp_path)


def run(app: App, check_mode: bool = False, **changed: Any) -> dict[str, Any]:
    return app_release.run({**WANTED, **changed}, app, check_mode)


# a host without a release


def test_a_first_release_goes_through_its_life(app: App) -> None:
    result = run(app)
    assert app.steps == [
        "prepare KEY",
        "discard all but new",
        "stage /tmp/blog.tar.gz /wheel",
        "warm",
        "live by me@laptop",
    ]
    assert result == {"changed": True, "release": "new", "live": "new", "undeployed": []}


def test_a_release_that_is_staged_already_is_not_staged_again(app: App) -> None:
    app.path("new").mkdir()
    run(app, archive=None)
    assert app.steps == ["prepare KEY", "discard all but new", "warm", "live by me@laptop"]


def test_a_host_that_lacks_the_source_asks_for_it(app: App) -> None:
    result = run(app, archive=None)
    assert (result["needs_archive"], result["changed"], result["live"]) == (True, False, None)
    assert app.steps == []


def test_check_mode_tells_of_a_first_release_and_does_nothing(app: App) -> None:
    result = run(app, check_mode=True, archive=None)
    assert (result["changed"], result["live"], app.steps) == (True, None, [])


@pytest.mark.parametrize(("asked", "processes"), [(2, 2), (0, 5)])
def test_no_number_of_processes_is_one_per_core(
    app: App, monkeypatch: pytest.MonkeyPatch, asked: int, processes: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    run(app, processes=asked)
    assert app.release.processes == processes


# a host with one


@pytest.mark.parametrize(("runs", "steps"), [(True, []), (False, ["run old again"])])
def test_a_live_release_stays_and_is_kept_running(app: App, runs: bool, steps: list[str]) -> None:
    app.is_live, app.runs = "old", runs
    result = run(app)
    assert app.steps == steps
    assert (result["changed"], result["live"], result["release"]) == (not runs, "old", "new")


def test_what_is_not_live_is_told_in_words(app: App) -> None:
    app.is_live = "old"
    assert run(app)["undeployed"] == ["processes 4 → 8"]


@pytest.mark.parametrize("runs", [True, False])
def test_check_mode_tells_of_a_stopped_release_and_starts_nothing(app: App, runs: bool) -> None:
    app.is_live, app.runs = "old", runs
    result = run(app, check_mode=True)
    assert (result["changed"], result["undeployed"], app.steps) == (not runs, ["processes 4 → 8"], [])


# the module


@pytest.fixture
def module(
    app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """A function that runs the module and returns its result."""
    monkeypatch.setattr(app_release, "App", lambda name, web_group, supervisor: app)

    def execute(**changed: Any) -> dict[str, Any]:
        with patch_module_args({**WANTED, **changed}), pytest.raises(SystemExit):
            app_release.main()
        return json.loads(capsys.readouterr().out)

    return execute


def test_the_result_is_that_of_the_run(module: Callable[..., dict[str, Any]]) -> None:
    result = module()
    assert (result["changed"], result["live"]) == (True, "new")


def test_undeployed_changes_are_a_warning(
    app: App, module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings = []
    monkeypatch.setattr(app_release.AnsibleModule, "warn", lambda self, warning: warnings.append(warning))
    app.is_live = "old"
    module()
    assert warnings == ["blog: undeployed changes: processes 4 → 8"]


def test_secrets_are_not_in_the_result(module: Callable[..., dict[str, Any]]) -> None:
    assert "s3cret" not in json.dumps(module())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ReleaseFailed("the app's own words"), "the app's own words"),
        (EnvironmentFailed("pip's words"), "pip's words"),
        (
            FileNotFoundError(2, "No such file", "/run/supervisor.sock"),
            "blog: .*/run/supervisor.sock.*is Supervisor run",
        ),
    ],
)
def test_a_refusal_is_a_failure_in_words(
    app: App, module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(app, "warm", fail)
    result = module()
    assert result["failed"]
    assert re.search(words, result["msg"])


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_unpacked_can_be_entered_whatever_the_umask(
    app: App,
    module: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    umask: int,
) -> None:
    """Else a hardened root's host has releases that their app can't read."""
    monkeypatch.setattr(app, "stage", lambda *_: app.path("new").mkdir())
    os.umask(umask)
    module()
    assert app.path("new").stat().st_mode & 0o777 == 0o755
