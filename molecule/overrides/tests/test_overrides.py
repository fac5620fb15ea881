"""Every setting can be turned, and each turn is seen on the host."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra import get_host
from testinfra.host import Host

PROJECT = Path(__file__).resolve().parents[3]
INVENTORY = yaml.safe_load((PROJECT / "molecule/overrides/inventory/hosts.yml").read_text())
ALL = INVENTORY["app_servers"]["hosts"]["molecule-all"]


def connect(name: str) -> Host:
    """A host of the scenario."""
    return get_host(f"ansible://{name}?ansible_inventory={os.environ['MOLECULE_INVENTORY_FILE']}")


@pytest.fixture(scope="module")
def full() -> Host:
    """The host with every setting turned."""
    return connect("molecule-all")


@pytest.fixture(scope="module")
def balancer() -> Host:
    """The balancer of the first."""
    return connect("molecule-balancer")


@pytest.fixture(scope="module")
def small() -> Host:
    """The host without nginx."""
    return connect("molecule-small")


Get = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture(scope="module")
def get() -> Get:
    """``get(host, port, path, server_name)`` asks a host from the controller: status, headers, body."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(host: Host, port: int, path: str, server_name: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        url = f"http://{host.check_output('hostname -I').split()[0]}:{port}{path}"
        with opener.open(urllib.request.Request(url, headers={"Host": server_name, **headers}), timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()

    return ask


def play(playbook: str, *arguments: str, **variables: Any) -> str:
    """Run a playbook against the first host to its end; its output."""
    command = [
        "ansible-playbook",
        f"playbooks/{playbook}.yml",
        "-i",
        os.environ["MOLECULE_INVENTORY_FILE"].rpartition("/")[0],
    ]
    command += ["--limit", "molecule-all", "-e", json.dumps(variables), *arguments]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/etc/sysctl.d/60-flaskfleet.conf", "net.core.somaxconn = 2048"),
        ("/etc/supervisor/supervisord.conf", "logfile_maxbytes = 3MB"),
        ("/etc/supervisor/supervisord.conf", "logfile_backups = 2"),
        ("/etc/nginx/nginx.conf", "worker_connections 1024;"),
        ("/etc/nginx/nginx.conf", "client_max_body_size 1M;"),
        ("/etc/nginx/nginx.conf", "client_header_timeout 7;"),
        ("/etc/nginx/nginx.conf", "keepalive_timeout 71;"),
        ("/etc/nginx/nginx.conf", "set_real_ip_from 192.0.2.0/24;"),
        ("/etc/nginx/servers/notes.conf", "listen 8000;"),
        ("/etc/nginx/servers/notes.conf", "server_name notes.example.lan *.notes.example.lan;"),
        ("/etc/nginx/servers/notes.conf", "uwsgi_read_timeout 13s;"),
        ("/etc/nginx/servers/notes.conf", "client_max_body_size 2M;"),
        (
            "/etc/nginx/servers/notes.redirects.conf",
            "return 308 $client_scheme://notes.example.lan$client_port$request_uri;",
        ),
        ("/etc/nginx/servers/@intranet.example.lan.conf", "uwsgi_param SCRIPT_NAME /notes;"),
        ("/etc/flaskfleet/firewall.nft", "tcp dport { 22, 2222 } accept"),
        ("/etc/flaskfleet/firewall.nft", "tcp dport 8000 accept"),
        ("/etc/flaskfleet/firewall.nft", "tcp dport { 8000, 443 } ip saddr { 192.0.2.21 } accept"),
        ("/srv/notes/current/uwsgi.ini", "listen = 2000"),
        ("/srv/notes/current/uwsgi.ini", "buffer-size = 40000"),
        ("/srv/notes/current/uwsgi.ini", "processes = 2"),
        ("/srv/notes/current/uwsgi.ini", "threads = 3"),
        ("/srv/notes/current/uwsgi.ini", "lazy-apps = true"),
        ("/srv/notes/current/uwsgi.ini", "harakiri = 8"),
        ("/srv/notes/current/uwsgi.ini", "max-requests = 5000"),
        ("/srv/notes/current/uwsgi.ini", "cheaper = 1"),
        ("/srv/notes/current/supervisor.conf", "stopwaitsecs = 23"),
        ("/srv/notes/current/supervisor.conf", "stdout_logfile_maxbytes = 1MB"),
        ("/srv/notes/current/supervisor.conf", "stdout_logfile_backups = 1"),
        ("/srv/notes/current/programs.conf", "stopsignal = USR1"),
        ("/srv/notes/current/programs.conf", "stopwaitsecs = 5"),
    ],
)
def test_setting_is_rendered(full: Host, path: str, line: str) -> None:
    assert line in [text.strip() for text in full.file(path).content_string.splitlines()]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/etc/nginx/upstreams/notes.conf", "server 192.0.2.11:443 weight=3 max_fails=4 fail_timeout=6s;"),
        ("/etc/nginx/upstreams/notes.conf", "ip_hash;"),
        ("/etc/nginx/upstreams/notes.conf", "keepalive 32;"),
        ("/etc/nginx/upstreams/notes.conf", "keepalive_timeout 4s;"),
        ("/etc/nginx/tls/testapp.conf", "listen 8443 quic;"),
        ("/etc/keepalived/keepalived.conf", "virtual_router_id 77"),
        ("/etc/keepalived/keepalived.conf", "advert_int 2"),
        ("/etc/keepalived/keepalived.conf", "192.0.2.20 dev eth0"),
        ("/etc/keepalived/keepalived.conf", "2001:db8::20/64 dev eth0 preferred_lft 0"),
    ],
)
def test_setting_of_a_balancer_is_rendered(balancer: Host, path: str, line: str) -> None:
    assert line in [text.strip() for text in balancer.file(path).content_string.splitlines()]


