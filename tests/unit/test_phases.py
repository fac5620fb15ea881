"""Phases of a rollout: in their order for all apps, and the phases that a failure skips."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet import phases
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.paths import ReleaseFailed
from ansible.module_utils.flaskfleet.phases import RolloutFailed

ME = {"process": "laptop 1", "by": "me@laptop"}


@pytest.fixture
def niced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps by which the process lowers its priority."""
    steps: list[int] = []
    monkeypatch.setattr(os, "nice", steps.append)
    return steps


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, niced: list[int]) -> list[str]:
    """The phases that were taken, each with its app."""
    taken: list[str] = []

    def record(phase: str) -> Callable[..., dict[str, Any]]:
        def take(app: App, wanted: dict[str, Any]) -> dict[str, Any]:
            taken.append(f"{phase} {app.name}")
            if phase in wanted["fails"]:
                raise ReleaseFailed(f"{app.name}: {phase} failed")
            return {"changed": phase != "watch", "release": f"of {phase}", "said": [phase], phase: True}

        return take

    monkeypatch.setattr(phases, "PHASES", {phase: record(phase) for phase in phases.PHASES})
    return taken


@pytest.fixture
def apps(host: Path) -> Callable[..., list[tuple[App, dict[str, Any]]]]:
    """A function that makes apps, by name with the phases that fail for them."""

    def make(**fails: tuple[str, ...]) -> list[tuple[App, dict[str, Any]]]:
        common = {"holder": ME, "break_holders": [], "force": False}
        return [(App(name, None, host), {**common, "name": name, "fails": phases}) for name, phases in fails.items()]

    return make


def test_a_phase_is_taken_for_all_apps_before_the_next(apps: Any, taken: list[str]) -> None:
    results = phases.run(["switch", "confirm"], apps(blog=(), shop=()))
    assert taken == ["switch blog", "switch shop", "confirm blog", "confirm shop"]
    assert results["blog"] == {
        "changed": True, "release": "of confirm", "said": ["switch", "confirm"], "live": None,
        "switch": True, "confirm": True,
    }  # fmt: skip


def test_a_change_of_one_phase_stays_a_change(apps: Any, taken: list[str]) -> None:
    assert phases.run(["switch", "watch"], apps(blog=()))["blog"]["changed"]
    assert not phases.run(["watch"], apps(blog=()))["blog"]["changed"]


def test_after_a_failure_the_other_apps_are_tried_and_no_phase_follows(apps: Any, taken: list[str]) -> None:
    with pytest.raises(RolloutFailed) as failure:
        phases.run(["switch", "watch", "confirm"], apps(blog=("switch",), shop=(), wiki=("switch",)))
    assert taken == ["switch blog", "switch shop", "switch wiki"]
    assert str(failure.value) == "blog: switch failed\nwiki: switch failed"
    assert {name: one.get("failed") for name, one in failure.value.results.items()} == {
        "blog": "blog: switch failed", "shop": None, "wiki": "wiki: switch failed",
    }  # fmt: skip
    assert failure.value.results["shop"]["switch"]


def test_old_releases_are_retired_even_if_a_hook_fails(apps: Any, taken: list[str]) -> None:
    with pytest.raises(RolloutFailed, match=r"^blog: after_switch failed$") as failure:
        phases.run(["after_switch", "retire"], apps(blog=("after_switch",), shop=()))
    assert taken == ["after_switch blog", "after_switch shop", "retire blog", "retire shop"]
    assert failure.value.results["blog"]["retire"]


def test_all_failures_of_an_app_are_reported(apps: Any, taken: list[str]) -> None:
    with pytest.raises(RolloutFailed) as failure:
        phases.run(["after_switch", "retire"], apps(blog=("after_switch", "retire")))
    assert failure.value.results["blog"]["failed"] == "blog: after_switch failed\nblog: retire failed"


def test_an_unexpected_error_keeps_no_other_app_from_its_rollback(
    apps: Any, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = apps(blog=(), shop=())
    for app, _ in two:
        app.rollout_lock.acquire({**ME, "what": "deploy"})
    real = phases.PHASES["roll_back"]

    def roll_back(app: App, wanted: dict[str, Any]) -> dict[str, Any]:
        return real(app, wanted) if app.name == "shop" else {}["inputs"]

    monkeypatch.setitem(phases.PHASES, "roll_back", roll_back)
    with pytest.raises(RolloutFailed, match=r"^blog: KeyError: 'inputs'$"):
        phases.run(["roll_back"], two)
    assert taken == ["roll_back shop"]


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        (["warm_up"], [10]), (["before_switch", "switch", "watch", "confirm"], []), (["after_switch", "retire"], [10]),
        (["roll_back"], []),
    ],
)  # fmt: skip
def test_live_programs_have_priority_over_warm_up_and_retire(
    apps: Any, taken: list[str], niced: list[int], asked: list[str], steps: list[int]
) -> None:
    app = apps(blog=())
    app[0][0].rollout_lock.acquire({**ME, "what": "deploy"})
    phases.run(asked, app)
    assert niced == steps


def test_while_another_run_holds_the_lock_of_an_app_none_is_warmed_up(apps: Any, taken: list[str]) -> None:
    two = apps(blog=(), shop=())
    record = two[0][0].rollout_lock.acquire({"process": "desktop 1", "by": "you@desktop", "what": "deploy"})
    with pytest.raises(RolloutFailed, match=r"^blog: a deploy by you@desktop has held the lock") as failure:
        phases.run(["warm_up"], two)
    assert (taken, failure.value.holder) == ([], record)


def test_a_rollback_leaves_a_lock_of_another_run_alone(apps: Any, taken: list[str]) -> None:
    two = apps(blog=(), shop=())
    two[0][0].rollout_lock.acquire({"process": "desktop 1", "by": "you@desktop", "what": "deploy"})
    two[1][0].rollout_lock.acquire({**ME, "what": "deploy"})
    results = phases.run(["roll_back"], two)
    assert (taken, results["blog"]["changed"], results["blog"]["locked_by"]) == (
        ["roll_back shop"], False, "you@desktop",
    )  # fmt: skip


def test_one_step_at_a_time_changes_an_app(apps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ((app, wanted),) = apps(blog=())
    held = []
    monkeypatch.setitem(
        phases.PHASES, "switch", lambda app, wanted: held.append(app.paths.step_file.read_text()) or {"changed": True}
    )
    phases.run(["switch"], [(app, wanted)])
    assert held == [str(os.getpid())]
