"""The role uwsgi: its wheel, an instance's settings, its sockets and its processes."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://app_servers"]

ABI = {"12": "cp311-cp311", "13": "cp313-cp313"}  # of the Debian release's python3
READ_STATS = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.makefile().read())"


@pytest.fixture
def settings(host: Host, app) -> list[str]:
    """The lines of the live release's uwsgi.ini."""
    return host.file(f"/srv/{app.name}/current/uwsgi.ini").content_string.splitlines()


def test_wheel_is_built_for_the_hosts_python(host: Host) -> None:
    wheels = host.check_output("find /var/lib/flaskfleet/wheels -type f -iname 'uwsgi-*.whl' -printf '%f\n'").split()
    assert {wheel.lower() for wheel in wheels} == {
        f"uwsgi-2.0.31-{ABI[host.system_info.release.partition('.')[0]]}-linux_x86_64.whl"
    }


@pytest.mark.parametrize("package", ["gcc", "libc6-dev", "python3-dev"])
def test_no_compiler_is_left(host: Host, package: str) -> None:
    assert not host.package(package).is_installed


def test_version(host: Host, app) -> None:
    assert host.check_output("/srv/%s/current/venv/bin/uwsgi --version", app.name) == "2.0.31"


@pytest.mark.parametrize(
    "line",
    [
        "strict = true",
        "master = true",
        "need-app = true",
        "single-interpreter = true",
        "no-orphans = true",
        "die-on-term = true",
        "hook-master-start = unix_signal:15 gracefully_kill_them_all",
        "harakiri = {harakiri}",
        "threads = 1",
        "listen = 1024",
        "buffer-size = 65535",
        "chmod-socket = 660",
        "socket = fd://3",
    ],
)
def test_setting(settings: list[str], app, line: str) -> None:
    assert line.format(harakiri=app.harakiri) in settings


@pytest.mark.parametrize(("app", "lazy"), [("hello", False), ("notes", True)], indirect=["app"])
def test_app_is_loaded_before_the_fork_by_default(settings: list[str], app, lazy: bool) -> None:
    assert ("lazy-apps = true" in settings) is lazy


def test_settings_name_no_other_socket(settings: list[str]) -> None:
    assert not [line for line in settings if line.startswith(("http", "uwsgi-socket", "shared-socket", "fastcgi"))]


@pytest.mark.parametrize(("name", "user"), [("uwsgi.sock", "www-data"), ("stats.sock", None)])
def test_socket_is_for_the_app_and_nginx(host: Host, app, name: str, user: str | None) -> None:
    socket = host.file(f"/srv/{app.name}/current/run/{name}")
    assert socket.is_socket
    assert (socket.user, socket.group, socket.mode) == (user or app.name, app.name, 0o660)


@pytest.mark.parametrize("command", ["mv uwsgi.sock other", "rm -f uwsgi.sock", "ln -sf other uwsgi.sock"])
def test_the_app_cannot_replace_its_socket(host: Host, app, command: str) -> None:
    """nginx would take another app's behind its back."""
    denied = host.run(f"cd /srv/{app.name}/current/run && runuser -u {app.name} -- {command}")
    assert (denied.rc, denied.stderr.count("Operation not permitted")) == (1, 1)


def test_socket_is_closed_to_others(host: Host, app) -> None:
    other = "notes" if app.name == "hello" else "hello"
    path = f"/srv/{app.name}/current/run/uwsgi.sock"
    denied = host.run("runuser -u %s -- python3 -c %s %s", other, READ_STATS, path)
    assert denied.rc == 1
    assert "PermissionError" in denied.stderr


def test_queue_is_as_long_as_asked_for(host: Host, app) -> None:
    queues = [
        line.split()[3] for line in host.check_output("ss -Hlx src %s", f"*{app.name}*/run/uwsgi.sock").splitlines()
    ]
    assert queues == ["1024"]


def test_nothing_listens_on_tcp_but_the_router_of_an_app(listeners) -> None:
    assert [listener.port for listener in listeners if listener.program in ("?", "uwsgi")] == [8080]


def test_one_master_under_supervisor(app, processes) -> None:
    (supervisord,) = (process.pid for process in processes if process.command == "supervisord")
    masters = [process for process in processes if process.user == app.name and process.parent == supervisord]
    assert [process.line for process in masters] == [f"uwsgi {app.name} uWSGI master"]


def test_workers_of_the_master(app, processes, master: int) -> None:
    workers = sorted(process.line for process in processes if process.parent == master)
    assert workers == [f"uwsgi {app.name} uWSGI worker {number + 1}" for number in range(app.workers)]


def test_nothing_else_runs_as_the_app(app, processes) -> None:
    mine = [process for process in processes if process.user == app.name]
    assert len(mine) == app.workers + 1


def test_nothing_of_an_app_runs_as_root(processes) -> None:
    assert not [process for process in processes if process.user == "root" and process.command == "uwsgi"]


def test_stats_show_every_worker(host: Host, app, master: int) -> None:
    stats = json.loads(host.check_output("python3 -c %s %s", READ_STATS, f"/srv/{app.name}/current/run/stats.sock"))
    assert stats["version"] == "2.0.31"
    assert stats["pid"] == master
    assert len(stats["workers"]) == app.workers


@pytest.mark.parametrize(
    ("user", "words"),
    [("root", "is running already; stop it first: supervisorctl stop {program}"), ("its own", "by root only")],
)
@pytest.mark.parametrize("command", ["uwsgi /srv/{app}/current/uwsgi.ini", "/srv/{app}/current/serve"])
def test_live_release_is_not_started_a_second_time(
    host: Host, app, release: str, master: int, user: str, words: str, command: str
) -> None:
    name, program = app.name if user == "its own" else user, f"{app.name}-{release}"
    started = host.run("timeout 20 runuser -u %s -- " + command.format(app=app.name), name)
    assert started.rc not in (0, 124)
    assert words.format(program=program) in started.stderr
    assert sorted(host.file(f"/srv/{app.name}/releases/{release}/run").listdir()) == ["stats.sock", "uwsgi.sock"]
    assert host.check_output("supervisorctl pid %s", program) == str(master)


def test_uwsgi_without_its_socket_ends(host: Host, app, release: str) -> None:
    started = host.run("timeout 20 /srv/%s/current/exec uwsgi /srv/%s/current/uwsgi.ini", app.name, app.name)
    assert (started.rc, f"is started by /srv/{app.name}/releases/{release}/serve" in started.stderr) == (137, True)


def test_command_without_a_release_prints_its_usage(host: Host) -> None:
    said = host.run("uwsgi --version")
    assert (said.rc, said.stderr.split()[0]) == (64, "usage:")