@pytest.mark.parametrize("name", ["testapp.example.lan", "192.0.2.20"])
def test_clients_of_a_balancer_are_led_to_https(balancer: Host, name: str) -> None:
    """A client that asks for an address names no host in the handshake."""
    at = "-sS --noproxy '*' --connect-to ::192.0.2.20: --cacert /tmp/ca.pem"
    ca = (PROJECT / ".cache/overrides/ca.pem").read_text()
    balancer.check_output("echo %s >/tmp/ca.pem", ca)
    location = balancer.check_output(f"curl {at} -o /dev/null -w '%{{http_code}} %{{redirect_url}}' http://{name}/x?y")
    assert location == f"301 https://{name}:8443/x?y"
    page = balancer.check_output(f"curl {at} -w ' %{{http_version}}' https://{name}:8443/")
    assert "Werkzeug" in page and page.endswith(" 2")
    assert re.search(r"wsgi.url_scheme.*?https", page, re.DOTALL)
    notes = f"curl {at} -H 'Host: notes.example.lan' http://{name}/healthz"
    assert "401 Authorization Required" in balancer.check_output(notes)
    assert balancer.check_output(f"{notes} -u ann:secret") == "ok"


def test_an_app_server_speaks_tls_with_balancers_alone(full: Host, balancer: Host) -> None:
    ask = "curl -sSk -o /dev/null -w '%{http_code}' -H 'Host: testapp.example.lan' https://192.0.2.11/"
    assert balancer.check_output(ask) == "400"  # no certificate
    (own,) = full.check_output("ls /etc/flaskfleet/tls/*.pem").split()
    balancer.check_output("echo %s >/tmp/app.pem", full.file(own).content_string)
    assert balancer.check_output(f"{ask} --cert /tmp/app.pem") == "400"  # an app server's, not a balancer's
    (own,) = balancer.check_output("ls /etc/flaskfleet/tls/*.pem").split()
    assert balancer.check_output(f"{ask} --cert {own}") == "200"


def test_a_balancer_that_is_alone_has_the_address(balancer: Host) -> None:
    assert "192.0.2.20/32" in balancer.check_output("ip -4 -oneline address")


def test_a_balancer_that_comes_back_takes_the_address_back(balancer: Host) -> None:
    assert "nopreempt" not in balancer.file("/etc/keepalived/keepalived.conf").content_string


def test_a_packet_filter_that_is_switched_off_is_not_there(full: Host, small: Host) -> None:
    assert full.file("/etc/flaskfleet/firewall.nft").exists
    assert not small.file("/etc/flaskfleet/firewall.nft").exists


def test_units_and_packages(full: Host) -> None:
    assert full.check_output("systemctl show -P LimitNOFILE supervisor") == "32768"
    assert full.check_output("systemctl show -P LimitNPROC supervisor") == "2000"
    assert full.check_output("systemctl show -P TimeoutStopUSec supervisor") == "1min 30s"
    assert full.package("curl").is_installed
    assert full.package("apache2-utils").is_installed
    assert full.package("libpq5").is_installed  # of an app, to run
    assert full.package("libffi-dev").is_installed  # to build; the toolchain stays here


