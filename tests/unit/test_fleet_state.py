"""The state of a host comes from its own records, also for apps that are no longer in the inventory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from ansible.module_utils.flaskfleet import (
    app_state,
    certificates,
    presence,
    trees,
)
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.drains import Drains
from ansible.module_utils.flaskfleet.files import read_json, write_json
from ansible.module_utils.flaskfleet.services import Worker
from ansible.module_utils.flaskfleet.trees import File, Tree
from ansible.module_utils.testing import patch_module_args
from ansible.modules import fleet_state
from ansible.modules.config_tree import present
from conftest import GROUP, OWNER, Clock, needs_ipv6
from examples import ME, A, B
from plugin_utils import status


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Which services run; all but those that are set to False."""
    stopped: dict[str, bool] = {}
    monkeypatch.setattr(fleet_state, "is_active", lambda name: stopped.get(name, True))
    return stopped


@pytest.fixture
def state(host: Path) -> Path:
    return host / "var/lib/flaskfleet"


@pytest.fixture
def tree(host: Path, state: Path) -> Path:
    """A file of configuration that was written to the host."""
    tree = Tree("nginx", state / "trees", host)
    present(tree, [File("/etc/nginx.conf", "x", "0644", OWNER, GROUP)], "1", [], check_mode=False, service="nginx")
    return host / "etc/nginx.conf"


@pytest.fixture
def live(switch: Callable[..., App], clock: Clock) -> App:
    """The app ``blog`` with B live."""
    return switch(A, B)


def look(state: Path, app: App, host: Path) -> dict[str, Any]:
    return fleet_state.look(state, app.supervisor.rpc, host)


def test_a_host_has_its_apps_and_files(tree: Path, live: App, state: Path, host: Path) -> None:
    found = look(state, live, host)
    assert found["apps"] == [{**app_state.report(live), "stuck": []}]
    assert (found["apps"][0]["live"], found["drift"]) == (B, [])


def test_a_new_host_has_nothing(app: App, state: Path, host: Path) -> None:
    found = look(state, app, host)
    assert (found["apps"], found["drift"]) == ([], [])


def test_an_edited_file_is_drift(tree: Path, live: App, state: Path, host: Path) -> None:
    tree.write_text("by hand")
    assert look(state, live, host)["drift"] == ["/etc/nginx.conf was edited"]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (60, []),
        (20, ["certificate lan expires in 19 days: replace it, and run site.yml"]),
        (-1, ["certificate lan has expired, browsers refuse it: replace it, and run site.yml"]),
    ],
)
def test_a_certificate_is_drift_before_it_expires(
    live: App, state: Path, host: Path, days: int, words: list[str]
) -> None:
    now = datetime.now(UTC)
    dates = {"not_before": now - timedelta(days=90 - days), "not_after": now + timedelta(days=days)}
    cert = trustme.CA(organization_name="Ours", organization_unit_name="CA").issue_cert("blog.lan", **dates)
    content = cert.private_key_and_cert_chain_pem.bytes().decode()
    tree = Tree("nginx", state / "trees", host)
    file = File("/etc/nginx/tls/lan.pem", content, "0600", OWNER, GROUP)
    present(tree, [file, File("/etc/nginx/tls/lan.conf", "x", "0644", OWNER, GROUP)], "1", [], check_mode=False)
    found = look(state, live, host)
    assert found["drift"] == words
    (one,) = found["certificates"]
    assert (one["name"], one["issuer"], one["until"] - one["since"]) == ("lan", "OU=CA,O=Ours", 90 * 86400)


def test_a_certificate_that_can_not_be_read_is_drift(live: App, state: Path, host: Path) -> None:
    file = File("/etc/nginx/tls/lan.pem", "x", "0600", OWNER, GROUP)
    present(Tree("nginx", state / "trees", host), [file], "1", [], check_mode=False)
    found = look(state, live, host)
    assert found["certificates"] == []
    (words,) = found["drift"]
    assert "etc/nginx/tls/lan.pem can't be read as a certificate: " in words


def test_a_removed_app_is_not_reported(live: App, state: Path, host: Path) -> None:
    presence.remove(live, False, ME)
    assert live.paths.journal_file.exists()
    assert look(state, live, host)["apps"] == []


def test_an_app_is_reported_while_its_lock_is_held(live: App, state: Path, host: Path) -> None:
    with live.rollout_lock.one_step():
        assert [app["app"] for app in look(state, live, host)["apps"]] == ["blog"]


def test_other_apps_are_reported_if_the_folders_of_one_were_deleted(live: App, state: Path, host: Path) -> None:
    shutil.copy(live.paths.journal_file, live.paths.journal_file.with_name("shop.json"))
    assert [app["app"] for app in look(state, live, host)["apps"]] == ["blog"]


