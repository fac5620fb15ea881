"""The role supervisor: the daemon, its unit, and the permissions of its socket."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://app_servers"]


def test_service(host: Host) -> None:
    service = host.service("supervisor")
    assert service.is_running
    assert service.is_enabled


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KillMode", "mixed"),
        ("Restart", "always"),
        ("RestartUSec", "1s"),
        ("TimeoutStopUSec", "1min 15s"),
        ("LimitNOFILE", "65536"),
        ("StartLimitIntervalUSec", "0"),
        ("OOMPolicy", "continue"),
        ("TasksMax", "infinity"),
        ("LimitNPROC", "4096"),
    ],
)
def test_unit(host: Host, name: str, value: str) -> None:
    assert host.check_output("systemctl show -P %s supervisor", name) == value


def test_unit_stops_all_programs_at_once(host: Host) -> None:
    stops = re.findall(r"argv\[\]=(.*?) ;", host.check_output("systemctl show -p ExecStop supervisor"))
    ours = "/usr/bin/supervisorctl -c /etc/supervisor/supervisord.conf"
    assert stops == [f"{ours} stop all", f"{ours} shutdown"]


def test_socket_is_roots(host: Host) -> None:
    socket = host.file("/run/supervisor.sock")
    assert socket.is_socket
    assert (socket.user, socket.group, socket.mode) == ("root", "root", 0o700)


def test_nothing_listens_on_tcp(listeners) -> None:
    assert not [listener for listener in listeners if listener.port == 9001 or "supervisor" in listener.program]


@pytest.mark.parametrize("user", ["nobody", "www-data", "hello"])
@pytest.mark.parametrize("words", ["status", "stop all", "shutdown"])
def test_others_may_not_talk_to_it(host: Host, user: str, words: str) -> None:
    told = host.run(f"runuser -u {user} -- supervisorctl -c /etc/supervisor/supervisord.conf {words}")
    assert told.rc != 0
    assert "Permission denied" in told.stdout + told.stderr


def test_every_program_runs(host: Host) -> None:
    lines = host.check_output("supervisorctl status").splitlines()
    running = [re.fullmatch(r"(.+?)\s+RUNNING\s+pid \d+, uptime .+", line) for line in lines]
    names = [re.sub("[0-9a-f]{12}", "<release>", line[1]) for line in running if line]
    assert names == ["counter-<release>", "counter-http", "hello-<release>", "notes-<release>"]
    assert len(lines) == len(names)


def test_tree_on_disk_is_in_effect(host: Host) -> None:
    settings = host.file("/etc/supervisor/supervisord.conf").content_string.splitlines()
    ask = (
        "from supervisor.options import ClientOptions; options = ClientOptions(); options.realize(['status']); "
        "print(options.getServerProxy().supervisor.getIdentification())"
    )
    assert f"identifier = {host.check_output('python3 -c %s', ask)}" in settings


def test_no_program_is_still_being_tried_out(host: Host) -> None:
    assert host.file("/run/flaskfleet/supervisor.d").listdir() == []


def test_log_is_written(host: Host) -> None:
    assert "entered RUNNING state" in host.file("/var/log/supervisor/supervisord.log").content_string
