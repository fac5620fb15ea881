"""What goes wrong on a server, done to it on purpose: it answers again by itself, and nothing is left over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from conftest import Answer, App
from faults import ONE_STACK, PID_OF, Load, background, busy_workers, eventually, pids, stack
from testinfra.host import Host

# Stops a program, counts what is left of it, and starts it again, twenty times. It does not wait for startsecs.
TWENTY_STOPS = """
import socket, subprocess, sys, time, xmlrpc.client
from supervisor.xmlrpc import SupervisorTransport
url = "unix:///run/supervisor.sock"
rpc = xmlrpc.client.ServerProxy("http://localhost", transport=SupervisorTransport(serverurl=url)).supervisor
for _ in range(20):
    rpc.stopProcess(sys.argv[1])
    left = subprocess.run(["pgrep", "-fc", "^uwsgi hello uWSGI"], capture_output=True, text=True).stdout.strip()
    print(rpc.getProcessInfo(sys.argv[1])["statename"], left, sep="/")
    rpc.startProcess(sys.argv[1], False)
    while socket.socket(socket.AF_UNIX).connect_ex("/srv/hello/current/run/stats.sock"):
        time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def whole(host: Host) -> Iterator[None]:
    """Every test finds the host whole, and leaves it so."""
    yield
    eventually(lambda: stack(host) == ONE_STACK, f"one stack, not {stack(host)}")


# Killed


@pytest.mark.parametrize("daemon", PID_OF)
def test_a_killed_daemon_is_back(host: Host, hello: App, get: Callable[..., Answer], daemon: str) -> None:
    before = host.check_output(PID_OF[daemon])
    with Load(get, hello.server_name) as load:
        host.check_output("kill -KILL %s", before)
        load.await_answers(time.monotonic())
    eventually(lambda: host.run(PID_OF[daemon]).stdout.strip() not in ("", before), "another pid")
    eventually(lambda: stack(host) == ONE_STACK, "one stack")


@pytest.mark.parametrize("worker", [1, 2, 3, 4])
def test_a_killed_worker_is_back(host: Host, hello: App, get: Callable[..., Answer], worker: int) -> None:
    (pid,) = pids(host, f"^uwsgi hello uWSGI worker {worker}$")
    with Load(get, hello.server_name) as load:
        host.check_output(f"kill -KILL {pid}")
        load.await_answers(time.monotonic())
        eventually(lambda: pids(host, f"^uwsgi hello uWSGI worker {worker}$") - {pid}, "another worker")
    assert len(load.failed) <= 1, "more than the request that the worker had"


def test_an_interrupted_master_is_back(host: Host, hello: App, get: Callable[..., Answer]) -> None:
    pid = host.check_output(PID_OF["uWSGI's master"])
    with Load(get, hello.server_name) as load:
        host.check_output("kill -INT %s", pid)
        eventually(lambda: not host.file(f"/proc/{pid}").exists, "its end")
        load.await_answers(time.monotonic())


def test_the_socket_belongs_to_the_live_master(host: Host, hello: App) -> None:
    pid = host.check_output(PID_OF["uWSGI's master"])
    socket = host.check_output("readlink -f /srv/hello/current") + "/run/uwsgi.sock"
    inode = host.check_output("ss -Hlx src %s", socket).split()[5]
    # Only the app itself may look at its descriptors in a container.
    assert f"socket:[{inode}]" in host.check_output("runuser -u hello -- ls -l /proc/%s/fd", pid)


# Stopped


def test_running_requests_are_answered_before_a_stop(
    host: Host, hello: App, get: Callable[..., Answer], program: str
) -> None:
    with background(lambda: get("/sleep/5", hello.server_name).status) as statuses:
        eventually(lambda: busy_workers(host), "a worker that sleeps")
        host.check_output("supervisorctl stop %s", program)
        assert "STOPPED" in host.run("supervisorctl status %s", program).stdout
        host.check_output("supervisorctl start %s", program)
    assert statuses == [200]


