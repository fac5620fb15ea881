"""Releases that can't live, and rollouts that are cut off: what is live stays live, and the next run finishes."""

from __future__ import annotations

import http.client
import os
import random
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faults import Load, eventually, site
from rollouts import (
    COUNTER,
    HOOKS,
    NONE_FAILED,
    SHARED,
    TICKER,
    WHO,
    State,
    address,
    ask,
    at_the_switch,
    begin,
    code,
    fetch,
    look,
    refused,
    run,
    source,
    under_load,
    unique,
)
from testinfra.host import Host

testinfra_hosts = ["ansible://molecule-app1"]

GATE_SECONDS = 4  # what a release has to become warm
REFUSED_WITHIN = GATE_SECONDS + 120  # it ends by itself; a busy machine takes its time
HEALTHY = 'return "ok"'
CODE = "counter/__init__.py"


def unhealthy(line: str) -> dict[str, str | bytes]:
    """The code of counter with another health path."""
    assert HEALTHY in code("")
    return {CODE: code("").replace(HEALTHY, line)}


# Files that differ, options that differ, and what the app itself says of it.
BROKEN: dict[str, tuple[dict[str, str | bytes], dict[str, Any], str]] = {
    "syntax error": ({CODE: code("def app(:")}, {}, "SyntaxError: invalid syntax"),
    "name that can't be imported": ({CODE: code("from flask import no_such_name")}, {}, "no_such_name"),
    "module that is missing": ({CODE: code("import no_such_module")}, {}, "No module named 'no_such_module'"),
    "requirement that there is not": ({"requirements.txt": "no-such-distribution-as-this==1\n"}, {}, "as-this==1"),
    "no such callable": ({}, {"wsgi": "counter:missing"}, "callable not found"),
    "exit at import": ({CODE: code("import sys; sys.exit('not today')")}, {}, "not today"),
    "exception after 5 seconds": (
        {CODE: code("import time; time.sleep(5); raise ValueError('late')")},
        {"health": {"timeout_seconds": 9}},
        "late",
    ),
    "import that hangs": ({CODE: code("import threading; threading.Event().wait()")}, {}, "gave no answer"),
    "segmentation fault": (unhealthy("import ctypes; ctypes.string_at(0)"), {}, "Segmentation Fault"),
    "health 500": (unhealthy("abort(500)"), {}, "/healthz answered 500"),
    "health 302": (unhealthy("return '', 302, {'Location': '/'}"), {}, "/healthz answered 302"),
    "health hangs": (unhealthy("time.sleep(60)"), {}, "/healthz gave no answer"),
    "one of two workers is not healthy": (
        unhealthy("import uwsgi; abort(500) if uwsgi.worker_id() % 2 else None; return 'ok'"),
        {"processes": 2, "health": {"timeout_seconds": 9}},
        "/healthz answered 500",
    ),
    "source that is not UTF-8": ({CODE: code("").encode() + b"NAME = '\xe9'\n"}, {}, "codec can't decode byte 0xe9"),
    "empty module": ({CODE: ""}, {}, "callable not found"),
    "shared folder that it can't write": (
        {CODE: code("import os; open(os.environ['FLASKFLEET_SHARED'] + '/closed/file', 'w')")},
        {},
        "PermissionError: [Errno 13] Permission denied: '/srv/counter/shared/closed/file'",
    ),
    "option that uWSGI does not know": ({}, {"uwsgi_options": {"procesess": 3}}, "procesess"),
}


@pytest.fixture(scope="module", autouse=True)
def live(host: Host) -> Iterator[None]:
    """The release that the inventory asks for is live, before and after."""
    host.check_output(f"install -d -m 700 {SHARED}/closed")
    run(host, "deploy", force=True)
    yield
    run(host, "deploy", force=True)
    host.check_output(f"rmdir {SHARED}/closed")


@pytest.mark.parametrize("what", BROKEN)
def test_broken_release_is_refused_in_the_apps_own_words(host: Host, tmp_path: Path, what: str) -> None:
    files, options, words = BROKEN[what]
    entry = {"source": source(tmp_path, files), "health": {"timeout_seconds": GATE_SECONDS}, **options}
    before = look(host)
    with under_load(host, rate=20) as load:
        since = time.monotonic()
        output = refused(host, "deploy", options=entry)
        took = time.monotonic() - since
        load.await_answers()
    assert words in output, output
    assert took < REFUSED_WITHIN
    assert load.failed == NONE_FAILED
    assert look(host).left == before.left


