"""What only a host knows: who has a port, a user, a group or a folder already."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.flaskfleet.files import write_json
from ansible.module_utils.testing import patch_module_args
from ansible.modules import preflight_host
from examples import A


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with the users root and backup and the group video; its folders are below the path."""
    users = {
        "root": "/root",
        "backup": "/var/backups",
    }
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_dir=users[name]))
    monkeypatch.setattr(grp, "getgrnam", {"video": "a group"}.__getitem__)
    # A directory service knows them by name, and lists nobody.
    monkeypatch.setattr(pwd, "getpwall", list)
    monkeypatch.setattr(grp, "getgrall", list)
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
    monkeypatch.setattr(pwd, "getpwnam", {"ftp": SimpleNamespace(pw_dir=str(host / "ftp"))}.__getitem__)
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


@pytest.mark.parametrize(
    ("distribution", "version", "has_it"),
    [("Debian", "13.2", True), ("Debian", "14", True), ("Debian", "12.9", False), ("Ubuntu", "24.04", False)],
)
def test_http3_is_refused_where_nginx_has_none(distribution: str, version: str, has_it: bool) -> None:
    told = f"nginx_http3: True: nginx of {distribution} {version} has no HTTP/3, Debian's has it from 13 on; "
    assert preflight_host.lacks_http3(distribution, version) == (
        [] if has_it else [told + "leave it false for this host"]
    )


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


NGINX, SUPERVISOR = "/etc/nginx/nginx.conf", "/etc/supervisor/supervisord.conf"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Writes files on a host that has nginx and Supervisor as their packages bring them."""

    def write(files: dict[str, str]) -> None:
        for path, content in files.items():
            (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path[1:]).write_text(content)

    default = "/etc/nginx/sites-available/default"
    brought = {NGINX: "nginx's", SUPERVISOR: "Supervisor's", default: "it works"}
    write(brought)
    (tmp_path / "etc/nginx/sites-enabled").mkdir()
    (tmp_path / "etc/nginx/sites-enabled/default").symlink_to(tmp_path / default[1:])
    lines = [f" {path} {hashlib.md5(content.encode()).hexdigest()}" for path, content in brought.items()]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="\n".join(["", *lines, ""])))
    return write


def lost(tmp_path: Path, *take_over: str) -> tuple[list[str], list[str]]:
    problems, warnings = preflight_host.foreign_files([NGINX, SUPERVISOR], list(take_over), tmp_path)
    return [problem.split()[0] for problem in problems], warnings


@pytest.mark.usefixtures("write")
def test_what_packages_bring_may_be_replaced(tmp_path: Path) -> None:
    assert lost(tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (NGINX, NGINX),
        (SUPERVISOR, SUPERVISOR),
        ("/etc/nginx/sites-enabled/shop", "/etc/nginx/sites-enabled/shop"),
        ("/etc/nginx/conf.d/shop.conf", "/etc/nginx/conf.d/shop.conf"),
        ("/etc/nginx/sites-available/default", "/etc/nginx/sites-enabled/default"),
    ],
)
def test_what_a_neighbour_would_lose_is_named(
    write: Callable[[dict[str, str]], None], tmp_path: Path, path: str, named: str
) -> None:
    write({path: "a neighbour's"})
    assert lost(tmp_path) == ([named], [])
    assert lost(tmp_path, named) == ([], [])
    assert lost(tmp_path, "/etc/*") == ([], [])


def test_programs_of_a_neighbour_are_restarted_once(write: Callable[[dict[str, str]], None], tmp_path: Path) -> None:
    write({"/etc/supervisor/conf.d/shop.conf": "[program:shop]"})
    problems, (warning,) = lost(tmp_path)
    assert problems == []
    assert warning.startswith("/etc/supervisor/conf.d/shop.conf stays; its programs are restarted once")


@pytest.mark.parametrize("record", ["manifest", "journal"])
def test_what_we_have_written_is_ours(write: Callable[[dict[str, str]], None], tmp_path: Path, record: str) -> None:
    """Whatever became of it, or stands beside it, since: a run that follows goes on."""
    write({NGINX: "edited", "/etc/nginx/sites-enabled/shop": "a site", "/etc/supervisor/conf.d/a.conf": "a program"})
    manifest = {"tree": "1", "files": {NGINX: {}, SUPERVISOR: {}}}
    told = manifest if record == "manifest" else {"write": [], "remove": [], "manifest": manifest}
    trees = "/var/lib/flaskfleet/trees/nginx"
    write({f"{trees}/{record}.json": json.dumps(told), f"{trees}/applied.json": '"1"'})
    assert lost(tmp_path) == ([], [])


# the module


@pytest.mark.parametrize(("has_ipv6", "has_upstream_tls"), [(True, False), (False, True)])
def test_facts_are_gathered_with_the_checks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], has_ipv6: bool, has_upstream_tls: bool
) -> None:
    monkeypatch.setattr(preflight_host, "has_ipv6", lambda: has_ipv6)
    monkeypatch.setattr(preflight_host, "has_upstream_tls", lambda: has_upstream_tls)
    with patch_module_args({}), pytest.raises(SystemExit):
        preflight_host.main()
    result = json.loads(capsys.readouterr().out)
    assert (result["changed"], result["ansible_facts"]) == (
        False, {"has_ipv6": has_ipv6, "has_upstream_tls": has_upstream_tls},
    )  # fmt: skip


@pytest.mark.parametrize(("http3", "failed"), [(True, True), (False, False)])
def test_a_host_without_http3_is_asked_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], http3: bool, failed: bool
) -> None:
    monkeypatch.setattr(preflight_host, "get_distribution", lambda: "Debian")
    monkeypatch.setattr(preflight_host, "get_distribution_version", lambda: "12.11")
    with patch_module_args({"http3": http3}), pytest.raises(SystemExit):
        preflight_host.main()
    result = json.loads(capsys.readouterr().out)
    assert result.get("failed", False) == failed
    assert ("nginx_http3: True: nginx of Debian 12.11 has no HTTP/3" in result.get("msg", "")) == failed


@pytest.mark.parametrize("has_systemd", [True, False])
def test_certificates_are_renewed_by_systemd_alone(tmp_path: Path, has_systemd: bool) -> None:
    if has_systemd:
        (tmp_path / "run/systemd/system").mkdir(parents=True)
    told = preflight_host.lacks_systemd(tmp_path)
    assert [line.partition(": ")[0] for line in told] == ([] if has_systemd else ["nginx_acme_directory"])