def test_other_apps_are_reported_if_one_cannot_be_read(
    live: App, state: Path, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(app: App) -> list[int]:
        raise RecursionError("too deep")

    monkeypatch.setattr(fleet_state, "stuck", stuck)
    found = look(state, live, host)
    assert (found["apps"], found["drift"]) == ([], ["blog can't be looked at: RecursionError: too deep"])


def test_now_is_in_seconds(app: App, state: Path, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.9)
    assert look(state, app, host)["now"] == 1_700_000_000


def test_gathering_changes_nothing(tree: Path, live: App, state: Path, host: Path, snapshot) -> None:
    before = snapshot(host)
    live.supervisor.rpc.calls.clear()
    look(state, live, host)
    assert (snapshot(host), live.supervisor.rpc.calls) == (before, [])


def test_the_state_can_be_written_as_json(tree: Path, live: App, state: Path, host: Path) -> None:
    tree.write_text("by hand")
    found = {**look(state, live, host), "has_address": False}
    lines = status.lines(json.loads(json.dumps(found)), [])
    assert (lines[0].partition(" ")[0], lines[-1]) == ("blog:", "  drift       /etc/nginx.conf was edited")


# the module


@pytest.fixture
def module(
    app: App, host: Path, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], dict[str, Any]]:
    """A function that runs the module and returns its result."""
    monkeypatch.setattr(fleet_state, "STATE", state)
    monkeypatch.setattr(fleet_state, "supervisor", lambda path: app.supervisor.rpc)

    def execute() -> dict[str, Any]:
        with patch_module_args({}), pytest.raises(SystemExit):
            fleet_state.main()
        return json.loads(capsys.readouterr().out)

    return execute


def test_the_module_changes_nothing(module: Callable[[], dict[str, Any]]) -> None:
    result = module()
    assert (result["changed"], result["apps"], result["drift"]) == (False, [], [])


# what is not as it should be


class Silent:
    """A Supervisor that does not answer."""

    def getAllProcessInfo(self) -> None:
        raise FileNotFoundError(2, "No such file", "/run/supervisor.sock")


def test_services_that_do_not_run_are_drift(
    tree: Path, live: App, state: Path, host: Path, services: dict[str, bool]
) -> None:
    services["nginx"] = False
    assert look(state, live, host)["drift"] == ["nginx does not run"]


def test_files_that_no_service_reads_need_none(
    live: App, state: Path, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [File("/etc/base.conf", "x", "0644", OWNER, GROUP)]
    present(Tree("base", state / "trees", host), files, "1", [], check_mode=False)
    monkeypatch.setattr(fleet_state, "is_active", lambda name: False)
    assert look(state, live, host)["drift"] == []


@pytest.mark.parametrize(("name", "drift"), [("nginx", ["nginx does not run"]), ("base", [])])
def test_a_record_of_an_earlier_version_has_no_service(
    name: str, drift: list[str], live: App, state: Path, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(name, state / "trees", host)
    present(tree, [File("/etc/some.conf", "x", "0644", OWNER, GROUP)], "1", [], check_mode=False)
    record = read_json(tree.manifest)
    del record["service"]
    write_json(tree.manifest, record)
    monkeypatch.setattr(fleet_state, "is_active", lambda name: False)
    assert look(state, live, host)["drift"] == drift


def test_a_service_whose_files_were_removed_need_not_run(
    tree: Path, live: App, state: Path, host: Path, services: dict[str, bool]
) -> None:
    present(Tree("nginx", state / "trees", host), [], "2", [], check_mode=False, service="nginx")
    services["nginx"] = False
    assert look(state, live, host)["drift"] == []


def test_a_host_without_supervisor_is_reported(live: App, state: Path, host: Path) -> None:
    found = fleet_state.look(state, Silent(), host)
    assert (found["apps"][0]["live"], found["apps"][0]["programs"], found["drift"]) == (B, [], [])


@pytest.mark.parametrize(
    ("running", "drift"),
    [("1", []), ("2", ["nginx runs another configuration than the one on disk"]), (None, ["nginx runs another"])],
    ids=["the one on disk", "another one", "no answer"],
)
def test_a_pending_tree_is_drift(
    state: Path, app: App, host: Path, monkeypatch: pytest.MonkeyPatch, running: str | None, drift: list[str]
) -> None:
    monkeypatch.setattr(trees, "running_tree", lambda source: {"http://x/tree": running}[source])
    nginx = Tree("nginx", state / "trees", host)
    present(nginx, [File("/etc/nginx.conf", "x", "0644", OWNER, GROUP)], "1", [], False, "http://x/tree")
    found = look(state, app, host)["drift"]
    assert [words[: len(one)] for words, one in zip(found, drift, strict=True)] == drift


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("hello", "program hello is not flaskfleet's"),
        (f"shop-{B}", f"program shop-{B} is not flaskfleet's"),
    ],
)
def test_an_unknown_program_is_drift(live: App, state: Path, host: Path, program: str, words: str) -> None:
    live.supervisor.rpc.run(program)
    assert look(state, live, host)["drift"] == [words]


