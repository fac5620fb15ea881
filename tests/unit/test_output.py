"""What a run shows: what changed, and why something failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import context
from callback import flaskfleet
from plugin_utils import outcomes, screen


class Screen:
    """Stands for Ansible's display."""

    verbosity = 0
    columns = 79

    def __init__(self) -> None:
        self.text = ""

    def display(self, message: str, **_: Any) -> None:
        self.text += f"{message}\n"

    def banner(self, message: str, **_: Any) -> None:
        self.text += f"{message} ***\n"

    def warning(self, message: str, **_: Any) -> None:
        self.text += f"[WARNING]: {message}\n"


@pytest.fixture
def run() -> Iterator[Any]:
    """A run that has come to the first task of a play."""
    callback = flaskfleet.CallbackModule()
    callback._display = Screen()
    callback.v2_playbook_on_play_start(SimpleNamespace(get_name=lambda: "App servers", check_mode=False))
    start(callback, "Configure | Render the nginx config tree")
    yield callback
    callback.screen.end_task()


def start(callback: Any, name: str) -> None:
    callback.v2_playbook_on_task_start(SimpleNamespace(get_name=lambda: name), False)


def result(host: str, *, action: str = "config_tree", loop: Any = None, args: Any = (), **values: Any) -> Any:
    """A task's result on a host, as Ansible hands it to callbacks."""
    task = SimpleNamespace(
        action=action,
        loop=loop,
        args=dict(args),
        ignore_errors=False,
        ignore_unreachable=False,
        delegate_to=None,
        run_once=False,
    )
    return SimpleNamespace(host=SimpleNamespace(get_name=lambda: host), task=task, result=values, task_fields={})


def finished(callback: Any) -> str:
    """What the run has shown when the task has ended."""
    callback.screen.end_task()
    return str(callback._display.text)


NGINX = "\nApp servers\n  Configure | Render the nginx config tree\n"


def test_hosts_on_which_the_same_changed_are_shown_together(run: Any) -> None:
    for host in ("app2", "app1"):
        run.v2_runner_on_ok(result(host, changed=True, written=["/etc/nginx/nginx.conf"], removed=[]))
    run.v2_runner_on_ok(result("app3", changed=True, written=[], removed=[], pending=True))
    assert finished(run) == (
        f"{NGINX}"
        "    changed: app1, app2\n      written: /etc/nginx/nginx.conf\n"
        "    changed: app3\n      on disk already; pending, because the service does not run it yet\n"
    )


def test_the_heading_of_a_play_is_shown_once(run: Any) -> None:
    run.v2_runner_on_ok(result("app1", changed=True))
    start(run, "Service | Start nginx, now and at boot")
    run.v2_runner_on_ok(result("app1", changed=True))
    assert finished(run) == f"{NGINX}    changed: app1\n  Service | Start nginx, now and at boot\n    changed: app1\n"


def test_check_mode_is_shown(run: Any) -> None:
    run.v2_playbook_on_play_start(SimpleNamespace(get_name=lambda: "Deploy", check_mode=True))
    start(run, "Task")
    run.v2_runner_on_ok(result("app1", changed=True))
    assert finished(run).startswith("\nDeploy (check mode)\n")


@pytest.mark.parametrize("event", ["v2_runner_on_ok", "v2_runner_on_skipped", "v2_runner_item_on_skipped"])
def test_what_changes_nothing_is_not_shown(run: Any, event: str) -> None:
    getattr(run, event)(result("app1", changed=False, written=["/etc/hosts"]))
    assert finished(run) == ""


def test_plays_without_hosts_and_includes_are_not_shown(run: Any) -> None:
    run.v2_playbook_on_no_hosts_matched()
    run.v2_playbook_on_include(SimpleNamespace())
    assert finished(run) == ""


def test_the_end_of_a_run_without_hosts_is_shown(run: Any) -> None:
    run.v2_playbook_on_no_hosts_remaining()
    assert "No host is left" in finished(run)


def test_a_difference_is_shown_below_its_hosts(run: Any) -> None:
    for host in ("app1", "app2"):
        changed = result(host, changed=True, diff=[{"before": "a\n", "after": "b\n"}])
        run.v2_on_file_diff(changed)
        run.v2_runner_on_ok(changed)
    shown = finished(run)
    assert "changed: app1, app2\n      --- before\n" in shown
    assert shown.count("+b") == 1