HIDDEN_HOOK = {"hooks": {"before_switch": ["sh -c 'echo said; exit 3'"]}}


@pytest.mark.parametrize(
    "broken", [{"uwsgi_options": {"procesess": 3}}, HIDDEN_HOOK], ids=["while it is warmed up", "by a hook"]
)
def test_a_refused_release_leaves_the_live_one_its_secrets(host: Host, broken: dict[str, object]) -> None:
    """Also where the live one is started anew, as by a reboot, and one that is as short as a digit of an id."""
    run(host, "deploy", options={"env": unique(), "secret_env": {"COUNTER_SECRET": "1"}})
    before = look(host)
    refused(host, "deploy", options={"env": unique(), "secret_env": {"COUNTER_SECRET": "2", "MORE": "3"}, **broken})
    host.check_output("supervisorctl restart %s:*", f"counter-{before.current}")
    eventually(lambda: ask(host, "/env/COUNTER_SECRET").text == "1", "the secret that it was started with")
    assert look(host).current == before.current
    assert host.file("/srv/counter/current/secrets/env").listdir() == ["COUNTER_SECRET"]


# Cut off


class Cut:
    """A deploy with all that belongs to one, to be cut off at a moment that is random, yet the same in each session."""

    seconds = 6.0  # such a deploy takes

    def __init__(self, host: Host, kind: str, number: int) -> None:
        self.host = host
        self.options = {"env": unique(), "hooks": HOOKS, "programs": {"ticker": TICKER}}
        self.before = look(host)
        self.moment = random.Random(f"{kind} {number}").uniform(0.2, 1) * self.seconds
        self.play = begin(host, "deploy", options=self.options)
        with suppress(subprocess.TimeoutExpired):
            self.play.process.wait(self.moment)

    def heals(self) -> State:
        """One run finishes what was cut off; then there is nothing to do, and one program of each kind."""
        cut = look(self.host)
        print(f"cut off after {self.moment:.2f} s: {cut}")
        assert cut.broken == []
        run(self.host, "deploy", options=self.options)
        state = look(self.host)
        assert cut.current in (self.before.current, state.current)
        assert state.current != self.before.current
        assert run(self.host, "deploy", options=self.options).changed == 0
        assert state.programs == state.running()
        assert (state.orphans, state.trial, state.next, state.rollout, state.broken) == ([], [], "", False, [])
        assert [name for name in state.releases + state.venvs if name.startswith(".")] == []
        return state


POINTS = range(int(os.environ.get("FLASKFLEET_KILL_POINTS", "3")))


@pytest.mark.slow
@pytest.mark.parametrize("number", POINTS)
def test_run_whose_controller_died_is_finished_by_the_next(host: Host, number: int) -> None:
    with under_load(host, rate=20) as load:
        cut = Cut(host, "controller", number)
        cut.play.kill()
        state = cut.heals()
        load.await_answers()
    assert state.others == cut.before.others
    assert load.failed == NONE_FAILED


@pytest.mark.slow
@pytest.mark.parametrize("number", POINTS)
def test_host_that_died_serves_a_complete_release_by_itself(host: Host, number: int) -> None:
    cut = Cut(host, "host", number)
    container = host.backend.get_hostname()
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    cut.play.wait()
    subprocess.run(["docker", "start", container], check=True, capture_output=True)

    def answer() -> str:
        with suppress(OSError, IndexError, http.client.HTTPException):
            told = ask(host, "/work/0")
            return told.json["release"] if told.status == 200 else ""
        return ""

    serves = eventually(answer, "answers")
    state = cut.heals()
    assert serves in (cut.before.current, state.current)


def test_hook_after_the_switch_that_was_cut_off_is_run_by_the_next(host: Host) -> None:
    options = {"env": unique(), "hooks": HOOKS}
    begin(host, "deploy", options=options).kill_at("Rollout | Retire old releases")
    run(host, "deploy", options=options)
    lines = host.check_output(f"grep -F {options['env']['BUILD']} {SHARED}/hooks.log").splitlines()
    when = [line.split()[0] for line in lines]
    # What had begun on the host ran to its end; it may be run again.
    assert (when[:2], {*when[2:]} - {"after"}) == (["before", "after"], set())


# Two at a time