def test_uwsgi_is_the_version_that_was_asked_for(full: Host) -> None:
    assert full.check_output("/srv/notes/current/venv/bin/uwsgi --version") == "2.0.30"


def test_uwsgi_was_built_as_asked_and_its_compiler_has_stayed(full: Host) -> None:
    (record,) = [
        found
        for path in (PROJECT / ALL["python_wheelhouse"]).glob("*/*.json")
        if "uwsgi==2.0.30" in (found := json.loads(path.read_text()))["requirements"]
    ]
    assert record["host"] == "molecule-all"
    assert [attempt.startswith("uwsgi==2.0.30 by gcc-14") for attempt in record["tried"]] == [True]
    assert full.package("gcc-14").is_installed


def test_nginx_reports_its_tree_on_another_socket(full: Host) -> None:
    assert len(full.check_output("curl -s --unix-socket /var/lib/nginx/other.sock http://x/tree")) == 12


@pytest.mark.parametrize(("port", "server_name"), [(8000, "www.notes.example.lan"), (8080, "whatever.example.lan")])
def test_app_answers_through_nginx_and_without_it(full: Host, get: Get, port: int, server_name: str) -> None:
    status, headers, body = get(full, port, "/env/NOTES_AT", server_name)
    assert (status, json.loads(body)) == (200, {"value": "BLUE"})
    assert headers.get("X-Frame-Options") == ("DENY" if port == 8000 else None)
    assert json.loads(get(full, port, "/env/NOTES_SECRET", server_name)[2]) == {"value": "s3cret"}


@pytest.mark.parametrize("port", [8000, 8080])
def test_static_files_are_served_and_cached_as_asked(full: Host, get: Get, port: int) -> None:
    _, headers, body = get(full, port, "/assets/css/notes.css", "notes.example.lan")
    assert body == (PROJECT / "molecule/shared/apps/notes/notes/assets/notes.css").read_bytes()
    assert headers.get("Cache-Control") == ("public, max-age=60" if port == 8000 else None)


def test_the_module_of_a_package_is_served(full: Host, get: Get) -> None:
    status, _, body = get(full, 8000, "/", "testapp.example.lan")
    assert status == 200
    assert b"Werkzeug" in body
    record = json.loads(full.file("/srv/testapp/current/release.json").content_string)
    assert record["source"] == {"package": "werkzeug==3.1.3"}


def test_programs_run_as_often_as_asked(full: Host) -> None:
    rows = [line.split() for line in full.check_output("supervisorctl status").splitlines() if "mailer" in line]
    assert [(row[0].rpartition(":")[2], row[1]) for row in rows] == [("mailer-00", "RUNNING"), ("mailer-01", "RUNNING")]


def test_hooks_ran_once_as_the_app_in_its_environment(full: Host) -> None:
    assert full.check_output("cat /srv/notes/shared/before /srv/notes/shared/after") == "notes\nBLUE"


def test_small_host_has_no_nginx_and_serves(small: Host, get: Get) -> None:
    assert not small.package("nginx").is_installed
    live = small.check_output("readlink /srv/counter/current").rpartition("/")[2]
    status, headers, body = get(small, 80, "/work/1", "anything")
    assert (status, headers["X-Release"], json.loads(body)["release"]) == (200, live, live)
    assert get(small, 80, "/static/counter.css", "anything")[0] == 200


@pytest.fixture
def back(full: Host) -> Iterator[None]:
    """After the test the deployed changes are undone."""
    yield
    play("deploy", "-e", "force=true")


def variant(**options: Any) -> dict[str, Any]:
    """The apps of the host, notes with other options."""
    project = str(PROJECT)
    apps = json.loads(json.dumps(ALL["flask_apps"]).replace("{{ project }}", project))
    return {"flask_apps": {**apps, "notes": {**apps["notes"], **options}}}


def repository(folder: Path) -> str:
    """A git repository with the app; its commit."""

    def git(*words: str) -> str:
        words = ("git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@example.lan", *words)
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet", "--initial-branch", "main")
    git("add", ".")
    git("commit", "--quiet", "--message", "notes")
    return git("rev-parse", "HEAD")