def test_items_are_shown_by_their_label(run: Any) -> None:
    for item in ("hello", "blog"):
        run.v2_runner_item_on_ok(result("app1", loop=["hello"], changed=item == "blog", item=item))
    run.v2_runner_on_ok(result("app1", loop=["hello"], changed=True, results=[]))
    assert finished(run) == f"{NGINX}    changed: app1\n      blog\n"


def test_an_item_whose_change_names_it_is_shown_once(run: Any) -> None:
    run.v2_runner_item_on_ok(result("app1", changed=True, item="blog", app="blog", live="b2"))
    assert finished(run) == f"{NGINX}    changed: app1\n      blog: b2 is live\n"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("v2_runner_on_failed", "failed"),
        ("v2_runner_on_unreachable", "unreachable"),
    ],
)
def test_a_failure_is_shown_at_once_with_its_message(run: Any, event: str, words: str) -> None:
    getattr(run, event)(result("app1", msg="uwsgi_listen: 5000 is more than 4096\nraise it"))
    assert run._display.text == (
        f"{NGINX}    {words}: app1\n      uwsgi_listen: 5000 is more than 4096\n      raise it\n"
    )


def test_a_failure_that_is_ignored_says_so(run: Any) -> None:
    run.v2_runner_on_failed(result("app1", msg="no"), ignore_errors=True)
    assert "    failed, ignored: app1\n" in run._display.text


def test_a_failed_item_is_shown_once(run: Any) -> None:
    run.v2_runner_item_on_failed(result("app1", loop=["lb1"], item="lb1", msg="it does not answer"))
    run.v2_runner_on_failed(result("app1", loop=["lb1"], results=[], msg="One or more items failed"))
    assert run._display.text == f"{NGINX}    failed: app1 (lb1)\n      it does not answer\n"


def test_reports_of_hosts_come_in_their_order(run: Any) -> None:
    for host in ("app2", "app1"):
        run.v2_runner_on_ok(result(host, action="debug", changed=False, msg=f"{host} is well"))
    assert finished(run) == f"{NGINX}    app1\n      app1 is well\n    app2\n      app2 is well\n"


@pytest.mark.parametrize(
    ("values", "args", "shown"),
    [
        ({"msg": "app1: hello is live\nbye"}, {}, "    app1: hello is live\n    bye\n"),
        ({"msg": ["one", 2]}, {}, "    one\n    2\n"),
        ({"said": "yes"}, {"var": "said"}, "    yes\n"),
    ],
)
def test_a_report_is_shown_as_it_is_below_its_host(
    run: Any, values: dict[str, Any], args: dict[str, Any], shown: str
) -> None:
    run.v2_runner_on_ok(result("app1", action="ansible.builtin.debug", args=args, changed=False, **values))
    report = result("app1", action="ansible.builtin.debug", args=args, changed=False, **values)
    report.task.run_once = True
    start(run, "Report | Report all")
    run.v2_runner_on_ok(report)
    below = shown.replace("    ", "      ")
    assert finished(run) == f"{NGINX}    app1\n{below}  Report | Report all\n{shown}"


def test_a_handler_is_shown_like_a_task(run: Any) -> None:
    run.v2_playbook_on_handler_task_start(SimpleNamespace(get_name=lambda: "Reload | Reload nginx"))
    run.v2_runner_on_ok(result("app1", changed=True))
    assert "  Reload | Reload nginx\n    changed: app1\n" in finished(run)


class TestATaskThatTakesLong:
    """It is announced, and the hosts that it waits for are named."""

    @pytest.fixture
    def announced(self, monkeypatch: pytest.MonkeyPatch, run: Any) -> Any:
        """A run whose second task takes long, once it has told for which hosts it waits."""
        told = threading.Event()
        display = run._display.display

        def watched(message: str, **options: Any) -> None:
            display(message, **options)
            if "waiting for app1, app2" in message:
                told.set()

        monkeypatch.setattr(run._display, "display", watched)
        monkeypatch.setattr(screen, "SHOWN_AFTER_SECONDS", 0.01)
        monkeypatch.setattr(screen, "REMINDED_EVERY_SECONDS", 0.01)
        start(run, "Build | Build uWSGI")
        for host in ("app2", "app1", "app3"):
            run.v2_runner_on_start(SimpleNamespace(get_name=lambda host=host: host), None)
        run.v2_runner_on_ok(result("app3", changed=False))
        assert told.wait(30)
        return run

    def test_with_its_name_and_hosts(self, announced: Any) -> None:
        assert announced._display.text.startswith("\nApp servers\n  Build | Build uWSGI\n    0 s so far, waiting for ")

    def test_its_duration_is_shown_at_its_end(self, announced: Any) -> None:
        assert finished(announced).endswith("    took 0 s\n")

    def test_an_ended_task_is_not_announced(self, announced: Any) -> None:
        ended = announced.screen._task_ended
        announced.screen.end_task()
        before = announced._display.text
        announced.screen._watch(ended)
        assert announced._display.text == before


