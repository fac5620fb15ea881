"""Deploys, rollbacks, restarts and removals of an app that clients keep asking: what is promised of them."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import testinfra
from conftest import PROJECT
from faults import busy_workers, eventually, site
from rollouts import (
    COUNTER,
    FIRST_NUMBERS,
    HOOKS,
    NONE_FAILED,
    NOTE,
    PORTS,
    SHARED,
    TICKER,
    WHO,
    State,
    ask,
    at_the_switch,
    look,
    refused,
    run,
    source,
    under_load,
    unique,
)
from testinfra.host import Host

testinfra_hosts = ["ansible://molecule-app1"]

ONE, TWO = b"a { color: red }\n" * 100, b"a { color: tan }\n" * 100
EVERYWHERE = ("--limit", "app_servers")
# So that a site run takes no longer than it must.
NEEDED = ("--skip-tags", "base,python,uwsgi,supervisor")


# Under load, on both hosts at the same time: two deploys, a rollback, a restart


@pytest.fixture(scope="module")
def hosts() -> list[Host]:
    """Both hosts, whichever a test is for."""
    inventory = str(Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent)
    return testinfra.get_hosts(["ansible://app_servers"], ansible_inventory=inventory)


class Rollouts:
    """What each host had after each run, and what became of the requests meanwhile. Lists have an item per host."""

    def __init__(self, hosts: list[Host]) -> None:
        self.states: dict[str, list[State]] = {}
        self.builds = [unique(), unique()]
        one = {"env": self.builds[0], "hooks": HOOKS, "programs": {"ticker": TICKER}}
        two = {"env": self.builds[1], "hooks": HOOKS, "programs": {"ticker": {**TICKER, "numprocs": 2}}}

        def after(name: str, playbook: str = "", **variables: Any) -> str:
            output = run(hosts[0], playbook, *EVERYWHERE, **variables).output if playbook else ""
            self.states[name] = [look(host) for host in hosts]
            return output

        for host in hosts:
            host.check_output(f"rm -f {SHARED}/hooks.log {SHARED}/ticker.log")
        with under_load(hosts[0]) as first, under_load(hosts[1]) as second:
            self.loads = [first, second]
            after("before")
            self.said = after("deploy", "deploy", options=one)
            after("second deploy", "deploy", options=two)
            after("rollback", "rollback", options=two)
            after("restart", "restart", options=two)
            for load in self.loads:
                load.await_answers()
        self.failed = [load.failed for load in self.loads]
        self.recorded = [load.recorded() for load in self.loads]
        self.answered = [load.releases for load in self.loads]
        self.tickers = [host.check_output(f"cat {SHARED}/ticker.log").splitlines() for host in hosts]
        self.hooks = [host.check_output(f"cat {SHARED}/hooks.log").splitlines() for host in hosts]

    def each(self, name: str) -> Iterator[tuple[State, State]]:
        """The state of each host before and after a run."""
        names = [*self.states]
        return zip(self.states[names[names.index(name) - 1]], self.states[name], strict=True)


@pytest.fixture(scope="module")
def rollouts(hosts: list[Host]) -> Rollouts:
    return Rollouts(hosts)


every_run = pytest.mark.parametrize("name", ["deploy", "second deploy", "rollback", "restart"])


def test_no_request_fails(rollouts: Rollouts) -> None:
    assert rollouts.failed == [NONE_FAILED, NONE_FAILED]


def test_every_request_reaches_the_app_once(rollouts: Rollouts) -> None:
    assert rollouts.recorded == [({}, []), ({}, [])]


def test_every_release_answers_by_both_ways(rollouts: Rollouts) -> None:
    for states, answered in zip(zip(*rollouts.states.values(), strict=True), rollouts.answered, strict=True):
        lived = {state.current for state in states}
        assert len(lived) == 4
        assert answered == {"nginx": lived, "router": lived}


@every_run
def test_only_the_live_release_runs(rollouts: Rollouts, name: str) -> None:
    tickers = ("ticker-00", "ticker-01") if name == "second deploy" else ("ticker",)
    for _, after in rollouts.each(name):
        assert after.programs == after.running(tickers)
        assert (after.orphans, after.trial, after.next, after.rollout) == ([], [], "", False)
        files = {f"counter-{after.current}.conf", f"counter-{after.current}.programs.conf", "counter-http.conf"}
        assert set(after.conf_d) == files


@every_run
def test_nothing_else_is_touched(rollouts: Rollouts, name: str) -> None:
    for before, after in rollouts.each(name):
        assert after.others == before.others
        assert len(before.others) > 10


@every_run
def test_both_hosts_have_the_same_release(rollouts: Rollouts, name: str) -> None:
    assert len({state.current.partition(".")[0] for state in rollouts.states[name]}) == 1


def test_rollback_leads_to_the_release_before(rollouts: Rollouts) -> None:
    live = {name: states[0].current for name, states in rollouts.states.items()}
    assert live["rollback"] == live["deploy"] != live["second deploy"]


def test_restart_is_a_new_process_of_the_same_release(rollouts: Rollouts) -> None:
    for before, after in rollouts.each("restart"):
        assert after.current == f"{before.current}.1"
        assert after.master != before.master


def test_hooks_run_as_the_app_in_the_environment_of_the_release(rollouts: Rollouts) -> None:
    # Those before the switch once for all hosts, on the first one.
    for number, (lines, when) in enumerate(zip(rollouts.hooks, (("before", "after"), ("after",)), strict=True)):
        releases = [rollouts.states[name][number].current for name in ("deploy", "second deploy")]
        said = [
            [f"{word} {release} counter {build['BUILD']}" for word in when]
            for release, build in zip(releases, rollouts.builds, strict=True)
        ]
        assert lines == [*said[0], *said[1]]
        host = f"molecule-app{number + 1}"
        assert [line for line in lines if f"counter on {host}: {line}" in rollouts.said] == said[0]


def test_programs_finish_what_they_are_at_before_those_of_the_next_release_begin(rollouts: Rollouts) -> None:
    for state, lines in zip(rollouts.states["restart"], rollouts.tickers, strict=True):
        run: dict[str, str] = {}
        for word, release, pid in map(str.split, lines):
            if word == "began":
                assert {*run.values()} <= {release}
                run[pid] = release
            elif word == "finished":
                run.pop(pid, None)  # one of before the log was begun
        assert run == {str(state.pids[f"counter-{state.current}-ticker:ticker"]): state.current}


def test_status_reports_the_live_release_and_undeployed_changes(host: Host, rollouts: Rollouts) -> None:
    state = rollouts.states["restart"][0]
    file = "/srv/counter/current/src/counter/ticker.py"
    host.check_output(f"cp {file} /run/ticker.py && echo '# edited' >> {file}")
    try:
        status = run(host, "status", options={"env": {"BUILD": "another"}})
    finally:
        host.check_output(f"cat /run/ticker.py > {file} && rm /run/ticker.py")
    live = state.journal["history"][-1]
    assert f"counter: {state.current} is live since {live['since']}, restart by {WHO}" in status.output
    assert re.search(rf"from +\S+/{re.escape(COUNTER.relative_to(PROJECT).as_posix())}\n", status.output)
    for name, pid in state.pids.items():
        assert re.search(rf"{re.escape(name.partition(':')[0])} RUNNING, pid {pid}, up \d+", status.output)
    left = rollouts.states["second deploy"][0].current
    assert re.search(rf"{left} kept, last live from \S+Z, voided \S+Z by {WHO}", status.output)
    assert re.search(r"[0-9a-f.]{12,} previous, last live from \S+Z", status.output)
    assert f"env.BUILD {rollouts.builds[0]['BUILD']} → another" in status.output
    assert f"/srv/counter/releases/{state.current}/src/counter/ticker.py was edited" in status.output
    assert status.changed == 0


def test_running_and_queued_requests_are_answered(host: Host) -> None:
    old = look(host)
    urls = [f"/work/{number}?seconds=3" for number in range(next(FIRST_NUMBERS), next(FIRST_NUMBERS))[:28]]
    ways = [*PORTS] * 14
    sockets = f"grep -c ' 0[23] .*/releases/{old.current}/run/uwsgi.sock' /proc/net/unix"
    with ThreadPoolExecutor(28) as pool:
        with at_the_switch(host, options={"env": unique()}):
            answers = [pool.submit(ask, host, url, way) for url, way in zip(urls, ways, strict=True)]
            eventually(lambda: host.run(sockets).stdout.strip() == "28", "28 connections")
            assert len(busy_workers(host, "counter")) == 8
        replies = [answer.result() for answer in answers]
    assert [reply.status for reply in replies] == [200] * 28
    assert {reply.json["release"] for reply in replies} == {old.current}
    assert look(host).programs == look(host).running(())


# What a deploy takes up


def test_deploy_of_what_is_live_changes_nothing(host: Host) -> None:
    options = {"env": unique()}
    run(host, "deploy", options=options)
    before = look(host)
    assert run(host, "deploy", options=options).changed == 0
    assert look(host).left == before.left


@pytest.mark.parametrize(
    ("options", "url", "told"),
    [({"processes": 3}, "", ""), ({"secret_env": {"COUNTER_SECRET": "%(2)s"}}, "/env/COUNTER_SECRET", "%(2)s")],
    ids=["processes", "secret"],
)
def test_changed_setting_is_a_release_with_the_same_code(
    host: Host, options: dict[str, Any], url: str, told: str
) -> None:
    env = unique()
    run(host, "deploy", options={"env": env})
    before = look(host)
    run(host, "deploy", options={"env": env, **options})
    after = look(host)
    assert after.previous == before.current != after.current
    assert after.master != before.master
    host.check_output("diff -r -x __pycache__ /srv/counter/releases/%s/src /srv/counter/current/src", before.current)
    workers = [row for row in after.processes if row[3].startswith("uwsgi counter uWSGI worker")]
    assert len(workers) == options.get("processes", 8)
    assert not url or ask(host, url).text == told


SHARES = {
    "shared_paths": ["instance", "counter/static/media", "journal.db"],
    "files": {"motd.txt": "hello", "instance/motd.txt": "hello"},
    "secret_files": {"instance/config.py": "KEY = 'canary'\n"},
}


def test_shared_paths_outlive_releases(host: Host) -> None:
    """What it writes at its shared paths is there after a deploy, a rollback and a deploy; no other app reads it."""
    run(host, "deploy", options={"env": unique(), **SHARES})
    src = "/srv/counter/current/src"
    write = f"cd {src} && for file in instance/kept counter/static/media/kept journal.db; do echo kept > $file; done"
    host.check_output("runuser -u counter -- sh -ec %s", write)
    for playbook, options in (("deploy", unique()), ("rollback", {}), ("deploy", unique())):
        run(host, playbook, options={"env": options, **SHARES}, **({"force": True} if playbook == "deploy" else {}))
        for path in ("instance/kept", "counter/static/media/kept", "journal.db"):
            file = host.file(host.check_output("readlink -f %s", f"{src}/{path}"))
            assert (file.content_string, file.user) == ("kept\n", "counter"), path
            assert host.run("runuser -u notes -- cat %s", file.path).rc == 1, path
        motd = host.check_output("runuser -u counter -- cat %s", f"{src}/instance/motd.txt")
        config = host.check_output("runuser -u counter -- cat %s", f"{src}/instance/config.py")
        assert (motd, config) == ("hello", "KEY = 'canary'")
    assert host.run("runuser -u www-data -- cat %s", f"{src}/instance/config.py").rc == 1
    assert host.run("runuser -u notes -- cat %s", f"{src}/instance/config.py").rc == 1


@pytest.fixture(scope="module")
def other_environment(host: Host, tmp_path_factory: pytest.TempPathFactory) -> tuple[State, State]:
    """Before and after the deploy of a release that requires something else."""
    before = look(host)
    requirements = {"requirements.txt": "flask==3.1.3\nhumanize==4.13.0\n"}
    run(host, "deploy", options={"source": source(tmp_path_factory.mktemp("other"), requirements)})
    return before, look(host)


def test_changed_dependency_is_a_new_environment(host: Host, other_environment: tuple[State, State]) -> None:
    before, after = other_environment
    assert len({*after.venvs} - {*before.venvs}) == 1
    assert {*before.venvs} <= {*after.venvs}
    live = host.check_output("readlink /srv/counter/current/venv").rpartition("/")[2]
    assert live not in before.venvs
    host.check_output("runuser -u counter -- /srv/counter/current/exec python -c 'import humanize'")


def test_releases_that_are_not_kept_leave_nothing(host: Host, other_environment: tuple[State, State]) -> None:
    live = []
    for _ in range(3):
        run(host, "deploy", options={"env": unique()}, flask_app_keep_releases=3)
        live.append(look(host).current)
    state = look(host)
    assert (state.current, state.previous) == (live[2], live[1])
    assert state.releases == sorted(live)
    assert state.venvs == state.used != other_environment[1].venvs
    logs = {name.partition(".log")[0] for name in state.logs} - {"current", "http", "ticker", "ticker-00", "ticker-01"}
    assert logs == {*live}
    assert state.journal["hooks"].keys() <= {*live}


Served = dict[str, bytes | int]  # by name: the bytes, or the status if that is not 200


@pytest.fixture(scope="module")
def neighbours(host: Host, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Served]]:
    """What is served at a switch from a release with the files both and one to a release with both and two."""
    sources = {}
    for name, text in (("one", ONE), ("two", TWO)):
        files = {f"counter/static/{file}.css": text for file in (name, "both")}
        sources[name] = source(tmp_path_factory.mktemp(name), files)

    def served() -> dict[str, Served]:
        answers = {
            way: {name: ask(host, f"/static/{name}.css", way) for name in ("one", "two", "both")} for way in PORTS
        }
        return {
            way: {name: answer.body if answer.status == 200 else answer.status for name, answer in by_name.items()}
            for way, by_name in answers.items()
        }

    run(host, "deploy", options={"source": sources["one"]})
    with at_the_switch(host, options={"source": sources["two"]}):
        before = served()
    return {"before": before, "after": served()}


by_each_way = pytest.mark.parametrize("way", PORTS)


@by_each_way
def test_live_release_serves_static_files_of_its_neighbours(neighbours: dict[str, dict[str, Served]], way: str) -> None:
    assert neighbours["before"][way] == {"one": ONE, "two": TWO, "both": ONE}
    assert neighbours["after"][way] == {"one": ONE, "two": TWO, "both": TWO}


@by_each_way
def test_static_file_is_compressed_once(host: Host, neighbours: dict[str, dict[str, Served]], way: str) -> None:
    zipped = ask(host, "/static/two.css", way, **{"Accept-Encoding": "gzip"})
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert zipped.body == host.file("/srv/counter/current/static/static/two.css.gz").content
    assert gzip.decompress(zipped.body) == TWO


@by_each_way
@pytest.mark.parametrize(
    "url",
    [
        "/static/../../release.json",
        "/static/../release.json",
        "/static../release.json",
        "/static/%2e%2e/%2e%2e/release.json",
        "/static/..%2f..%2frelease.json",
        "/static/%2e%2e%2f%2e%2e%2fsrc/counter/__init__.py",
        "/static/x/../../../release.json",
        "/static//..//..//release.json",
        "/static/..;/../release.json",
    ],
)
def test_no_other_file_of_a_release_is_served(host: Host, way: str, url: str) -> None:
    told = ask(host, url, way)
    assert told.status in (308, 400, 404)  # the app itself redirects to a path without a double slash
    assert not [word for word in (b"inputs", b"create_app") if word in told.body]


# Hooks


def test_failing_hook_stops_before_the_switch(host: Host) -> None:
    before = look(host)
    env = unique()
    host.run(f"rm -f {SHARED}/hooks.log")
    fails = "sh -c 'echo no such table; exit 3'"
    failing = {"before_switch": [NOTE.format("before"), fails], "after_switch": [NOTE.format("after")]}
    output = refused(host, "deploy", options={"env": env, "hooks": failing})
    assert re.search(r"counter [0-9a-f]{12}: sh -c 'echo no such table; exit 3': ended with 3\s+no such table", output)
    after = look(host)
    assert {**after.left, "journal": 0} == {**before.left, "journal": 0}
    assert after.journal["history"] == before.journal["history"]

    done = run(host, "deploy", options={"env": env, "hooks": HOOKS})
    release = look(host).current
    said = [f"{when} {release} counter {env['BUILD']}" for when in ("before", "after")]
    assert host.check_output(f"cat {SHARED}/hooks.log").splitlines() == said
    assert re.search(r"counter on molecule-app1: \$ sh -c 'echo before .*: done at \S+Z", done.output)


# Rollbacks


class RolledBack(NamedTuple):
    """A rollback from ``new`` to ``old``, between which the code and a secret were changed."""

    old: str
    new: str
    build: str  # of old
    options: dict[str, Any]  # of new


@pytest.fixture(scope="module")
def rolled_back(host: Host) -> RolledBack:
    env = unique()
    run(host, "deploy", options={"env": env})
    old = look(host).current
    options = {"env": unique(), "secret_env": {"COUNTER_SECRET": "rotated"}}
    run(host, "deploy", options=options)
    new = look(host).current
    run(host, "rollback", options=options)
    return RolledBack(old, new, env["BUILD"], options)


def test_rollback_brings_old_code_and_todays_secrets(host: Host, rolled_back: RolledBack) -> None:
    assert look(host).current == rolled_back.old
    assert ask(host, "/env/BUILD").text == rolled_back.build
    assert ask(host, "/env/COUNTER_SECRET").text == "rotated"


def test_a_voided_release_is_switched_to_only_by_force(host: Host, rolled_back: RolledBack) -> None:
    before = look(host)
    output = refused(host, "deploy", options=rolled_back.options)
    since = before.journal["voided"][rolled_back.new]["since"]
    assert f"{rolled_back.new} was voided by {WHO} at {since}" in output
    assert "-e force=true" in output
    assert look(host).left == before.left
    run(host, "deploy", "-e", "force=true", options=rolled_back.options)
    assert look(host).current == rolled_back.new


def test_rollback_to_a_release_by_its_id(host: Host, rolled_back: RolledBack) -> None:
    run(host, "rollback", "-e", f"release={rolled_back.old}", options=rolled_back.options)
    assert look(host).current == rolled_back.old


def test_rollback_to_an_unknown_release_lists_those_there_are(host: Host) -> None:
    before = look(host)
    output = refused(host, "rollback", "-e", "release=0123456789ab")
    said = r"there is no release 0123456789ab on this host; on disk: (.*); (\S+) is live"
    ((listed, live),) = {*re.findall(said, output)}  # told where it failed, and as the cause
    assert (live, sorted(re.findall(r"[0-9a-f.]{12,}", listed))) == (before.current, before.releases)
    assert look(host).left == before.left


def test_previous_that_is_kept_warm_is_only_renamed_to(host: Host) -> None:
    warm = {"flask_app_keep_previous_warm": True}
    run(host, "deploy", options={"env": unique()}, **warm)  # with today's secrets, as the rollback will have them
    before = look(host)
    run(host, "deploy", options={"env": unique()}, **warm)
    assert look(host).pids[f"counter-{before.current}"] == before.master
    run(host, "rollback", **warm)
    back = look(host)
    assert (back.current, back.master) == (before.current, before.master)

    run(host, "deploy", options={"env": unique()}, **warm)
    run(host, "rollback", options={"secret_env": {"COUNTER_SECRET": "newer"}}, **warm)
    anew = look(host)
    assert anew.current == before.current
    assert anew.master != before.master
    assert ask(host, "/env/COUNTER_SECRET").text == "newer"
    assert anew.programs == anew.running(())


# Only looks


def test_check_mode_writes_nothing(host: Host) -> None:
    before = look(host)
    host.check_output("touch /run/marker")
    dry = run(host, "deploy", "--check", "--diff", options={"env": unique()})
    assert dry.changed == 1
    places = "/srv /etc /var/lib/flaskfleet /var/log/counter /run/flaskfleet"
    assert host.check_output(f"find {places} -newer /run/marker ! -name __pycache__") == ""
    assert look(host).left == before.left


# Last: gone, and back


@pytest.fixture(scope="module")
def without(host: Host) -> Iterator[list[str]]:
    """The inventory without counter, as the variable that says so; with it again in the end, everywhere."""
    yield ["counter"]
    assert site(host, *NEEDED).process.returncode == 0
    run(host, "deploy", *EVERYWHERE, force=True)


def test_app_of_the_inventory_is_not_removed(host: Host) -> None:
    before = look(host)
    output = refused(host, "remove_app")
    assert "Take counter out of flask_apps first" in output
    assert look(host).left == before.left


@pytest.mark.parametrize("app", ["", ".", ".."])
def test_an_invalid_name_is_not_removed(host: Host, app: str) -> None:
    before = look(host)
    assert "-e app=<name>, one that is no longer in flask_apps" in refused(host, "remove_app", app=app, purge=True)
    assert look(host).left == before.left
    assert host.file("/srv/counter").exists


@pytest.mark.parametrize("purge", [False, True])
def test_an_unknown_app_is_not_removed(host: Host, purge: bool) -> None:
    host.check_output("mkdir /srv/games && touch /srv/games/file")
    try:
        output = refused(host, "remove_app", app="games", purge=purge)
        assert "games: this host has no record of such an app" in output
        assert host.user("games").exists
        assert host.file("/srv/games").listdir() == ["file"]
    finally:
        host.check_output("rm -r /srv/games")


def test_removed_app_leaves_only_its_data(host: Host, without: list[str]) -> None:
    others = look(host).others
    host.check_output(f"runuser -u counter -- touch {SHARED}/kept")
    run(host, "remove_app", gone_apps=without)
    state = look(host)
    assert (state.programs, state.conf_d, state.trial) == ({}, [], [])
    assert [
        row[3] for row in state.processes if row[3].startswith("uwsgi counter ") or "counter.ticker" in row[3]
    ] == []
    assert {row for row in others if "nginx" not in row and "router" not in row} <= state.others
    assert not host.user("counter").exists
    assert not host.file("/etc/nginx/servers/counter.conf").exists
    assert not host.socket("tcp://0.0.0.0:8080").is_listening
    assert {*host.file("/srv/counter").listdir()} - {"media"} == {"shared"}  # media: what nginx serves of it
    assert {"kept", "requests.log"} <= {*host.file(SHARED).listdir()}
    assert host.file(SHARED).user == "root"
    assert "http.log" in host.file("/var/log/counter").listdir()
    assert run(host, "remove_app", *NEEDED, gone_apps=without).changed == 0


def test_app_comes_back_with_its_data(host: Host, without: list[str]) -> None:
    assert site(host, *NEEDED).process.returncode == 0
    file = host.file(f"{SHARED}/kept")
    assert (file.exists, file.user, file.group) == (True, "counter", "counter")
    assert ask(host, "/healthz").status == 200
    host.check_output(f"runuser -u counter -- rm {SHARED}/kept")


def test_purged_app_leaves_nothing(host: Host, without: list[str]) -> None:
    run(host, "remove_app", *NEEDED, "-e", "purge=true", gone_apps=without)
    places = "/srv /var/log /var/lib/flaskfleet/apps /etc/supervisor /etc/nginx /run/flaskfleet"
    assert host.check_output(f"find {places} -name 'counter*' ! -path '/var/log/nginx/*'") == ""
    assert not host.user("counter").exists
