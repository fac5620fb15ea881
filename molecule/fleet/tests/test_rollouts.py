"""A rollout switches every app server or none, whatever fails, and clients notice nothing."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from faults import Play, eventually
from fleet import (
    ALL,
    APP_SERVERS,
    app_servers,
    await_answers,
    begun,
    changed_inventory,
    clients,
    done,
    drained,
    fails,
    host,
    kill,
    live,
    problems,
    start,
    states,
    tickers,
)
from rollouts import WHO, at_the_switch, code, source, unique

KILLED = range(int(os.environ.get("FLASKFLEET_KILL_POINTS", "10")))
WATCH = {"flask_app_canary_seconds": 2, "flask_app_canary_requests": 20}  # short, to keep the tests fast


# Under load: a deploy, another one, a rollback


class Rollouts:
    """The state of the fleet after each run, and the results of the requests meanwhile."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.live: dict[str, set[str]] = {"before": live()}
        one, two = {"env": unique()}, {"env": unique()}
        runs = (("deploy", "deploy", one), ("second", "deploy", two), ("rollback", "rollback", two))
        with clients() as load:
            for name, playbook, options in runs:
                self.said[name] = done(playbook, options=options).output
                self.live[name] = live()
                await_answers(load)
            self.changed = done("deploy", options=one).changed
        self.problems = problems(load)
        self.answered = {one.release for one in load.results}
        self.audits = [one.check_output("tail -n 3 /var/log/flaskfleet.log").splitlines() for one in app_servers()]


@pytest.fixture(scope="module")
def rollouts() -> Rollouts:
    return Rollouts()


def test_no_request_fails_or_is_executed_twice(rollouts: Rollouts) -> None:
    assert rollouts.problems == {}


def test_every_host_has_the_same_release_after_each_run(rollouts: Rollouts) -> None:
    assert [len(releases) for releases in rollouts.live.values()] == [1, 1, 1, 1]
    assert rollouts.live["rollback"] == rollouts.live["deploy"] != rollouts.live["second"]
    assert rollouts.answered == set.union(*rollouts.live.values())


def test_a_summary_has_the_result_of_each_host(rollouts: Rollouts) -> None:
    (was,), (now,) = rollouts.live["before"], rollouts.live["deploy"]
    for name in APP_SERVERS:
        assert re.search(
            rf"{name}: counter {was}[.\d]* → {now}: staged and warm in [\d.]+ s, switched at [\d:.]+ UTC, "
            r"\d+ requests since, 0 failed",
            rollouts.said["deploy"],
        )


def test_a_deploy_of_what_is_live_changes_nothing(rollouts: Rollouts) -> None:
    assert rollouts.changed == 0


def test_every_host_keeps_a_log_of_what_became_live(rollouts: Rollouts) -> None:
    order = [*rollouts.live]
    for lines in rollouts.audits:
        for line, (was, now) in zip(lines, pairwise(order), strict=True):
            entry = json.loads(line)
            assert {entry["from"].partition(".")[0]} == rollouts.live[was]
            assert {entry["release"].partition(".")[0]} == rollouts.live[now]
            assert (entry["app"], entry["by"]) == ("counter", WHO)


def test_a_program_that_runs_on_one_host_does(rollouts: Rollouts) -> None:
    assert sorted(tickers().values()) == [0, 0, 1]


# A fault on one of three hosts


@contextmanager
def taken_back() -> Iterator[None]:
    """The live releases are the same after the block, and clients notice nothing."""
    before = states()
    with clients() as load:
        yield
    assert problems(load) == {}
    after = states()
    assert {name: state.left for name, state in after.items()} == {name: state.left for name, state in before.items()}


# What Ansible runs on a host, by the journal that each module writes.
CALLS = """
import json, subprocess, sys
argv = ["journalctl", "--output=json", "--after-cursor", sys.argv[1]]
rows = map(json.loads, subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines())
print(*(name for row in rows if (name := row.get("SYSLOG_IDENTIFIER", "")).startswith("ansible-")))
"""


@pytest.mark.parametrize("apps", [("counter",), ("counter", "hello")], ids=["one app", "two apps"])
def test_a_deploy_takes_four_calls_of_a_host_whatever_its_number_of_apps(apps: tuple[str, ...]) -> None:
    """And one more of the canary."""
    shown = {name: host(name).check_output("journalctl --lines=0 --show-cursor --quiet") for name in APP_SERVERS}
    variables = {"changed_apps": {app: {"env": unique()} for app in apps}, **WATCH}
    play = Play("playbooks/deploy.yml", host("app1"), *ALL, variables=variables)
    assert play.wait() == 0, play.output
    calls = {
        name: host(name).check_output("python3 -c %s %s", CALLS, line.partition("cursor: ")[2]).split()
        for name, line in shown.items()
    }
    phases = ["ansible-app_lock", *["ansible-app_rollout"] * 3]
    assert sorted(calls.values(), key=len) == [phases, phases, ["ansible-app_lock", *phases]]


