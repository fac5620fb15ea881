"""The module app_lock: the locks of all apps of a host or of none, and what it gathers of the apps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.testing import patch_module_args
from ansible.modules import app_lock
from examples import ME
from supervisor import Supervisor

LAPTOP, DESKTOP = "laptop 1", "desktop 1"


@pytest.fixture
def apps(host: Path) -> dict[str, App]:
    """Two apps whose locks are free."""
    return {name: App(name, Supervisor(), host) for name in ("blog", "shop")}


@pytest.fixture
def module(
    apps: dict[str, App], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """A function that runs the module and returns its result."""
    monkeypatch.setattr(app_lock, "App", lambda name, rpc: apps[name])

    def execute(**given: Any) -> dict[str, Any]:
        me = {"process": LAPTOP, "by": ME}
        with patch_module_args({"apps": [*apps], "holder": me, **given}), pytest.raises(SystemExit):
            app_lock.main()
        return json.loads(capsys.readouterr().out)

    return execute


def holders(apps: dict[str, App]) -> list[str | None]:
    """The holder of each app's lock."""
    return [app.rollout_lock.record().get("process") for app in apps.values()]


def test_all_locks_are_acquired(apps: dict[str, App], module: Callable[..., dict[str, Any]]) -> None:
    result = module(operation="deploy")
    assert (result["changed"], holders(apps)) == (True, [LAPTOP, LAPTOP])
    assert {name: one["lock"]["what"] for name, one in result["apps"].items()} == {
        "blog": "deploy",
        "shop": "deploy",
    }
    assert not module(operation="deploy")["changed"]


def test_if_another_run_holds_one_lock_none_is_acquired(
    apps: dict[str, App], module: Callable[..., dict[str, Any]]
) -> None:
    apps["shop"].rollout_lock.acquire({"process": DESKTOP, "by": "you@desktop", "what": "restart"})
    result = module()
    assert result["failed"]
    assert result["msg"].startswith("shop: a restart by you@desktop has held the lock since ")
    assert result["msg"].endswith(". Nothing was changed.")
    assert result["holder"]["process"] == DESKTOP
    assert holders(apps) == [None, DESKTOP]


@pytest.mark.parametrize("how", [{"force": True}, {"break_holders": [DESKTOP]}], ids=["by force", "holder is gone"])
def test_a_lock_is_broken_and_acquired(
    apps: dict[str, App], module: Callable[..., dict[str, Any]], how: dict[str, Any]
) -> None:
    apps["shop"].rollout_lock.acquire({"process": DESKTOP, "by": "you@desktop", "what": "restart"})
    assert module(**how)["changed"]
    assert holders(apps) == [LAPTOP, LAPTOP]


def test_gathering_changes_nothing(apps: dict[str, App], module: Callable[..., dict[str, Any]]) -> None:
    apps["shop"].rollout_lock.acquire({"process": DESKTOP, "by": "you@desktop", "what": "restart"})
    result = module(state="gathered")
    assert (result["changed"], holders(apps)) == (False, [None, DESKTOP])
    assert result["apps"]["blog"] == {
        "live": None, "before": None, "on_disk": [], "voided": [], "singletons": False, "hooks": {}, "lock": {},
        "interrupted": {},
    }  # fmt: skip


@pytest.mark.parametrize("check_mode", [False, True])
def test_the_reason_of_a_broken_lock_is_logged(
    apps: dict[str, App], module: Callable[..., dict[str, Any]], check_mode: bool
) -> None:
    apps["shop"].rollout_lock.acquire({"process": DESKTOP, "by": "you@desktop", "what": "restart"})
    since = apps["shop"].rollout_lock.record()["since"]
    result = module(state="broken", reason="it burnt", _ansible_check_mode=check_mode)
    lock = f"the lock of a restart by you@desktop since {since}"
    assert (result["changed"], result["broken"]) == (True, [f"shop: {lock}"])
    assert holders(apps) == [None, DESKTOP if check_mode else None]
    log = apps["shop"].paths.audit_file
    kept = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    words = f"broke {lock}: it burnt"
    assert [(one["app"], one["by"], one["what"]) for one in kept] == ([] if check_mode else [("shop", ME, words)])


def test_a_lock_is_not_broken_without_a_reason(module: Callable[..., dict[str, Any]]) -> None:
    assert "reason" in module(state="broken")["msg"]


def test_if_no_run_holds_a_lock_none_is_broken(module: Callable[..., dict[str, Any]]) -> None:
    result = module(state="broken", reason="it burnt")
    assert (result["changed"], result["broken"]) == (False, [])