def test_a_stopped_or_missing_program_is_drift(live: App, state: Path, host: Path) -> None:
    rpc = live.supervisor.rpc
    processes = rpc.getAllProcessInfo()
    stopped = [{**one, "statename": "STOPPED"} for one in processes]
    for told, what in ((stopped, "is STOPPED"), ([], "is not known to Supervisor")):
        found = fleet_state.look(state, SimpleNamespace(getAllProcessInfo=lambda told=told: told), host)
        assert f"program blog-{B} {what}" in found["drift"]


@pytest.mark.parametrize(
    ("installed", "drift"),
    [
        ("installed nginx=1.22.1-9", []),
        ("installed nginx=1.24.0-1", []),
        ("installed nginx=1.18.0-6", ["package nginx is at 1.18.0-6, below 1.22.1-9"]),
        ("config-files nginx=1.22.1-9", ["package nginx was removed"]),
        ("", ["package nginx was removed"]),
    ],
    ids=["as recorded", "newer", "older", "removed", "purged"],
)
def test_a_lower_version_of_a_package_is_drift(
    state: Path, app: App, host: Path, monkeypatch: pytest.MonkeyPatch, installed: str, drift: list[str]
) -> None:
    def run(argv: list[str], **_: object) -> SimpleNamespace:
        is_less = len(argv) > 3 and argv[0] == "dpkg" and argv[2] < argv[4]
        return SimpleNamespace(stdout=f"{installed}\n", returncode=0 if is_less else 1)

    monkeypatch.setattr(fleet_state, "subprocess", SimpleNamespace(run=run))
    state.mkdir(parents=True, exist_ok=True)
    (state / "base.fact").write_text("[versions]\nnginx=1.22.1-9\n")
    assert look(state, app, host)["drift"] == drift


def test_requests_beyond_harakiri_are_reported(live: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_state.time, "time", lambda: 1_700_000_000.0)
    limit = live.paths.entry(B)["harakiri_seconds"]
    running = [1_700_000_000 - limit, 1_699_999_999, 0]
    monkeypatch.setattr(
        fleet_state, "uwsgi_workers", lambda _: [Worker(1, 5, "busy", running), Worker(2, 5, "idle", [])]
    )
    assert fleet_state.stuck(live) == [limit]


def test_drained_hosts_are_described(state: Path, app: App, host: Path) -> None:
    Drains(["app1", "app2"], host).drain("app1", kind="manual", reason="a new disk", by=ME, process="box 1")
    (words,) = look(state, app, host)["drained"]
    assert words.startswith("app1 is drained since ")


@pytest.mark.parametrize(
    ("address", "has"),
    [
        ("127.0.0.1", True),
        pytest.param("::1", True, marks=needs_ipv6),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("", False),
    ],
)
def test_a_host_knows_whether_it_has_an_address(address: str, has: bool) -> None:
    assert fleet_state.has_address(address) == has


@pytest.mark.parametrize(
    ("recorded", "is_served", "drift"),
    [
        ({"served": {}}, True, []),
        ({"served": {}, "error": "too many", "asked": ["blog.lan"]}, True, ["blog has no new certificate: too many"]),
        ({"served": {}, "error": "refused", "asked": ["blog.lan", "bad.lan"]}, True, []),
        ({"served": {}}, False, ["blog has no certificate of the ACME directory yet: run site.yml"]),
    ],
)
def test_what_the_acme_directory_does_not_give_is_drift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: dict[str, Any], is_served: bool, drift: list[str]
) -> None:
    state, sites = tmp_path / "var/lib/flaskfleet", tmp_path / "etc/flaskfleet/acme/sites.json"
    assert certificates.acme_drift(state, tmp_path) == []
    for folder in (state / "trees/nginx", state / "acme/served", sites.parent, tmp_path / "bin"):
        folder.mkdir(parents=True)
    (state / "trees/nginx/manifest.json").write_text(json.dumps({"files": {"/etc/flaskfleet/acme/sites.json": {}}}))
    sites.write_text(json.dumps({"sites": {"blog": ["blog.lan"]}}))
    (state / "acme.fact").write_text(json.dumps({"sites": {"blog": recorded, "gone": {"error": "old"}}}))
    if is_served:
        (state / "acme/served/blog.conf").touch()
    for code, more in ((0, []), (3, ["flaskfleet-acme.timer does not run, and nothing renews certificates: "])):
        (tmp_path / "bin/systemctl").write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / "bin/systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        told = certificates.acme_drift(state, tmp_path)
        assert told[: len(drift)] == drift
        assert [one.partition("systemctl start")[0] for one in told[len(drift) :]] == more