def test_the_recap_is_ansibles_and_the_run_s_duration_follows(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", {"check": False})
    summary = {"ok": 3, "changed": 0, "unreachable": 0, "failures": 0, "skipped": 1, "rescued": 0, "ignored": 0}
    run.set_options()
    run.v2_playbook_on_stats(SimpleNamespace(processed={"app1": 1}, summarize=lambda host: summary, custom={}))
    shown = finished(run)
    assert "PLAY RECAP" in shown
    assert "changed=0" in shown
    assert shown.endswith("The run took 0 s.\n")


# what changed


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({}, []),
        ({"written": [f"/{i}" for i in range(8)]}, ["written: /0, /1, /2, /3, /4, /5 and 2 more"]),
        ({"written": [], "removed": ["/etc/a"], "pending": True}, ["removed: /etc/a"]),
        (
            {"apps": {"blog": {"changed": True, "release": "b2", "before": "a1", "seconds": 3.1}}},
            ["blog: b2 is warm beside a1, after 3.1 s"],
        ),
        (
            {"apps": {"a": {"changed": True, "live": "b2", "traffic": {"requests": 5, "failed": 1}}}},
            ["a: b2 is live; 5 requests, 1 failed"],
        ),
        (
            {"apps": {"a": {"changed": True, "live": "a1", "release": "b2", "undeployed": ["x 1 → 2", "y changed"]}}},
            ["a: a1 would be replaced by b2: x 1 → 2, y changed"],
        ),
        (
            {"apps": {"a": {"changed": True, "live": "a1", "release": "a1", "undeployed": []}}},
            ["a: a1 would be restarted"],
        ),
        ({"apps": {"blog": {"changed": True, "live": "b2"}}}, ["blog: b2 is live"]),
        ({"apps": {"blog": {"changed": True, "live": None}}}, []),
        ({"apps": {"blog": {"changed": False, "live": "b2"}, "shop": {"failed": "no", "changed": True}}}, []),
        ({"apps": ["blog"]}, []),
        ({"app": "blog", "live": "b2"}, ["blog: b2 is live"]),
        ({"stdout": "Setting up nginx (1.22)\nSetting up gcc:amd64 (12)\n"}, ["packages: nginx, gcc"]),
        ({"stdout": "Inst nginx (1.22 Debian:12)\n"}, ["packages: nginx"]),
    ],
)  # fmt: skip
def test_what_changed_is_told_in_words(values: dict[str, Any], lines: list[str]) -> None:
    assert outcomes.changes(values) == lines


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"msg": "no such user"}, ["no such user"]),
        ({"msg": "failed: disk full", "stderr": "disk full"}, ["failed: disk full"]),
        ({"msg": "[Errno 2] No such file", "rc": 2, "cmd": "nginx"}, ["[Errno 2] No such file"]),
        ({"msg": "The command exited with a non-zero return code.", "rc": 1, "cmd": "x"}, ["exit code 1: x"]),
        ({"msg": ["one", "two"]}, ["one", "two"]),
        ({"censored": "hidden by no_log"}, ["hidden by no_log"]),
        ({}, ["the module gives no reason; -v shows its result"]),
        (
            {"msg": "non-zero return code", "rc": 2, "cmd": ["ls", "a b"], "stderr": "no a b\n", "stdout": ""},
            ["exit code 2: ls 'a b'", "no a b"],
        ),
        ({"msg": "MODULE FAILURE", "module_stderr": "Traceback\nboom"}, ["MODULE FAILURE", "Traceback", "boom"]),
    ],
)
def test_why_a_task_failed_is_told_in_words(values: dict[str, Any], lines: list[str]) -> None:
    assert outcomes.failure(values) == lines


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s")])
def test_a_duration_is_told_in_minutes_and_seconds(seconds: float, words: str) -> None:
    assert outcomes.duration(seconds) == words