def test_a_release_that_is_broken_on_one_host_goes_live_on_none(tmp_path: Path) -> None:
    library = "/usr/local/lib/libonly.so"
    for name in ("app1", "app2"):
        host(name).check_output(f"cp /lib/*/libz.so.1 {library}")
    needs = source(tmp_path, {"counter/__init__.py": code(f"import ctypes; ctypes.CDLL('{library}')")})
    with taken_back():
        output = fails("deploy", options={"source": needs, "health": {"timeout_seconds": 5}})
    assert re.search(rf"app3.*{re.escape(library)}: cannot open shared object file", output, re.DOTALL)
    assert "The rollout ended before the first switch: every host serves what it served before." in output
    assert re.search(r"Cause on app3: counter \w+ did not get warm: .* \(task \"Warm up the release", output)


def test_an_unreachable_host_stops_a_rollout_before_it_begins() -> None:
    before = live()
    with clients() as load:
        kill("app3")
        output = fails("deploy", options={"env": unique()}, **WATCH)
        await_answers(load)
    start("app3")
    assert "app3" in output
    assert "unreachable" in output.lower()
    assert live() == before
    done("deploy", options={"env": unique()}, **WATCH)
    assert len(live() - before) == 1


# A release whose health path hangs as long as a file exists.
SLOW = """
import os, time, flask
answer = flask.Flask.full_dispatch_request
def wait(app):
    while flask.request.path == "/healthz" and os.path.exists("/run/slow"):
        time.sleep(0.1)
    return answer(app)
flask.Flask.full_dispatch_request = wait
"""


# A host that dies may have switched or not. It is quarantined in both cases.
@pytest.mark.parametrize(
    "switched",
    [pytest.param(False, id="before its switch", marks=pytest.mark.slow), pytest.param(True, id="after it")],
)
def test_a_host_that_dies_rolls_all_back_and_is_quarantined_until_it_runs_the_fleets_release(
    switched: bool, tmp_path: Path
) -> None:
    (before,) = live()
    options = {"source": source(tmp_path, {"counter/__init__.py": code(SLOW)}), "env": unique()}
    play = begun("deploy", options=options, **WATCH)
    play.reach("Rollout | Switch the canary")
    if switched:
        host("app3").check_output("touch /run/slow")
    eventually(lambda: live(["app3" if switched else "app1"]) != {before}, "its switch")
    with play.held():
        kill("app3")
    assert play.wait() != 0
    assert "The rollout was rolled back, except on app3." in play.output
    assert re.search(rf"- app1: counter {before}[.\d]* is live", play.output)
    assert "- app3: does not answer, and may have switched. Quarantined on lb1, lb2." in play.output
    assert drained() == {"lb1": ["app3"], "lb2": ["app3"]}

    start("app3")
    assert live(["app1", "app2"]) == {before}
    assert (live(["app3"]) == {before}) == (not switched)
    if switched:
        (new,) = live(["app3"])
        assert re.search(rf"app3 stays quarantined. counter: {new}[.\d]* is live", done("restart", **WATCH).output)
        assert drained() == {"lb1": ["app3"], "lb2": ["app3"]}
    with clients() as load:
        await_answers(load)
        done("deploy", options=options, **WATCH)
    assert problems(load) == {}
    (new,) = live()
    assert new != before
    assert {one.release.partition(".")[0] for one in load.results} == {before, new}
    assert drained() == {}


def test_a_host_that_reboots_after_its_switch_is_quarantined_if_the_others_are_rolled_back(
    tmp_path: Path,
) -> None:
    """The host has lost the lock, and serves the release that it has switched to."""
    (before,) = live()
    slow = {"source": source(tmp_path, {"counter/__init__.py": code(SLOW)}), "health": {"timeout_seconds": 30}}
    play = begun("deploy", options={**slow, "env": unique()}, **WATCH)
    play.reach("Rollout | Switch the canary")
    host("app2").check_output("touch /run/slow")
    play.reach("Rollout | Switch the other hosts")
    play.reach("changed: [app3]")
    kill("app3")
    start("app3")
    assert play.wait() != 0
    host("app2").check_output("rm /run/slow")
    (new,) = live(["app3"])
    assert live(["app1", "app2"]) == {before} != {new}
    words = rf"- app3: counter {new}[.\d]* is live, and was not rolled back: .*Quarantined on lb1, lb2\."
    assert re.search(words, play.output), play.output
    assert drained() == {"lb1": ["app3"], "lb2": ["app3"]}
    done("deploy", options={"env": unique()}, **WATCH)
    assert len(live()) == 1
    assert drained() == {}


