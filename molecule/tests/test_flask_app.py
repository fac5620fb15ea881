"""The role flask_app: the user, the directories and their modes, the environment, the records of a release."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://app_servers"]


def run_as(host: Host, user: str, command: str) -> int:
    """Run a shell's command as a user; its return code."""
    return host.run(f"runuser -u {user} -- sh -c {shlex.quote(command)}").rc


def test_user_has_no_shell_and_no_password(host: Host, app) -> None:
    user = host.user(app.name)
    assert user.shell == "/usr/sbin/nologin"
    assert user.home == f"/srv/{app.name}"
    assert user.password in ("!", "!*", "*")


def test_user_shares_no_group(host: Host, app) -> None:
    assert host.user(app.name).groups == [app.name]


@pytest.mark.parametrize(
    ("path", "owner", "group", "mode"),
    [
        ("", "root", "root", 0o755),
        ("releases", "root", "root", 0o755),
        ("venvs", "root", "{app}", 0o750),
        ("secrets", "root", "{app}", 0o750),
        ("shared", "{app}", "{app}", 0o750),
        ("current/src", "root", "{app}", 0o750),
        ("current/env", "root", "{app}", 0o750),
        ("current/run", "root", "{app}", 0o1771),
        ("current/uwsgi.ini", "root", "{app}", 0o640),
        ("current/serve", "root", "{app}", 0o750),
        ("current/release.json", "root", "{app}", 0o640),
    ],
)
def test_mode(host: Host, app, path: str, owner: str, group: str, mode: int) -> None:
    file = host.file(host.check_output("readlink -f %s", f"/srv/{app.name}/{path}"))
    assert (file.user, file.group, file.mode) == (owner.format(app=app.name), group.format(app=app.name), mode)


@pytest.mark.parametrize("path", ["shared", "current/run"])
def test_app_writes(host: Host, app, path: str) -> None:
    assert run_as(host, app.name, f"cd /srv/{app.name}/{path} && touch test && rm test") == 0


@pytest.mark.parametrize(
    "path",
    [
        "",
        "releases",
        "venvs",
        "secrets",
        "current/",
        "current/src",
        "current/src/{package}",
        "current/env",
        "current/static",
        "current/venv/",
        "current/venv/bin",
    ],
)
def test_app_does_not_write(host: Host, app, path: str) -> None:
    folder = f"/srv/{app.name}/{path.format(package=app.name)}"
    assert host.run("test -d %s", folder).rc == 0
    assert run_as(host, app.name, f"touch {folder}/test") == 1


def test_app_can_write_only_its_own_folders(host: Host, app) -> None:
    # find may not look everywhere, which is as it should be.
    writable = host.run("runuser -u %s -- find / -xdev ! -path '/proc/*' -type d -writable", app.name).stdout.split()
    live = host.check_output("readlink -f /srv/%s/current/run", app.name)
    assert sorted({*writable} - {"/tmp", "/var/tmp"}) == sorted(
        [live, f"/srv/{app.name}/shared", f"/srv/{app.name}/shared/var"]
    )


@pytest.mark.parametrize(
    ("user", "path", "rc"),
    [
        ("notes", "current/secrets/env/NOTES_SECRET", 0),
        ("www-data", "current/secrets/env/NOTES_SECRET", 1),
        ("hello", "current/secrets/env/NOTES_SECRET", 1),
        ("nobody", "current/secrets/env/NOTES_SECRET", 1),
        ("www-data", "current/env/NOTES_AT", 1),
        ("hello", "current/src/notes/web.py", 1),
        ("hello", "shared/notes.sqlite3", 1),
        ("www-data", "current/static/assets/notes.css", 0),
    ],
)
def test_permissions_of_files(host: Host, user: str, path: str, rc: int) -> None:
    assert run_as(host, user, f"cat /srv/notes/{path}") == rc


def test_secret_file(host: Host) -> None:
    file = host.file("/srv/notes/current/secrets/env/NOTES_SECRET")
    assert (file.user, file.group, file.mode) == ("root", "notes", 0o640)


def test_app_without_secrets_has_none(host: Host) -> None:
    assert host.file("/srv/hello/current/secrets/env").listdir() == []


@pytest.mark.parametrize("path", ["/var/lib/flaskfleet", "/srv/notes/releases", "/var/log", "/etc"])
def test_secret_is_nowhere_else(host: Host, path: str) -> None:
    assert host.run("grep -rIlF %s %s", "%(nothing)s @(/etc/hostname) $x", path).stdout == ""