def test_second_run_is_refused_with_the_holder_and_since_when(host: Host) -> None:
    before = look(host)
    second = {"env": unique()}
    with under_load(host, rate=20) as load:
        with at_the_switch(host, options={"env": unique()}) as first:
            since = host.check_output("cat /run/flaskfleet/counter.rollout.json")
            began = time.monotonic()
            output = refused(host, "deploy", options=second)
            assert time.monotonic() - began < 30, "while the first run holds the lock"
            (since,) = re.findall(r'"since": "(.*)"', since)
            assert f"a deploy by {WHO} has held the lock since {since}" in output
            meanwhile = look(host)
            assert (meanwhile.current, meanwhile.next, meanwhile.master) == (before.current, first, before.master)
        assert look(host).current == first
        run(host, "deploy", options=second)
    assert load.failed == NONE_FAILED
    assert look(host).programs == look(host).running(())


# A clock that was set back


@pytest.fixture(scope="module")
def hour_ago(host: Host) -> Iterator[dict[str, str]]:
    """An interpreter for the modules on the host whose clock is an hour behind."""
    host.check_output("mkdir /tmp/ago && cd /tmp/ago && apt-get -qq download libfaketime && dpkg -x *.deb .")
    library = host.check_output("ls /tmp/ago/usr/lib/*/faketime/libfaketime.so.1")
    words = f'LD_PRELOAD={library} FAKETIME=-1h exec python3 "$@"'
    host.check_output("printf '#!/bin/sh\n%%s\n' %s >/tmp/ago/python3 && chmod +x /tmp/ago/python3", words)
    yield {"ansible_python_interpreter": "/tmp/ago/python3"}
    host.check_output("rm -r /tmp/ago")


@pytest.mark.slow
def test_clock_that_was_set_back_changes_no_order(host: Host, hour_ago: dict[str, str]) -> None:
    run(host, "deploy", options={"env": unique()})
    first = look(host)
    run(host, "deploy", options={"env": unique()}, **hour_ago)
    second = look(host)
    run(host, "deploy", options={"env": unique()}, flask_app_keep_releases=2, **hour_ago)
    third = look(host)
    since = {entry["release"]: entry["since"] for entry in third.journal["history"]}
    assert since[second.current] < since[first.current]
    assert third.releases == sorted([second.current, third.current])
    assert third.previous == second.current
    run(host, "rollback", **hour_ago)
    assert look(host).current == second.current


# A full disk


@pytest.fixture(scope="module")
def small(host: Host) -> Iterator[dict[str, Any]]:
    """The entry of an app that lives on a small file system of its own."""
    host.check_output("mkdir /srv/small && mount -t tmpfs -o size=250m,nr_inodes=100k,mode=755 tmpfs /srv/small")
    entry = {
        "source": {"path": str(COUNTER)},
        "wsgi": "counter:create_app()",
        "http": "0.0.0.0:8090",
        "processes": 2,
        "health": {"path": "/healthz"},
    }
    first = site(host, "--tags", "flask_app", flask_apps={"small": entry})
    assert first.process.returncode == 0, first.output
    yield entry
    run(host, "remove_app", "--skip-tags", "base,python,uwsgi,supervisor,nginx", app="small", purge=True)
    host.check_output("umount -l /srv/small && rmdir /srv/small")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("full", "words", "requirements"),
    [
        ("size=$(($(df --output=used -k /srv/small | tail -1) + 1024))k", "has 1 MB and .* needs about 6 MB", ""),
        ("nr_inodes=$(($(df --output=iused /srv/small | tail -1) + 9))", "and 9 inodes free", ""),
        ("nr_inodes=$(($(df --output=iused /srv/small | tail -1) + 300))", "and 300 inodes free", "# anew\n"),
    ],
    ids=["bytes of a release", "inodes of a release", "inodes of an environment"],
)
def test_full_disk_is_reported_and_the_live_release_answers(
    host: Host, tmp_path: Path, small: dict[str, Any], full: str, words: str, requirements: str
) -> None:
    files = {
        "large": bytes(3_000_000),
        "requirements.txt": (COUNTER / "requirements.txt").read_text() + requirements,
    }
    larger = {**small, "env": unique(), "source": source(tmp_path, files)}
    before = look(host, "small")
    where = address(host)
    with Load(lambda url, _: fetch(where, 8090, url), "small") as load:
        host.check_output(f"mount -o remount,{full} /srv/small")
        try:
            output = refused(host, "deploy", app="small", flask_apps={"small": larger})
        finally:
            host.check_output("mount -o remount,size=250m,nr_inodes=100k /srv/small")
        assert re.search(words, output), output
        after = look(host, "small")
        assert after.left == before.left
        run(host, "deploy", app="small", flask_apps={"small": larger})
        load.await_answers(time.monotonic())
    assert load.failed == []
    healed = look(host, "small")
    assert healed.previous == before.current
    assert healed.broken == []
