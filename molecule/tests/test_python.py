"""The role python, and the environments made with what it brings."""

from __future__ import annotations

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://app_servers"]


def test_interpreter_makes_environments(host: Host) -> None:
    assert host.run("/usr/bin/python3 -c 'import ensurepip, venv'").rc == 0


def test_environment_is_shared_by_its_inputs(host: Host, app) -> None:
    target = host.check_output("readlink /srv/%s/current/venv", app.name)
    folder, _, key = target.rpartition("/")
    assert (folder, len(key)) == ("../../venvs", 12)


def test_environment_is_consistent(host: Host, app) -> None:
    assert host.run("/srv/%s/current/venv/bin/python -m pip check", app.name).rc == 0


def test_environments_and_wheels_are_closed_to_other_apps(host: Host, app) -> None:
    assert host.check_output("stat -c '%%a %%U %%G' /srv/%s/venvs", app.name) == f"750 root {app.name}"
    assert host.check_output("stat -c '%a %U' /var/lib/flaskfleet/wheels") == "700 root"
    assert host.check_output("find /srv/%s/venvs ! -user root -o -perm /7022 ! -type l", app.name) == ""


def test_nothing_is_left_of_a_sandbox(host: Host) -> None:
    assert host.check_output("find /var/lib/flaskfleet/sandboxes -mindepth 1 ! -name '*.lock'") == ""
    assert host.run("ps -o args= -u _flaskfleet_venv").stdout == ""


def test_scripts_name_their_final_path(host: Host, app) -> None:
    assert "Python" in host.check_output("/srv/%s/current/venv/bin/flask --version", app.name)


def test_nothing_half_done_is_left(host: Host, app) -> None:
    assert (
        host.check_output("find /srv/%s/venvs /srv/%s/releases -mindepth 1 -maxdepth 1 -name '.*'", app.name, app.name)
        == ""
    )


@pytest.mark.parametrize(
    ("app", "distribution", "version"),
    [
        ("hello", "flask", "3.1.3"),
        ("hello", "werkzeug", "3.1.9"),
        ("notes", "flask", "3.1.3"),
        ("notes", "humanize", "4.13.0"),
        ("notes", "markdown-it-py", "4.0.0"),
        ("notes", "uwsgi", "2.0.31"),
    ],
    indirect=["app"],
)
def test_version_is_the_one_asked_for(host: Host, app, distribution: str, version: str) -> None:
    ask = f"import importlib.metadata as m; print(m.version('{distribution}'))"
    assert host.check_output("/srv/%s/current/venv/bin/python -c %s", app.name, ask) == version


def test_apps_do_not_share_packages(host: Host) -> None:
    assert host.run("/srv/hello/current/venv/bin/python -c 'import humanize'").rc == 1