@pytest.mark.slow
def test_a_host_that_cannot_roll_back_is_quarantined_until_it_runs_the_fleets_release() -> None:
    (before,) = live()
    options = {"env": unique()}
    play = begun("deploy", options=options, **WATCH)
    play.reach("Rollout | Switch the canary")
    with play.held():
        host("app1").check_output("systemctl stop supervisor")
    assert play.wait() != 0
    assert "The rollout was rolled back, except on app1." in play.output
    assert re.search(r"- app1: counter was not rolled back: .*Supervisor.* Quarantined on lb1, lb2", play.output)
    assert re.search(rf"- app2: counter {before}[.\d]* is live", play.output)
    assert drained() == {"lb1": ["app1"], "lb2": ["app1"]}
    host("app1").check_output("systemctl start supervisor")
    done("deploy", options=options, **WATCH)
    assert len(live()) == 1
    assert drained() == {}


@pytest.mark.slow
def test_a_host_that_dies_when_all_have_switched_is_left_for_the_next_run() -> None:
    options = {"env": unique()}
    hooks = {"before_switch": [], "after_switch": ["sh -c '[ $(hostname) != app3 ] || exec sleep 600'"]}
    play = begun("deploy", options={**options, "hooks": hooks}, **WATCH)
    play.reach("Rollout | Retire old releases")
    eventually(lambda: host("app3").run("pgrep -fx 'sleep 600'").rc == 0, "its hook")
    (new,) = live()
    kill("app3")
    assert play.wait() != 0
    assert "The new release is live on every host. What is still to be done, the next deploy does" in play.output
    assert "- app3: does not answer since its switch" in play.output
    start("app3")
    done("deploy", options=options, **WATCH)
    assert live() == {new}
    state = states()["app3"]
    assert (state.trial, state.rollout) == ([], False)
    assert {program.partition("-ticker")[0] for program in state.programs} == {f"counter-{state.current}"}
    assert sum(tickers().values()) == 1


# Killed


@pytest.fixture(scope="module")
def seconds() -> float:
    """How long a deploy takes."""
    since = time.monotonic()
    done("deploy", options={"env": unique()}, **WATCH)
    return time.monotonic() - since


@pytest.mark.slow
@pytest.mark.parametrize("number", KILLED)
def test_a_run_that_was_killed_is_finished_by_the_next(number: int, seconds: float) -> None:
    before, options = live(), {"env": unique()}
    moment = random.Random(number).uniform(0.1, 1) * seconds
    with clients() as load:
        play = begun("deploy", options=options, **WATCH)
        with suppress(subprocess.TimeoutExpired):
            play.process.wait(moment)
        play.kill()
        cut = states()
        assert {name: state.broken for name, state in cut.items()} == {name: [] for name in APP_SERVERS}
        await_answers(load)
        done("deploy", options=options, **WATCH)
        after = live()
        assert len(after) == 1
        assert {state.current for state in cut.values()} <= before | after
    assert problems(load) == {}
    assert done("deploy", options=options, **WATCH).changed == 0
    for state in states().values():
        assert (state.orphans, state.trial, state.next, state.rollout, state.broken) == ([], [], "", False, [])
    assert sum(tickers().values()) == 1


# Two at a time


@pytest.fixture
def from_the_other_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and further runs have the hosts of the fleet the other way round."""
    file = changed_inventory(tmp_path, lambda hosts: dict(reversed(hosts.items())))
    return lambda: monkeypatch.setenv("MOLECULE_INVENTORY_FILE", str(file))


def test_one_of_two_concurrent_rollouts_is_refused(from_the_other_end: Callable[[], None]) -> None:
    before = live()
    first = begun("deploy", options={"env": unique()}, **WATCH)
    from_the_other_end()
    second = begun("deploy", options={"env": unique()}, **WATCH)
    codes = [play.wait() for play in (first, second)]
    assert sorted(map(bool, codes)) == [False, True], first.output + second.output
    refusal = second.output if codes[1] else first.output
    assert re.search(rf"a deploy by {re.escape(WHO)} has held the lock since \S+Z", refusal), refusal
    assert len(live()) == 1
    assert len(live() | before) == 2, "one has won, and not both"


def test_the_second_from_the_other_end_names_the_first(from_the_other_end: Callable[[], None]) -> None:
    with at_the_switch(host("app1"), *ALL, options={"env": unique()}, **WATCH):
        from_the_other_end()
        output = fails("rollback", **WATCH)
        assert re.search(rf"a deploy by {re.escape(WHO)} has held the lock since \S+Z", output), output
        assert "Nothing was changed" in output
    assert len(live()) == 1


# Warm


def test_a_rollback_to_what_is_warm_takes_a_second_from_the_first_host_to_the_last() -> None:
    warm = {"flask_app_keep_previous_warm": True}
    (before,) = live()
    done("deploy", options={"env": unique()}, **WATCH, **warm)
    with clients() as load:
        output = done("rollback", **warm).output
    assert problems(load) == {}
    assert live() == {before}
    times = [datetime.strptime(at, "%H:%M:%S.%f") for at in re.findall(r"switched at (\S+) UTC", output)]
    assert len(times) == len(APP_SERVERS)
    assert (max(times) - min(times)).total_seconds() % 86400 < 1
