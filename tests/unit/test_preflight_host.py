"""What only a host knows: who has a port, a user, a group or a folder already."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.flaskfleet.files import write_json
from ansible.modules import preflight_host
from examples import A


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with the users root and backup and the group video; its folders are below the path."""
    users = [("root", "/root"), ("backup", "/var/backups")]
    monkeypatch.setattr(pwd, "getpwall", lambda: [SimpleNamespace(pw_name=name, pw_dir=home) for name, home in users])
    monkeypatch.setattr(grp, "getgrall", lambda: [SimpleNamespace(gr_name="video")])
    return tmp_path


def claim(host: Path, name: str) -> list[dict[str, str]]:
    return [{"variable": f"flask_apps.{name}", "name": name, "home": str(host / name)}]


def test_a_name_that_nobody_has_is_free(host: Path) -> None:
    assert preflight_host.foreign_names(claim(host, "no-such-app")) == []


@pytest.mark.parametrize(
    ("name", "words"), [("backup", "a user backup with the home /var/backups"), ("video", "a group video")]
)
def test_a_name_that_somebody_has_is_refused(host: Path, name: str, words: str) -> None:
    (problem,) = preflight_host.foreign_names(claim(host, name))
    assert problem == f"flask_apps.{name}: there is {words} already; give the app another name"


@pytest.mark.parametrize("is_file", [True, False])
def test_a_folder_that_somebody_has_is_refused(host: Path, is_file: bool) -> None:
    path = host / "nfs" if is_file else host / "nfs/file"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    (problem,) = preflight_host.foreign_names(claim(host, "nfs"))
    assert f"there is {host}/nfs already" in problem


@pytest.mark.parametrize("names", [(), ("lost+found",)], ids=["empty", "a file system"])
def test_a_folder_with_nothing_in_it_is_free(host: Path, names: tuple[str, ...]) -> None:
    (host / "nfs").mkdir()
    for name in names:
        (host / "nfs" / name).mkdir()
    assert preflight_host.foreign_names(claim(host, "nfs")) == []


@pytest.mark.parametrize(
    ("record", "ours"),
    [
        (None, False),
        ({"user": True}, True),
        ({"user": False}, False),
        ({"history": [{"release": A}]}, True),
        ({"history": [{"release": A}, {"release": None}]}, False),
    ],
    ids=["none", "ours", "not ours", "an earlier version's", "an earlier version's, of a removed app"],
)
def test_a_user_is_ours_where_the_record_says_so(
    host: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, Any] | None, ours: bool
) -> None:
    """Debian's package vsftpd makes a user ``ftp`` with the home /srv/ftp."""
    (host / "ftp").mkdir()
    (host / "ftp/file").touch()
    monkeypatch.setattr(pwd, "getpwall", lambda: [SimpleNamespace(pw_name="ftp", pw_dir=str(host / "ftp"))])
    monkeypatch.setattr(preflight_host, "JOURNALS", host / "apps")
    if record is not None:
        (host / "apps").mkdir()
        write_json(host / "apps/ftp.json", record)
    assert (preflight_host.foreign_names(claim(host, "ftp")) == []) == ours


@pytest.mark.parametrize(("name", "ours"), [("nfs", True), ("backup", False), ("video", False)])
def test_a_folder_that_we_remember_is_ours(host: Path, monkeypatch: pytest.MonkeyPatch, name: str, ours: bool) -> None:
    """The app was removed, and its user with it; a user or a group of that name is somebody else's by now."""
    (host / "nfs").mkdir()
    (host / "nfs/file").touch()
    monkeypatch.setattr(preflight_host, "JOURNALS", host)
    assert len(preflight_host.foreign_names(claim(host, name))) == 1
    (host / f"{name}.json").touch()
    assert (preflight_host.foreign_names(claim(host, name)) == []) == ours


def test_a_port_of_another_program_is_refused_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        claims = [{"variable": "nginx_http_port", "port": port, "program": "nginx"}]
        (problem,) = preflight_host.taken_ports(claims)
    assert problem.startswith(f"nginx_http_port: port {port} is taken by ")
    assert f"(pid {os.getpid()})" in problem
    assert preflight_host.taken_ports(claims) == []


def test_a_port_of_our_own_program_is_ours() -> None:
    name = Path("/proc/self/comm").read_text().strip()
    with socket.create_server(("127.0.0.1", 0)) as server:
        claims = [{"variable": "nginx_http_port", "port": server.getsockname()[1], "program": name}]
        assert preflight_host.taken_ports(claims) == []


@pytest.mark.parametrize(("line", "taken"), [("--http 0.0.0.0:8080\n", 0), ("--http 0.0.0.0:80\n", 1)])
def test_a_port_is_ours_where_a_file_of_ours_says_so(host: Path, line: str, taken: int) -> None:
    (host / "blog-http.conf").write_text("command = uwsgi\n    --http 0.0.0.0:8080\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ours = [str(host / "blog-http.conf"), line]
        claims = [{"variable": "flask_apps.blog.http", "port": port, "program": "uwsgi", "ours": ours}]
        assert len(preflight_host.taken_ports(claims)) == taken