# The environment: shell-like, ini-like and other words must arrive as they were written in hosts.yml.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTES_PERCENT", "p%40ss"),
        ("NOTES_AT", "50%@"),
        ("NOTES_FILE", "@(/etc/hostname)"),
        ("NOTES_DOLLAR", "$(hostname) ${HOME} $HOME"),
        ("NOTES_QUOTES", 'it\'s "quoted" `here`, back\\slash'),
        ("NOTES_UNICODE", "Grüße, 世界 🗒"),
        ("NOTES_EMPTY", ""),
        ("NOTES_LINES", "one\ntwo = 2\n\n; four"),
        ("NOTES_SPACES", "  led by two"),
        ("NOTES_NUMBER", "8080"),
        ("NOTES_SECRET", "%(nothing)s @(/etc/hostname) $x #1;2"),
        ("FLASKFLEET_APP", "notes"),
        ("FLASKFLEET_SHARED", "/srv/notes/shared"),
        ("HOME", "/srv/notes/shared"),
    ],
)
def test_environment_arrives_verbatim(get, name: str, value: str) -> None:
    assert get(f"/env/{name}", "notes.example.lan").json == {"value": value}


def test_command_of_flask_finds_the_app(host: Host, app) -> None:
    routes = host.check_output(f"runuser -u {app.name} -- /srv/{app.name}/current/exec flask routes")
    assert "/healthz" in routes


def test_each_worker_loads_the_app_without_preload(get) -> None:
    process = get("/process", "notes.example.lan").json
    assert process["pid"] == process["imported_by"]


# The release and its records


def test_release_is_named_by_its_inputs(release: str) -> None:
    assert re.fullmatch("[0-9a-f]{12}", release)


def test_release_records_its_inputs(host: Host, app, release: str) -> None:
    record = json.loads(host.file(f"/srv/{app.name}/current/release.json").content_string)
    assert (record["app"], record["release"]) == (app.name, release)
    assert record["inputs"]["entry"]["processes"] == app.workers


def test_journal_names_the_live_release(host: Host, app, release: str) -> None:
    journal = json.loads(host.file(f"/var/lib/flaskfleet/apps/{app.name}.json").content_string)
    assert journal["history"][-1]["release"] == release
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", journal["history"][-1]["since"])


def test_program_is_kept_for_the_next_boot(host: Host, app, release: str) -> None:
    program = host.file(f"/etc/supervisor/conf.d/{app.name}-{release}.conf")
    assert program.content == host.file(f"/srv/{app.name}/current/supervisor.conf").content


def test_only_live_programs_are_kept(host: Host) -> None:
    names = sorted(re.sub("[0-9a-f]{12}", "<release>", name) for name in host.file("/etc/supervisor/conf.d").listdir())
    assert names == ["counter-<release>.conf", "counter-http.conf", "hello-<release>.conf", "notes-<release>.conf"]


@pytest.mark.parametrize(
    "line",
    [
        "autorestart = true",
        "startretries = 1000",
        "stopsignal = TERM",
        "stopasgroup = false",
        "killasgroup = true",
        "stopwaitsecs = {stop}",
        "stdout_logfile_maxbytes = 20MB",
    ],
)
def test_program_setting(host: Host, app, line: str) -> None:
    assert (
        line.format(app=app.name, stop=app.harakiri + 15)
        in host.file(f"/srv/{app.name}/current/supervisor.conf").content_string.splitlines()
    )


# Logs


def test_current_log_is_the_live_releases(host: Host, app, release: str) -> None:
    log = host.file(f"/var/log/{app.name}/current.log")
    assert log.linked_to == f"/var/log/{app.name}/{release}.log"
    assert "spawned uWSGI worker" in log.content_string


def test_log_is_the_apps(host: Host, app) -> None:
    folder = host.file(f"/var/log/{app.name}")
    assert (folder.user, folder.group, folder.mode) == ("root", app.name, 0o750)


@pytest.mark.parametrize("word", ["Traceback", "error", "WARNING", "failed"])
def test_log_is_free_of_complaints(host: Host, app, word: str) -> None:
    assert not [
        line for line in host.file(f"/var/log/{app.name}/current.log").content_string.splitlines() if word in line
    ]
