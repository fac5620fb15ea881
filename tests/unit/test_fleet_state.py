"""What is on a host is told from its own records, also of what is no longer in the inventory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet.releases import App
from ansible.module_utils.flaskfleet.trees import File, Tree
from ansible.module_utils.testing import patch_module_args
from ansible.modules import fleet_state
from ansible.modules.config_tree import present
from conftest import GROUP, OWNER, Clock
from examples import ME, A, B
from plugin_utils import status


@pytest.fixture
def state(host: Path) -> Path:
    return host / "var/lib/flaskfleet"


@pytest.fixture
def tree(host: Path, state: Path) -> Path:
    """A file of configuration that was written to the host."""
    tree = Tree("nginx", state / "trees", host)
    present(tree, [File("/etc/nginx.conf", "x", "0644", OWNER, GROUP)], "1", [], check_mode=False)
    return host / "etc/nginx.conf"


@pytest.fixture
def live(switch: Callable[..., App], clock: Clock) -> App:
    """The app ``blog`` with B live."""
    return switch(A, B)


def look(state: Path, app: App, host: Path) -> dict[str, Any]:
    return fleet_state.look(state, app.programs.rpc, host)


def test_a_host_has_its_apps_and_files(tree: Path, live: App, state: Path, host: Path) -> None:
    found = look(state, live, host)
    assert found["apps"] == [live.report()]
    assert (found["apps"][0]["live"], found["drift"]) == (B, [])


def test_a_new_host_has_nothing(app: App, state: Path, host: Path) -> None:
    found = look(state, app, host)
    assert (found["apps"], found["drift"]) == ([], [])


def test_what_was_edited_is_drift(tree: Path, live: App, state: Path, host: Path) -> None:
    tree.write_text("by hand")
    assert look(state, live, host)["drift"] == ["/etc/nginx.conf was edited"]


def test_an_app_that_was_removed_is_not_told(live: App, state: Path, host: Path) -> None:
    live.remove(False, ME)
    assert live.journal_file.exists()
    assert look(state, live, host)["apps"] == []


def test_an_app_is_told_while_its_lock_is_held(live: App, state: Path, host: Path) -> None:
    with live.lock():
        assert [app["app"] for app in look(state, live, host)["apps"]] == ["blog"]


def test_an_app_whose_folders_were_deleted_keeps_no_other_from_being_told(live: App, state: Path, host: Path) -> None:
    shutil.copy(live.journal_file, live.journal_file.with_name("shop.json"))
    assert [app["app"] for app in look(state, live, host)["apps"]] == ["blog"]


def test_now_is_in_seconds(app: App, state: Path, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.9)
    assert look(state, app, host)["now"] == 1_700_000_000


def test_looking_changes_nothing(tree: Path, live: App, state: Path, host: Path, snapshot) -> None:
    before = snapshot(host)
    live.programs.rpc.calls.clear()
    look(state, live, host)
    assert (snapshot(host), live.programs.rpc.calls) == (before, [])


def test_what_is_found_can_be_told(tree: Path, live: App, state: Path, host: Path) -> None:
    tree.write_text("by hand")
    lines = status.lines(json.loads(json.dumps(look(state, live, host))), [])
    assert (lines[0].partition(" ")[0], lines[-1]) == ("blog:", "  edited    /etc/nginx.conf was edited")


# the module


@pytest.fixture
def module(
    app: App, host: Path, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], dict[str, Any]]:
    """A function that runs the module and returns its result."""
    monkeypatch.setattr(fleet_state, "STATE", state)
    monkeypatch.setattr(fleet_state, "supervisor", lambda path: app.programs.rpc)

    def execute() -> dict[str, Any]:
        with patch_module_args({}), pytest.raises(SystemExit):
            fleet_state.main()
        return json.loads(capsys.readouterr().out)

    return execute


def test_the_module_only_looks(module: Callable[[], dict[str, Any]]) -> None:
    result = module()
    assert (result["changed"], result["apps"], result["drift"]) == (False, [], [])


def test_a_supervisor_that_is_not_there_is_a_failure_in_words(
    module: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FileNotFoundError(2, "No such file", "/run/supervisor.sock")

    monkeypatch.setattr(fleet_state, "look", fail)
    result = module()
    assert result["failed"]
    assert result["msg"].endswith("'/run/supervisor.sock'; is Supervisor running?")