def test_a_group_that_the_user_was_added_to_counts(host: Host, hello: App, program: str) -> None:
    """For the socket of a database, say."""
    host.check_output("usermod --append --groups games hello")
    try:
        host.check_output("supervisorctl restart %s", program)
        running = host.check_output("ps -o supgrp= -p $(supervisorctl pid %s)", program).split(",")
        assert sorted(running) == ["games", "hello"]
        assert sorted(host.check_output("/srv/hello/current/exec id -Gn").split()) == ["games", "hello"]
    finally:
        host.check_output("gpasswd --delete hello games")
        host.check_output("supervisorctl restart %s", program)


@pytest.mark.slow
def test_twenty_stops_under_load_leave_nothing_running(
    host: Host, hello: App, get: Callable[..., Answer], program: str
) -> None:
    with Load(get, hello.server_name) as load:
        left = host.check_output("python3 -c %s %s", TWENTY_STOPS, program)
        load.await_answers(time.monotonic())
    assert left.split() == ["STOPPED/0"] * 20


def test_hung_requests_end_at_their_deadline_and_others_are_served(host: Host, get: Callable[..., Answer]) -> None:
    def hang() -> int:
        return get("/sleep/60", "notes.example.lan").status

    asked = time.monotonic()
    with Load(get, "notes.example.lan") as load, background(hang) as first, background(hang) as second:
        eventually(lambda: len(busy_workers(host, "notes")) == 2, "every worker hanging")
        load.await_answers(time.monotonic())
    assert first + second == [502, 502]
    assert time.monotonic() - asked < 30, "the deadline is 3 seconds"


@pytest.mark.slow
def test_a_stop_ends_also_what_hangs(host: Host, get: Callable[..., Answer]) -> None:
    release = host.check_output("readlink /srv/notes/current").rpartition("/")[2]
    with background(lambda: get("/sleep/60", "notes.example.lan").status) as statuses:
        eventually(lambda: busy_workers(host, "notes"), "a worker that hangs")
        host.check_output("supervisorctl stop %s", f"notes-{release}")
        left = pids(host, "^uwsgi notes uWSGI")
        host.check_output("supervisorctl start %s", f"notes-{release}")
    assert left == set()
    assert statuses in ([502], [504]), "killed, or given up by nginx before"
    eventually(lambda: get("/healthz", "notes.example.lan").status == 200, "answers")


# In the way


def test_a_second_supervisord_is_refused(host: Host, hello: App, get: Callable[..., Answer]) -> None:
    before = pids(host, "^uwsgi hello uWSGI")
    second = host.run("supervisord -n -c /etc/supervisor/supervisord.conf")
    assert second.rc != 0
    assert "already listening" in second.stdout + second.stderr
    assert pids(host, "^uwsgi hello uWSGI") == before
    assert host.run("supervisorctl status").stdout.count("RUNNING") == 4


def test_a_full_disk_of_logs_stops_nothing(host: Host, get: Callable[..., Answer]) -> None:
    program = "notes-" + host.check_output("readlink /srv/notes/current").rpartition("/")[2]
    host.check_output("mount -t tmpfs -o size=64k tmpfs /var/log/notes")
    try:
        host.check_output("supervisorctl restart %s", program)
        eventually(lambda: get("/healthz", "notes.example.lan").status == 200, "answers")
        statuses = [get("/log/64", "notes.example.lan").status for _ in range(4)]
        assert "100%" in host.check_output("df /var/log/notes")
        assert statuses == [200] * 4
        host.check_output("mount -o remount,size=10m /var/log/notes")
        assert get("/log/64", "notes.example.lan").status == 200
        log = f"/var/log/notes/{program.partition('-')[2]}.log"
        eventually(lambda: host.file(log).size > 65536, "logs again")
    finally:
        host.run("umount -l /var/log/notes && supervisorctl restart %s", program)
    eventually(lambda: get("/healthz", "notes.example.lan").status == 200, "answers")


# Last: the host's own end


def test_a_reboot_brings_the_same_release_back(host: Host, hello: App, program: str) -> None:
    init = "ps -o lstart= -p 1"
    since = host.run(init).stdout
    host.run("systemctl reboot")
    eventually(lambda: (found := host.run(init)).rc == 0 and found.stdout != since, "another init")
    ask = f"curl -s -o /dev/null -w '%{{http_code}} %header{{x-release}}' -H 'Host: {hello.server_name}' http://127.0.0.1/"
    answer = eventually(lambda: (found := host.run(ask).stdout).startswith("200") and found, "answers")
    assert answer == f"200 {program.partition('-')[2]}"