@pytest.mark.usefixtures("back")
@pytest.mark.parametrize("kind", ["git", "archive"])
def test_source_comes_from_elsewhere(full: Host, get: Get, tmp_path: Path, kind: str) -> None:
    app = tmp_path / "notes"
    subprocess.run(["cp", "-r", PROJECT / "molecule/shared/apps/notes", app], check=True)
    (app / "notes/assets/notes.css").write_text(f"/* {kind} */\n" * 200)
    if kind == "git":
        commit = repository(app)
        source, origin = {"git": {"url": f"file://{app}", "version": "main"}}, f"file://{app} main ({commit[:7]})"
    else:
        with tarfile.open(tmp_path / "notes.tar.gz", "w:gz") as tar:
            tar.add(app, "notes-1.0")
        source, origin = {"archive": {"path": f"{tmp_path}/notes.tar.gz"}}, f"{tmp_path}/notes.tar.gz"
    play("deploy", "-e", "app=notes", **variant(source=source))
    _, headers, body = get(full, 8000, "/assets/css/notes.css", "notes.example.lan", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body).startswith(f"/* {kind} */".encode())
    assert origin in play("status", **variant(source=source))


@pytest.mark.parametrize(
    ("project", "version"),
    [("notes", "1.0.0"), ("six", "1."), ("iniconfig", "2."), ("idna", "3.")],
    ids=["install", "extras", "groups", "further_requirements"],
)
def test_environment_has_the_project_and_what_was_asked_for_beside_it(full: Host, project: str, version: str) -> None:
    code = f"from importlib.metadata import version; print(version('{project}'))"
    assert full.check_output("/srv/notes/current/venv/bin/python -c %s", code).startswith(version)


def test_release_has_what_its_build_has_made(full: Host, get: Get) -> None:
    assert full.check_output("cat /srv/notes/current/src/notes/built-by") == "_flaskfleet_build"
    assert "<em>anything</em>" in get(full, 8000, "/assets/css/help.html", "notes.example.lan")[2].decode()


def test_previous_release_stays_warm_for_a_rollback(full: Host) -> None:
    def pid() -> str:
        release = full.check_output("readlink /srv/notes/current").rpartition("/")[2]
        return full.check_output("supervisorctl pid %s", f"notes-{release}")

    before = pid()
    play("deploy", "-e", "app=notes", **variant(harakiri_seconds=9))
    assert pid() != before
    play("rollback", "-e", "app=notes")
    assert pid() == before


def test_only_so_many_releases_are_kept(full: Host) -> None:
    for number in range(4):
        play("deploy", "-e", "app=testapp", **{"flask_apps": {**variant()["flask_apps"], "testapp": {
            **ALL["flask_apps"]["testapp"], "env": {"NUMBER": str(number)}}}})  # fmt: skip
    assert len(full.check_output("ls /srv/testapp/releases").split()) == 3
    assert len(full.check_output("ls /srv/testapp/venvs").split()) == 1
    play("deploy", "-e", "app=testapp")


@pytest.mark.parametrize(
    ("path", "content", "secret"),
    [
        ("plain.txt", "1", False),
        ("instance/motd.txt", "%(here)s @(/etc/hostname)", False),
        ("instance/config.py", "KEY = 'canary-of-a-file'", True),
    ],
)
def test_a_file_of_the_inventory_is_where_the_app_looks(full: Host, path: str, content: str, secret: bool) -> None:
    path = f"/srv/notes/current/src/{path}"
    assert full.check_output("runuser -u notes -- cat %s", path) == content
    assert full.run("runuser -u www-data -- cat %s", path).rc == 1
    if secret:
        assert (
            full.file(full.check_output("readlink -f %s", path)).mode,
            full.run("grep -rIlF %s /etc", content).rc,
        ) == (
            0o640,
            1,
        )


def test_files_that_the_app_writes_below_static_are_served(full: Host, get: Get) -> None:
    media = "/srv/notes/current/src/notes/assets/media"
    full.check_output("runuser -u notes -- sh -c %s", f"echo written >{media}/new.txt")
    status, headers, body = get(full, 8000, "/assets/css/media/new.txt", "notes.example.lan")
    assert (status, body, headers["Cache-Control"]) == (200, b"written\n", "no-cache")


@pytest.mark.parametrize("target", ["/etc/passwd", "/srv/notes/current/uwsgi.ini", "/srv/testapp/current/uwsgi.ini"])
def test_a_link_that_the_app_plants_is_not_followed_by_nginx(full: Host, get: Get, target: str) -> None:
    media = "/srv/notes/current/src/notes/assets/media"
    full.check_output("runuser -u notes -- ln -sfn %s %s/link", target, media)
    with pytest.raises(urllib.error.HTTPError, match=r"40[34]"):
        get(full, 8000, "/assets/css/media/link", "notes.example.lan")
