"""The module rollout: claims of all apps of a host or none, and what it tells of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet.releases import App
from ansible.module_utils.testing import patch_module_args
from ansible.modules import rollout
from examples import ME
from supervisor import Supervisor

LAPTOP, DESKTOP = "laptop 1", "desktop 1"


@pytest.fixture
def apps(host: Path) -> dict[str, App]:
    """Two apps that nobody changes."""
    return {name: App(name, Supervisor(), host) for name in ("blog", "shop")}


@pytest.fixture
def module(
    apps: dict[str, App], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """A function that runs the module and returns its result."""
    monkeypatch.setattr(rollout, "App", lambda name, rpc: apps[name])

    def execute(**given: Any) -> dict[str, Any]:
        mine = {"process": LAPTOP, "by": ME}
        with patch_module_args({"apps": [*apps], "rollout": mine, **given}), pytest.raises(SystemExit):
            rollout.main()
        return json.loads(capsys.readouterr().out)

    return execute


def holders(apps: dict[str, App]) -> list[str | None]:
    """Whose each app is."""
    return [app.rollout().get("process") for app in apps.values()]


def test_all_apps_are_claimed(apps: dict[str, App], module: Callable[..., dict[str, Any]]) -> None:
    result = module(what="deploy")
    assert (result["changed"], holders(apps)) == (True, [LAPTOP, LAPTOP])
    assert {name: one["rollout"]["what"] for name, one in result["apps"].items()} == {
        "blog": "deploy",
        "shop": "deploy",
    }
    assert not module(what="deploy")["changed"]


def test_where_somebody_has_one_none_is_claimed(apps: dict[str, App], module: Callable[..., dict[str, Any]]) -> None:
    apps["shop"].begin({"process": DESKTOP, "by": "you@desktop", "what": "restart"})
    result = module()
    assert result["failed"]
    assert result["msg"].startswith("shop: a restart by you@desktop has been going on since ")
    assert result["msg"].endswith(". Nothing was changed.")
    assert result["holder"]["process"] == DESKTOP
    assert holders(apps) == [None, DESKTOP]


@pytest.mark.parametrize("how", [{"force": True}, {"take_over": DESKTOP}], ids=["by force", "from who is gone"])
def test_a_claim_is_taken_over(
    apps: dict[str, App], module: Callable[..., dict[str, Any]], how: dict[str, Any]
) -> None:
    apps["shop"].begin({"process": DESKTOP, "by": "you@desktop", "what": "restart"})
    assert module(**how)["changed"]
    assert holders(apps) == [LAPTOP, LAPTOP]


def test_looking_changes_nothing(apps: dict[str, App], module: Callable[..., dict[str, Any]]) -> None:
    apps["shop"].begin({"process": DESKTOP, "by": "you@desktop", "what": "restart"})
    result = module(state="seen")
    assert (result["changed"], holders(apps)) == (False, [None, DESKTOP])
    assert result["apps"]["blog"] == {
        "live": None, "before": None, "on_disk": [], "voided": [], "singletons": False, "hooks": {}, "rollout": {},
        "interrupted": {},
    }  # fmt: skip


@pytest.mark.parametrize("check_mode", [False, True])
def test_whoevers_claim_is_ended_for_a_reason_that_is_kept(
    apps: dict[str, App], module: Callable[..., dict[str, Any]], check_mode: bool
) -> None:
    apps["shop"].begin({"process": DESKTOP, "by": "you@desktop", "what": "restart"})
    since = apps["shop"].rollout()["since"]
    result = module(state="released", reason="it burnt", _ansible_check_mode=check_mode)
    assert (result["changed"], result["released"]) == (True, [f"shop: the restart by you@desktop since {since}"])
    assert holders(apps) == [None, DESKTOP if check_mode else None]
    log = apps["shop"].audit_file
    kept = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    words = f"unlocked, from a restart by you@desktop since {since}: it burnt"
    assert [(one["app"], one["by"], one["what"]) for one in kept] == ([] if check_mode else [("shop", ME, words)])


def test_a_claim_is_not_ended_without_a_reason(module: Callable[..., dict[str, Any]]) -> None:
    assert "reason" in module(state="released")["msg"]


def test_where_nobody_has_one_nothing_is_ended(module: Callable[..., dict[str, Any]]) -> None:
    result = module(state="released", reason="it burnt")
    assert (result["changed"], result["released"]) == (False, [])
