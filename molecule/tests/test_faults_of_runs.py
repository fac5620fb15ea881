"""Runs that are refused, or killed: nothing is half-done, and the next run finishes. On one host: they take long."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROJECT, Answer, App
from faults import LISTEN, OK_APP, Load, Play, eventually, listener, pids, running_tree, site, written_tree
from testinfra.host import Host

testinfra_hosts = ["ansible://molecule-app1"]

HELLO = {
    "source": {"path": str(PROJECT / "files/app")},
    "wsgi": "hello:create_app()",
    "server_names": ["hello.example.lan"],
}
# Asks the running Supervisor which configuration it has.
IDENTIFIER = """
import xmlrpc.client
from supervisor.xmlrpc import SupervisorTransport
url = "unix:///run/supervisor.sock"
rpc = xmlrpc.client.ServerProxy("http://localhost", transport=SupervisorTransport(serverurl=url)).supervisor
print(rpc.getIdentification())
"""
# Where none is live yet there is nothing to keep; what else may be broken is in test_faults_of_releases.py.
BROKEN = {
    "raises at import": ("raise RuntimeError('no such luck')", {}, "no such luck"),
    "hangs at import": ("import threading; threading.Event().wait()", {}, "gave no answer"),
    "has a hook that fails": (OK_APP, {"hooks": {"before_switch": ["sh -c 'echo no table; exit 3'"]}}, "no table"),
    "requires what there is not": (OK_APP, {"requirements": "missing.txt"}, "no-such-distribution-as-this"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_first_release_that_is_broken_never_lives(host: Host, tmp_path: Path, what: str) -> None:
    code, options, words = BROKEN[what]
    (tmp_path / "broken.py").write_text(f"{code}\n")
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "missing.txt").write_text("no-such-distribution-as-this==1\n")
    entry = {
        "source": {"path": str(tmp_path)},
        "wsgi": "broken:app",
        "server_names": ["broken.example.lan"],
        "health": {"timeout_seconds": 4},
        **options,
    }
    others = pids(host, "^uwsgi (hello|notes) uWSGI (master|worker)")
    play = site(host, "--tags", "flask_app", flask_apps={"broken": entry})
    assert play.process.returncode != 0
    assert words in play.output
    assert host.run("pgrep -u broken").stdout == ""
    assert host.run("supervisorctl status").stdout.count("broken") == 0
    assert host.check_output("find /srv/broken/releases -mindepth 1") == ""
    assert not host.file("/srv/broken/current").exists
    assert host.run("ls /etc/supervisor/conf.d /run/flaskfleet/supervisor.d").stdout.count("broken") == 0
    assert pids(host, "^uwsgi (hello|notes) uWSGI (master|worker)") == others, "another app was disturbed"


def test_a_server_block_that_nginx_refuses_changes_no_byte(host: Host, hello: App, get: Callable[..., Answer]) -> None:
    entry = {**HELLO, "nginx_directives": ["nonsense on"]}
    before = host.check_output("find /etc/nginx -type f -exec sha256sum {} + | sort")
    with Load(get, hello.server_name) as load:
        play = site(host, "--tags", "nginx", flask_apps={"hello": entry})
    assert play.process.returncode != 0
    assert 'unknown directive "nonsense" in /etc/nginx/servers/hello.conf' in play.output
    assert host.check_output("find /etc/nginx -type f -exec sha256sum {} + | sort") == before
    assert load.failed == []


def test_a_port_that_is_taken_is_reported_before_the_first_change(host: Host) -> None:
    with listener(host, 8088):
        play = site(host, nginx_http_port=8088)
    assert play.process.returncode != 0
    assert re.search(r"nginx_http_port: port 8088 is taken by python3 \(pid \d+\)", play.output), play.output
    assert play.changed == 0


@pytest.mark.slow
def test_a_port_that_is_taken_too_late_stays_pending(host: Host, hello: App, get: Callable[..., Answer]) -> None:
    before = running_tree(host)
    with Load(get, hello.server_name) as load, listener(host, 8088):
        late = Play("playbooks/app_servers.yml", host, "--tags", "nginx", variables={"nginx_http_port": 8088})
        assert late.wait() != 0
        assert "bind() to 0.0.0.0:8088 failed" in late.output
        assert running_tree(host) == before != written_tree(host)
    assert load.failed == []
    back = site(host)
    assert back.process.returncode == 0
    assert running_tree(host) == written_tree(host) == before


def test_a_stale_socket_is_healed(host: Host, hello: App, get: Callable[..., Answer], program: str) -> None:
    host.check_output("supervisorctl stop %s", program)
    assert host.file("/srv/hello/current/run/uwsgi.sock").is_socket
    assert site(host, "--tags", "flask_app").process.returncode == 0
    eventually(lambda: get("/healthz", hello.server_name).status == 200, "answers")


def test_a_process_that_holds_an_old_socket_blocks_no_release(
    host: Host, hello: App, get: Callable[..., Answer], program: str
) -> None:
    """What the app has forked may outlive a master that was killed."""
    host.check_output("supervisorctl stop %s", program)
    socket = host.check_output("readlink -f /srv/hello/current") + "/run/uwsgi.sock"
    pid = host.check_output(f"rm %s; ({LISTEN}) >/dev/null 2>&1 & echo $!", socket, socket, "60")
    try:
        eventually(lambda: host.run("ss -Hlxp src %s", socket).stdout, "somebody who listens")
        assert site(host, "--tags", "flask_app").process.returncode == 0
        eventually(lambda: get("/healthz", hello.server_name).status == 200, "answers")
        assert host.run("kill -0 %s", pid).rc == 0
    finally:
        host.run("kill %s", pid)


# Changed


def test_an_app_that_is_no_longer_asked_for_is_no_longer_served(
    host: Host, hello: App, get: Callable[..., Answer], send: Callable[[bytes], bytes]
) -> None:
    assert site(host, "--tags", "nginx", flask_apps={"hello": HELLO}).process.returncode == 0
    assert not host.file("/etc/nginx/servers/notes.conf").exists
    assert send(b"GET / HTTP/1.1\r\nHost: notes.example.lan\r\n\r\n") == b""
    assert get("/healthz", hello.server_name).status == 200
    assert site(host).process.returncode == 0
    assert get("/healthz", "notes.example.lan").status == 200


@pytest.mark.slow
def test_a_trusted_balancers_headers_are_accepted(host: Host, hello: App, get: Callable[..., Answer]) -> None:
    claim = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    before = get("/echo", hello.server_name, headers=claim).json
    assert (before["remote_addr"], before["scheme"]) == (before["peer_addr"], "http")
    trusted = site(host, "--tags", "nginx", nginx_trusted_proxies=[before["peer_addr"]])
    assert trusted.process.returncode == 0
    after = get("/echo", hello.server_name, headers=claim).json
    assert (after["remote_addr"], after["scheme"]) == ("203.0.113.7", "https")
    assert after["peer_addr"] == before["peer_addr"]
    assert site(host).process.returncode == 0


# Interrupted


@pytest.mark.slow
@pytest.mark.parametrize("task", ["nginx : Service", "HANDLER [nginx : Reload nginx]", "nginx : Wait | Wait for nginx"])
def test_a_run_that_was_killed_is_finished_by_the_next(host: Host, task: str) -> None:
    # The variable's value makes a tree that is new each time.
    changed = {"nginx_keepalive_seconds": 60 + len(task)}
    killed = Play("site.yml", host, variables=changed, announces=True)
    killed.kill_at(task)
    second = site(host, **changed)
    assert second.process.returncode == 0, second.output
    assert running_tree(host) == written_tree(host)
    third = site(host, **changed)
    assert third.changed == 0, third.output
    assert site(host).process.returncode == 0


@pytest.mark.slow
def test_a_restart_of_supervisor_that_was_missed_is_made_up_for(host: Host) -> None:
    changed = {"supervisor_log_backups": 6}
    Play("site.yml", host, variables=changed, announces=True).kill_at("supervisor : Service")
    written = json.loads(host.file("/var/lib/flaskfleet/trees/supervisor/manifest.json").content_string)["tree"]
    assert written not in host.check_output("python3 -c %s", IDENTIFIER)
    assert site(host, **changed).process.returncode == 0
    assert written in host.check_output("python3 -c %s", IDENTIFIER)
    assert site(host, **changed).changed == 0
    assert site(host).process.returncode == 0


def test_the_most_verbose_run_has_no_secret(host: Host) -> None:
    play = site(host, "--diff", "-vvv", "--tags", "flask_app")
    assert "NOTES_DOLLAR" in play.output, "it tells the plain environment"
    assert "$x #1;2" not in play.output


def test_a_run_without_changes_changes_nothing(host: Host) -> None:
    play = site(host, "--diff")
    assert play.changed == 0, play.output
    tasks = int(re.findall(r"ok=(\d+)", play.output)[0])
    assert tasks <= 25
    dry = site(host, "--check", "--diff")
    assert dry.changed == 0, dry.output
    assert "+++" not in dry.output
