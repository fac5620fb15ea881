"""uWSGI is built where ``pip install uwsgi`` fails in the linker, and the host's compiler stays what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from testinfra.host import Host

PROJECT = Path(__file__).resolve().parents[3]
UWSGI = "/srv/hello/current/venv/bin/uwsgi"


@pytest.fixture
def name(host: Host) -> str:
    return host.backend.get_hostname()


def test_ways_that_were_tried_are_on_record() -> None:
    records = [json.loads(path.read_text()) for path in PROJECT.glob(".cache/molecule/gcc_pin/*/*.json")]
    of_uwsgi = [record for record in records if "uwsgi==" in record["requirements"]]
    assert sorted((one["host"], [way.rpartition(",")[0] for way in one["tried"]]) for one in of_uwsgi) == [
        ("molecule-auto", ["uwsgi==2.0.31 by gcc"]),  # for the distribution's Python
        ("molecule-auto", ["uwsgi==2.0.31 by gcc", "uwsgi==2.0.31 by gcc -fno-lto"]),
        ("molecule-pinned", ["uwsgi==2.0.31 by gcc-11"]),
        ("molecule-prebuilt", ["uwsgi==2.0.31 by gcc-99", "pyuwsgi==2.0.30.post1 without a compiler"]),
    ]


def test_default_compiler_is_what_it_was(host: Host) -> None:
    assert host.file("/usr/bin/gcc").linked_to == "/usr/bin/x86_64-linux-gnu-gcc-12"
    assert "12." in host.check_output("gcc --version")


def test_pinned_compiler_is_removed_again(host: Host) -> None:
    assert not host.package("gcc-11").is_installed
    assert host.package("gcc-12").is_installed


def test_uwsgi_runs_from_that_python(host: Host, name: str) -> None:
    version = "2.0.30" if name == "molecule-prebuilt" else "2.0.31"
    assert host.check_output(f"{UWSGI} --version").startswith(version)
    assert host.check_output(f"{UWSGI} --python-version").startswith("3.11.2")


def status_of(host: Host, app: str) -> str:
    """The status of an app's answer to its health path."""
    ask = (
        "import sys, urllib.request as r; "
        "print(r.urlopen(r.Request('http://127.0.0.1/healthz', headers={'Host': sys.argv[1]})).status)"
    )
    return host.check_output("python3 -c %s %s", ask, f"{app}.example.lan")


def test_app_serves(host: Host) -> None:
    assert status_of(host, "hello") == "200"


def test_apps_of_two_pythons_serve_side_by_side(host: Host, name: str) -> None:
    apps = {"hello": "/opt/lto", "plain": "/usr"} if name == "molecule-auto" else {"hello": "/opt/lto"}
    prefix = "import sys; print(sys.base_prefix)"
    for app, expected in apps.items():
        assert host.check_output(f"/srv/{app}/current/venv/bin/python -c %s", prefix) == expected
        assert status_of(host, app) == "200"
    status = host.check_output("supervisorctl status")
    assert (status.count("RUNNING"), len(status.splitlines())) == (len(apps), len(apps))
