"""The module config_tree: what it returns, and what it leaves alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet import trees
from ansible.module_utils.flaskfleet.files import lock
from ansible.module_utils.flaskfleet.trees import File, Tree
from ansible.module_utils.testing import patch_module_args
from ansible.modules import config_tree
from interruption import interruptions


@pytest.fixture
def module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], me: dict[str, str]
) -> Callable[..., dict[str, Any]]:
    """A function that runs the module on a tree of two files and returns its result."""
    monkeypatch.setattr(config_tree, "STATE", tmp_path / "state")

    def run(content: str = "a", names: str = "ab", **arguments: Any) -> dict[str, Any]:
        files = [{"path": f"{tmp_path}/etc/{name}.conf", "content": content, "mode": "0644", **me} for name in names]
        defaults = {"name": "nginx", "rendered": json.dumps({"files": files}), "tree": content}
        with patch_module_args({**defaults, **arguments}), pytest.raises(SystemExit):
            config_tree.main()
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | None]]:
    """The hashes that the service reports, one by one; the last one stays."""
    answers: list[str | None] = [None]
    monkeypatch.setattr(trees, "running_tree", lambda _: answers.pop(0) if len(answers) > 1 else answers[0])
    return answers


def test_a_change_is_reported(module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    module("a")
    result = module("b")
    assert result["changed"]
    assert result["tree"] == "b"
    assert result["written"] == [f"{tmp_path}/etc/a.conf", f"{tmp_path}/etc/b.conf"]
    assert result["diff"][0]["before"] == "a"


def test_contents_are_not_in_the_hosts_journal(
    module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = []
    monkeypatch.setattr(AnsibleModule, "log", lambda self, msg, log_args=None: logged.append(msg))
    result = module("canary")
    assert "Invoked with name=nginx" in "".join(logged)
    assert "canary" not in "".join(logged).replace("tree=canary", "")
    assert result["diff"][0]["after"] == "canary"


def test_a_removal_is_reported(module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    module("a")
    assert module("none", names="")["removed"] == [f"{tmp_path}/etc/a.conf", f"{tmp_path}/etc/b.conf"]


def test_no_change_is_reported_for_the_same_tree(module: Callable[..., dict[str, Any]]) -> None:
    module("a")
    result = module("a")
    assert (result["changed"], result["written"], result["removed"]) == (False, [], [])


@pytest.mark.parametrize("before", [None, "a"])
def test_check_mode_writes_nothing(
    module: Callable[..., dict[str, Any]], tmp_path: Path, snapshot: Callable[[Path], dict], before: str | None
) -> None:
    if before:
        module(before)
    left = snapshot(tmp_path)
    result = module("b", _ansible_check_mode=True)
    assert len(result["written"]) == 2
    assert result["changed"]
    assert snapshot(tmp_path) == left


def test_check_mode_does_not_finish_an_interrupted_apply(
    tmp_path: Path, me: dict[str, str], snapshot: Callable[[Path], dict]
) -> None:
    tree = Tree("nginx", tmp_path / "state", tmp_path / "root")
    files = [File("/etc/a.conf", "a", **me)]
    for _ in interruptions(lambda _: config_tree.present(tree, files, "1", [], check_mode=False)):
        if tree.journal.exists():
            break
    before = snapshot(tmp_path)
    config_tree.present(tree, files, "1", [], check_mode=True)
    assert snapshot(tmp_path) == before


def test_finishing_an_interrupted_apply_counts_as_a_change(
    module: Callable[..., dict[str, Any]], tmp_path: Path, me: dict[str, str]
) -> None:
    """Its handler has not run, and a tree without ``running`` has no other way to know."""
    module("a")
    tree = Tree("nginx", tmp_path / "state")
    files = [File(f"{tmp_path}/etc/{name}.conf", "b", **me) for name in "ab"]
    for _ in interruptions(lambda _: config_tree.present(tree, files, "b", [], check_mode=False)):
        if tree.journal.exists():
            break
    assert module("b")["changed"]


def test_a_refusal_is_the_failure(module: Callable[..., dict[str, Any]]) -> None:
    result = module(check=["sh", "-c", "echo unknown directive >&2; exit 1"])
    assert result["failed"]
    assert "unknown directive" in result["msg"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_folders_can_be_entered_whatever_the_umask(
    module: Callable[..., dict[str, Any]], tmp_path: Path, umask: int
) -> None:
    os.umask(umask)
    module("a")
    assert (tmp_path / "etc").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(("answer", "pending"), [("a", False), ("old", True), (None, True)])
def test_pending_is_whether_the_service_runs_something_else(
    module: Callable[..., dict[str, Any]], running: list[str | None], answer: str | None, pending: bool
) -> None:
    module("a")
    running[:] = [answer]
    result = module("a", running="nginx:/x.sock")
    assert (result["pending"], result["changed"]) == (pending, pending)


def test_without_a_source_nothing_is_pending(module: Callable[..., dict[str, Any]]) -> None:
    assert "pending" not in module("a")


def test_running_waits_for_the_tree_on_disk(module: Callable[..., dict[str, Any]], running: list[str | None]) -> None:
    module("a")
    running[:] = ["old", None, "a"]
    result = module(state="running", running="nginx:/x.sock")
    assert (result["changed"], result["pending"], result["tree"]) == (False, False, "a")


def wait_in_vain(module: Callable[..., dict[str, Any]], log: Path) -> str:
    module("a")
    result = module(state="running", running="nginx:/x.sock", timeout=0, log=str(log))
    assert result["failed"]
    return result["msg"]


def test_a_service_that_keeps_its_old_tree_is_a_failure_with_the_end_of_its_log(
    module: Callable[..., dict[str, Any]], running: list[str | None], tmp_path: Path
) -> None:
    log = tmp_path / "error.log"
    log.write_text("".join(f"line {number}\n" for number in range(20)))
    running[:] = ["old"]
    words = wait_in_vain(module, log)
    assert words.startswith("nginx still runs the configuration old, and the one on disk (a) stays pending.")
    assert words.endswith("line 18\nline 19")
    assert "line 9\n" not in words


def test_a_service_that_has_no_log_yet_is_a_failure_all_the_same(
    module: Callable[..., dict[str, Any]], running: list[str | None], tmp_path: Path
) -> None:
    running[:] = ["old"]
    assert wait_in_vain(module, tmp_path / "missing.log").endswith("then run site.yml.\n")


def test_a_service_that_does_not_answer_is_a_failure_with_its_status(
    module: Callable[..., dict[str, Any]],
    running: list[str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = tmp_path / "bin" / "service"
    service.parent.mkdir()
    service.write_text("#!/bin/sh\necho $1 is not running\n")
    service.chmod(0o755)
    monkeypatch.setenv("PATH", str(service.parent), prepend=":")
    words = wait_in_vain(module, tmp_path / "error.log")
    assert words.startswith("nginx does not answer, and the one on disk (a) stays pending.")
    assert words.strip().endswith("nginx is not running")


def test_wait_until_running_returns_at_once_what_is_wanted(tmp_path: Path, running: list[str | None]) -> None:
    running[:] = ["new"]
    assert config_tree.wait_until_running(Tree("nginx", tmp_path), "", "new", timeout=60) == "new"


def test_wait_until_running_asks_again(tmp_path: Path, running: list[str | None]) -> None:
    running[:] = [None, "old", "new"]
    assert config_tree.wait_until_running(Tree("nginx", tmp_path), "", "new", timeout=60) == "new"


def test_wait_until_running_gives_up_with_what_runs(tmp_path: Path, running: list[str | None]) -> None:
    running[:] = ["old"]
    assert config_tree.wait_until_running(Tree("nginx", tmp_path), "", "new", timeout=0) == "old"


def test_a_tree_that_handlers_apply_is_pending_until_they_have_run(module: Callable[..., dict[str, Any]]) -> None:
    assert module(running="handlers")["pending"]
    assert module(running="handlers")["changed"]
    assert not module(state="running", running="handlers")["changed"]
    assert not module(running="handlers")["changed"]


def test_a_tree_that_is_not_there_cannot_run(module: Callable[..., dict[str, Any]]) -> None:
    assert (
        module(state="running", running="handlers")["msg"]
        == "nginx: this host has no configuration of that name; run site.yml"
    )


def test_a_second_run_at_the_same_time_is_refused(module: Callable[..., dict[str, Any]]) -> None:
    with lock(config_tree.STATE / "nginx" / "lock"):
        assert f"process {os.getpid()} is writing it right now" in module()["msg"]
