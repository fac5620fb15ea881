"""Bad input is refused before the first change: the variable, its value, what to do."""

from __future__ import annotations

import copy
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugin_utils import preflight, sources
from plugin_utils.entries import role_options
from plugin_utils.rendering import PROJECT
from plugin_utils.sources import Fetched, SourceError
from plugin_utils.variable_checks import Validator, all_roles, constraints

IMPORTS = preflight.role_imports(PROJECT / "playbooks" / "app_servers.yml")
ROLES = [item.role for item in IMPORTS]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the project's own cache out of the tests."""
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")


@pytest.fixture
def inventory(tmp_path: Path) -> dict[str, Any]:
    """The variables of a host with which nothing is wrong."""
    source = tmp_path / "blog"
    (source / "static").mkdir(parents=True)
    (source / "blog.py").write_text("app = None\n")
    (source / "static" / "blog.css").write_text("")
    (source / "requirements.txt").write_text("flask\n")
    (tmp_path / "ca.pem").write_text("")
    return {
        "base_ca_certificates": [str(tmp_path / "ca.pem")],
        "flask_apps": {
            "blog": {
                "source": {"path": str(source)},
                "wsgi": "blog:app",
                "server_names": ["blog.example.lan"],
                "static": {"/static": "static"},
                "env": {"TITLE": "p%40ss\n50%@ ☃", "EMPTY": ""},
                "secret_env": {"KEY": "@(/etc/hostname)"},
            }
        },
    }


def problems(inventory: dict[str, Any]) -> list[str]:
    """What preflight says of a host's variables."""
    return [str(problem) for problem in preflight.check_host(IMPORTS, set(inventory), inventory.__getitem__)]


def changed(inventory: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """An inventory with one value changed; ``path`` has a word per level."""
    inventory = copy.deepcopy(inventory)
    *levels, last = path.split()
    target: Any = inventory
    for level in levels:
        target = target.setdefault(level, {})
    target[last] = value
    return inventory


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shared_paths": ["a"], "files": {"a": ""}}, "stands more than once in files"),
        ({"shared_paths": ["a", "a/b"]}, "lies below a, which is shared as a whole"),
        ({"files": {"a": "", "a/b": ""}}, "lies below a, which is a file"),
        (
            {"static": {"/s": "web", "/s/up/more": "other"}, "shared_paths": ["web/up", "other/x"]},
            "is served below web/up, which is shared as a whole",
        ),
        (
            {"static": {"/s": "web", "/s/up": "other"}, "shared_paths": ["web/up", "other"]},
            "is served below web/up",
        ),
    ],
)
def test_paths_lie_apart(inventory: dict[str, Any], options: dict[str, Any], words: str) -> None:
    inventory["flask_apps"]["blog"] |= {"static": {}, **options}
    assert any(words in problem for problem in problems(inventory))


PAIR = {"certificate": "/x.crt", "key": "/x.key"}


def test_a_sound_inventory_passes(inventory: dict[str, Any]) -> None:
    assert problems(inventory) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("base_address", "fd00::1"),
        ("base_address", "10.0.0.1"),
        ("nginx_trusted_proxies", ["fd00::1", "fd00:9::/64"]),
        ("flask_apps blog http", "[::]:8080"),
        ("flask_apps blog http", "[fd00::1]:8080"),
        ("flask_apps blog server_names", ["blog.lan", "fd00::1", "FD00::2"]),
    ],
)
def test_addresses_may_be_ipv6(inventory: dict[str, Any], path: str, value: Any) -> None:
    assert problems(changed(inventory, path, value)) == []


@pytest.mark.parametrize("name", ["keepalived_virtual_ip", "keepalived_second_virtual_ip"])
@pytest.mark.parametrize(
    ("value", "is_sound"),
    [("fd00::9", True), ("fd00::9/64", True), ("10.0.0.9/24", True), ("[fd00::9]", False), ("lb.lan", False)],
)
def test_shared_addresses_may_be_ipv6(name: str, value: str, is_sound: bool) -> None:
    imports = preflight.role_imports(PROJECT / "playbooks" / "load_balancers.yml")
    variables = {name: value}
    told = [str(one) for one in preflight.check_host(imports, set(variables), variables.__getitem__)]
    assert any(one.startswith(f"{name}: ") for one in told) != is_sound


def test_a_number_that_ansible_has_tagged_with_its_origin_passes(inventory: dict[str, Any]) -> None:
    tagged = type("Tagged", (int,), {})
    assert problems({**inventory, "nginx_http_port": tagged(8080)}) == []


def test_the_roles_are_those_of_the_playbook() -> None:
    assert (PROJECT / "playbooks/app_servers.yml").read_text().count("import_role:") == len(ROLES)
    assert {"base", "flask_app", "nginx"} <= {*ROLES}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        # a wrong type, in every role
        ("base_packages", {"a": 1}, "base_packages: {'a': 1} must be a list"),
        ("base_somaxconn", "many", "base_somaxconn: 'many' must be an integer"),
        ("python_packages", {"a": 1}, "python_packages: {'a': 1} must be a list"),
        ("uwsgi_listen", "1k", "uwsgi_listen: '1k' must be an integer"),
        ("supervisor_log_mb", [], "supervisor_log_mb: [] must be an integer"),
        ("nginx_http_port", "http", "nginx_http_port: 'http' must be an integer"),
        ("flask_apps", ["blog"], "flask_apps: must be a mapping"),
        ("flask_apps blog", "blog", "flask_apps.blog: must be a mapping of options"),
        ("flask_apps blog processes", "four", "flask_apps.blog.processes: 'four' must be an integer"),
        ("flask_apps blog processes", None, "flask_apps.blog.processes: None must be an integer"),
        ("flask_apps blog preload", "perhaps", "flask_apps.blog.preload: 'perhaps' must be true or false"),
        ("flask_apps blog health", {"timeout_seconds": "1 min"}, "timeout_seconds: '1 min' must be an integer"),
        ("nginx_http_port", "8080", "nginx_http_port: '8080' must be an integer"),
        ("nginx_http_port", True, "nginx_http_port: True must be an integer"),
        ("flask_apps blog processes", "4", "flask_apps.blog.processes: '4' must be an integer"),
        # a misspelt variable
        ("base_package", [], "base_package: no role has this variable; did you mean base_packages?"),
        ("nginx_htp_port", 80, "nginx_htp_port: no role has this variable; did you mean nginx_http_port?"),
        ("ngnix_http_port", 80, "did you mean nginx_http_port?"),
        ("python_zoo", 1, "python_zoo: no role has this variable; remove it"),
        ("flask_app", {}, "flask_app: no role has this variable; did you mean flask_apps?"),
        ("flask_apps blog procs", 4, "flask_apps.blog.procs: there is no such option; did you mean processes?"),
        (
            "flask_apps blog health",
            {"pth": "/"},
            "flask_apps.blog.health.pth: there is no such option; did you mean path?",
        ),
        ("nginx_sites", [], "nginx_sites: is set by the playbook"),
        ("flask_app_templates", [], "flask_app_templates: is set by the playbook"),
        # programs, hooks and ways to be reached
        ("flask_apps blog programs", {"mailer": {}}, "flask_apps.blog.programs.mailer.command: is missing"),
        (
            "flask_apps blog programs",
            {"mailer": {"command": "true", "procs": 2}},
            "programs.mailer.procs: there is no such option; did you mean numprocs?",
        ),
        ("flask_apps blog programs", {"mail-er": {"command": "true"}}, "mail-er' a program's name is"),
        ("flask_apps blog programs", {"mailer": {"command": "a ; b"}}, "mailer.command: 'a ; b' write a command"),
        ("flask_apps blog programs", {"mailer": {"command": "a", "numprocs": 0}}, "numprocs: 0 use 1 to 99"),
        ("flask_apps blog programs", {"mailer": {"command": "a", "stop_signal": "KILL"}}, "'KILL' must be one of TERM"),
        (
            "flask_apps blog programs",
            {"mailer": {"command": "a", "stop_seconds": 61}},
            "stop_seconds: 61 + 15 seconds is more than supervisor_stop_timeout_seconds (75)",
        ),
        (
            "flask_apps blog hooks",
            {"before_switch": ["a 'b"]},
            "hooks.before_switch: \"a 'b\" can't be read: No closing",
        ),
        ("flask_apps blog programs", {"mailer": {"command": "a 'b"}}, "mailer.command: \"a 'b\" can't be read"),
        ("flask_apps blog build", ["npm ci", "npm 'run"], "flask_apps.blog.build: \"npm 'run\" can't be read"),
        ("flask_apps blog hooks", {"before": []}, "flask_apps.blog.hooks.before: there is no such option"),
        ("flask_apps blog hooks", {"timeout_seconds": 0}, "hooks.timeout_seconds: 0 use 1 to 86400 seconds"),
        ("flask_apps blog http", "8080", "flask_apps.blog.http: '8080' use an address and a port"),
        ("flask_apps blog http", "::1:8080", "flask_apps.blog.http: '::1:8080' use an address and a port"),
        ("flask_apps blog http", "[::]:80", "nginx_http_port: 80 is also flask_apps.blog.http; choose another port"),
        ("base_address", "[fd00::1]", "base_address: '[fd00::1]' give an address"),
        ("base_address", "app1.lan", "base_address: 'app1.lan' give an address"),
        ("flask_apps blog http", ":80", "nginx_http_port: 80 is also flask_apps.blog.http; choose another port"),
        ("flask_apps blog server_names", [], "server_names: [] nobody could reach the app; name at least one"),
        ("nginx_enabled", False, "nobody could reach the app; nginx_enabled is false: give http"),
        ("flask_app_keep_releases", 1, "flask_app_keep_releases: 1 use 2"),
        # out of range, or of the wrong form
        ("base_somaxconn", 1, "base_somaxconn: 1 use 128 to 65535"),
        ("nginx_http_port", 0, "nginx_http_port: 0 use a port"),
        ("nginx_https_port", 65536, "nginx_https_port: 65536 use a port"),
        ("nginx_certificates", {"LAN": PAIR}, "nginx_certificates.LAN: use lowercase letters"),
        ("nginx_certificates", {"lan": {"certificate": "/x"}}, "nginx_certificates.lan: give certificate and key"),
        ("nginx_certificates", {"lan": {**PAIR, "chain": "/x"}}, "nginx_certificates.lan: give certificate and key"),
        ("nginx_certificates", {"lan": {**PAIR, "key": "x.key"}}, "nginx_certificates.lan.key: give an absolute path"),
        ("nginx_certificates", {"lan": {**PAIR, "key": 5}}, "nginx_certificates.lan.key: give an absolute path"),
        ("nginx_certificates", "lan.pem", "nginx_certificates: must be a mapping"),
        ("nginx_http_port", 65536, "nginx_http_port: 65536 use a port"),
        ("nginx_status_socket", "x.sock", "nginx_status_socket: 'x.sock' give an absolute path"),
        ("nginx_trusted_proxies", ["lb1"], "nginx_trusted_proxies.0: 'lb1' give an address"),
        ("uwsgi_sha256", "abc", "uwsgi_sha256: 'abc' give the 64 hex digits"),
        ("uwsgi_gcc_version", "gcc-12", "uwsgi_gcc_version: 'gcc-12' use auto or a major version, like 12"),
        ("python_builder_packages", ["gcc; id"], "'gcc; id' name a package of the distribution"),
        ("python_index_url", "pypi.example", "python_index_url: 'pypi.example' give an URL like https://"),
        ("supervisor_open_files", 1, "supervisor_open_files: 1 use 1024"),
        ("flask_apps Blog!", {}, "flask_apps.Blog!: 'Blog!' an app's name is"),
        ("flask_apps blog wsgi", "blog.app", "flask_apps.blog.wsgi: 'blog.app' name a module and a callable"),
        ("flask_apps blog wsgi", "blog:create_app(1)", "name a module and a callable"),
        ("flask_apps blog server_names", ["a b"], "flask_apps.blog.server_names.0: 'a b' use a host name"),
        ("flask_apps blog server_names", ["a;b"], "'a;b' use a host name"),
        ("flask_apps blog server_names", ["[fd00::1]"], "'[fd00::1]' use a host name, a name that starts with"),
        ("flask_apps blog server_names", ["fd00::1;b"], "'fd00::1;b' use a host name"),
        ("flask_apps blog server_names", ["fd00::1::"], "server_names: 'fd00::1::' is no IPv6 address (At most one"),
        (
            "flask_apps blog server_names",
            ["fd00:0::1"],
            "'fd00:0::1' is not how clients write that address; write fd00",
        ),
        ("flask_apps blog processes", -1, "flask_apps.blog.processes: -1 use 0"),
        ("flask_apps blog python", "python3", "flask_apps.blog.python: 'python3' give the interpreter's absolute path"),
        (
            "flask_apps blog static",
            {"static": "static"},
            "flask_apps.blog.static.static: 'static' a URL prefix starts with /",
        ),
        ("flask_apps blog health", {"path": "healthz"}, "flask_apps.blog.health.path: 'healthz' a path starts with /"),
        (
            "flask_apps blog uwsgi_options",
            {"socket": ":1"},
            "socket: 'socket' the release has one socket",
        ),
        ("flask_apps blog nginx_directives", ["return 200;"], "'return 200;' write one directive without ;"),
        ("flask_apps blog env", {"A-B": "x"}, "flask_apps.blog.env.A-B: 'A-B' a variable's name is"),
        ("flask_apps blog env", {"A": "x "}, "flask_apps.blog.env.A: leave white space at its end and NUL out"),
        (
            "flask_apps blog env",
            {"A": True},
            "flask_apps.blog.env.A: quote the value: without quotes, YAML makes 83 of 0123",
        ),
        ("flask_apps blog env", {"FLASKFLEET_APP": "x"}, "is set by the release; rename it"),
        # something missing
        ("flask_apps blog", {}, "flask_apps.blog.wsgi: is missing."),
        ("flask_apps blog source", {}, "flask_apps.blog.source: give exactly one of path, git, archive and package"),
        (
            "flask_apps blog source",
            {"path": "/", "package": "a==1"},
            "flask_apps.blog.source: give exactly one of path",
        ),
        ("flask_apps blog source", {"pth": "/"}, "flask_apps.blog.source.pth: there is no such option; did you mean"),
        ("flask_apps blog source", {"git": "https://h/x"}, "flask_apps.blog.source.git: must be a mapping"),
        ("flask_apps blog source", {"git": {"url": "/x"}}, "flask_apps.blog.source.git.version: is missing. A branch"),
        ("flask_apps blog source", {"git": {"version": "main"}}, "flask_apps.blog.source.git.url: is missing."),
        ("flask_apps blog source", {"git": {"url": "/x", "version": 1.1}}, "git.version: 1.1 quote it; as a number"),
        (
            "flask_apps blog source",
            {"git": {"url": "/x", "version": "-d"}},
            "source.git: '/x': '-d' can't be a version",
        ),
        ("flask_apps blog source", {"git": {"url": "-x", "version": "main"}}, "source.git: '-x' is no address of a"),
        ("flask_apps blog source", {"git": {"url": "/x\ny", "version": "main"}}, "source.git.url: has a line break"),
        (
            "flask_apps blog source",
            {"git": {"url": "/no-such-folder", "version": "main"}},
            "'/no-such-folder' can't be fetched",
        ),
        ("flask_apps blog source", {"archive": {}}, "source.archive: give either a path, or a url with its sha256"),
        (
            "flask_apps blog source",
            {"archive": {"url": "https://h/x"}},
            "source.archive: give either a path, or a url with its sha256",
        ),
        (
            "flask_apps blog source",
            {"archive": {"url": "https://h/x", "path": "/x", "sha256": "0" * 64}},
            "source.archive: give either a path, or a url with its sha256",
        ),
        (
            "flask_apps blog source",
            {"archive": {"url": "http://h/x", "sha256": "0" * 64}},
            "source.archive.url: 'http://h/x' use an address that begins with https://",
        ),
        ("flask_apps blog source", {"archive": {"path": "/x", "sha256": "0f"}}, "archive.sha256: '0f' give the 64 hex"),
        (
            "flask_apps blog source",
            {"archive": {"path": "/no-such-folder"}},
            "source.archive: '/no-such-folder' there is no",
        ),
        ("flask_apps blog source", {"archive": {"path": "a.tgz"}}, "'a.tgz' there is no such file on the controller"),
        ("flask_apps blog source", {"package": "blog"}, "flask_apps.blog.source.package: 'blog' pin one version"),
        *(
            ("flask_apps blog source", {"package": package}, "pin one version")
            for package in (
                "",
                "blog>=1",
                "blog==1.*",
                "blog===1",
                "blog==1,<2",
                "blog==1 --hash=md5:0",
                "blog==1 -r x",
                "-r x",
                "blog==1; x",
                "blog==1 flask==3",
                "blog @ https://h/x",
                "./blog",
                "blog==1 --index-url=https://h",
            )
        ),
        ("flask_apps blog source", {"package": "uwsgi==2"}, "'uwsgi==2' would replace the uWSGI"),
        ("flask_apps blog source", {"path": "/no-such-folder"}, "'/no-such-folder' there is no such folder"),
        ("flask_apps blog source", {"path": "files/app"}, "'files/app' must be absolute"),
        ("flask_apps blog requirements", "lock.txt", "requirements: there is no file"),
        ("flask_apps blog wheels", ["/no/such.whl"], "wheels: /no/such.whl is neither a wheel nor a folder of wheels"),
        (
            "flask_apps blog static",
            {"/static": "assets"},
            "flask_apps.blog.static./static: 'assets' has no file below",
        ),
        (
            "base_ca_certificates",
            ["/nonexistent.pem"],
            "base_ca_certificates: '/nonexistent.pem' there is no such file",
        ),
        # ..
        ("flask_apps blog requirements", "../requirements.txt", 'use a path below the source, without ".."'),
        ("flask_apps blog static", {"/static": "static/../.."}, 'use a path below the source, without ".."'),
        ("flask_apps blog static", {"/../etc": "static"}, "a URL prefix starts with /"),
        ("flask_apps blog python", "/opt/../bin/python3", 'without ".."'),
        # a line break, in every role
        ("base_packages", ["curl\nvim"], "curl\\nvim"),
        ("python_packages", ["python3\n"], "python_packages[0]: 'python3\\n' has a line break"),
        ("uwsgi_packages", ["gcc\nmake"], "uwsgi_packages[0]: 'gcc\\nmake' has a line break"),
        ("supervisor_packages", ["a\rb"], "supervisor_packages[0]: 'a\\rb' has a line break"),
        ("nginx_packages", ["nginx\n"], "nginx_packages[0]: 'nginx\\n' has a line break"),
        ("flask_apps blog health", {"path": "/a\nb"}, "'/a\\nb'"),
        ("flask_apps blog nginx_directives", ["add_header A b\nreturn"], "has a line break"),
        ("flask_apps blog uwsgi_options", {"max-requests": "1\nsocket = :1"}, "has a line break"),
        # what spans variables
        ("uwsgi_listen", 5000, "uwsgi_listen: 5000 is more than base_somaxconn (4096)"),
        ("flask_apps blog harakiri_seconds", 60, "flask_apps.blog.harakiri_seconds: 60 + 30 seconds is more than"),
        ("flask_apps blog server_names", ["A.lan", "a.lan"], "'A.lan' is claimed by blog more than once"),
        ("flask_apps blog secret_env", {"TITLE": "x"}, "flask_apps.blog.secret_env.TITLE: stands in env, too"),
    ],
)
def test_refused(inventory: dict[str, Any], path: str, value: Any, words: str) -> None:
    found = problems(changed(inventory, path, value))
    assert any(words in problem for problem in found), found


@pytest.mark.parametrize(
    "package",
    ["blog==1.2", "blog[mail,s3]==1.2.post1", f"blog==1!2.0+local --hash=sha256:{'0' * 64} --hash=sha256:{'1' * 64}"],
)
def test_a_package_is_no_folder_to_look_into(inventory: dict[str, Any], package: str) -> None:
    sound = changed(inventory, "flask_apps blog source", {"package": package})
    assert problems(sound) == []
    (found,) = problems(changed(sound, "flask_apps blog static", {"/static": "../static"}))
    assert 'use a path below the source, without ".."' in found


def test_what_is_fetched_is_looked_into(inventory: dict[str, Any], tmp_path: Path) -> None:
    found = Fetched(Path(inventory["flask_apps"]["blog"]["source"]["path"]), {"package": "the origin"})
    remote = changed(inventory, "flask_apps blog source", {"git": {"url": "git@h:x", "version": "main"}})
    check = partial(preflight.check_host, IMPORTS, set(remote), fetch=lambda _: found)
    assert check(remote.__getitem__) == []
    (found.folder / "requirements.txt").unlink()
    assert "flask_apps.blog.source.git: requirements: there is no file" in str(check(remote.__getitem__)[0])
    (found.folder / "requirements.txt").touch()
    (found.folder / "static" / "blog.css").unlink()
    assert "'static' has no file below the origin" in str(check(remote.__getitem__)[0])


def remarks(inventory: dict[str, Any]) -> list[str]:
    return preflight.remarks(IMPORTS, set(inventory), inventory.__getitem__)


def test_what_packing_leaves_out_is_told(inventory: dict[str, Any], tmp_path: Path) -> None:
    assert remarks(inventory) == []
    for name in (".git", "venv", "static/node_modules", "node_modules"):
        (tmp_path / "blog" / name).mkdir()
    assert remarks(inventory) == ["blog: not part of the release are node_modules/, venv/"]
    without = changed(inventory, "flask_apps blog source exclude", [f"/{number:02}" for number in range(12)])
    for number in range(12):
        (tmp_path / "blog" / f"{number:02}").touch()
    assert problems(without) == []
    (told,) = remarks(without)
    assert told == f"blog: not part of the release are {', '.join(f'{number:02}' for number in range(10))} and 4 more"


def test_hosts_without_apps_are_told_nothing() -> None:
    assert remarks({}) == []
    assert preflight.remarks(IMPORTS[:1], {"flask_apps"}, {}.__getitem__) == []


def test_a_name_that_is_not_text_is_refused_before_the_first_change(inventory: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "blog" / os.fsdecode(b"x\xe9")).touch()
    (found,) = problems(inventory)
    assert found.startswith("flask_apps.blog.source.path: ")
    assert "blog/x\\xe9: the name is not UTF-8; rename it" in found


def test_what_cannot_be_served_is_said_before_the_first_change(inventory: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "blog/node_modules").mkdir()
    (tmp_path / "blog/node_modules/x.js").touch()
    (tmp_path / "blog/static/x.js").symlink_to("../node_modules/x.js")
    (found,) = problems(inventory)
    assert "flask_apps.blog.source.path: " in found
    assert "the link leads to a file that is left out" in found


@pytest.mark.parametrize(
    "source",
    [
        {"git": {"url": "https://me:t0ken@127.0.0.1:1/x", "version": "main"}},
        {"git": {"url": "https://me:t0ken@127.0.0.1:1/x", "version": 1}},
        {"git": {"url": "https://me:t0ken@127.0.0.1:1/x\n", "version": "main"}},
        {"git": "https://me:t0ken@127.0.0.1:1/x"},
        {"git": {"url": "https://me:t0ken@127.0.0.1:1/x", "version": "main"}, "package": "a==1"},
        {"archive": {"url": "https://me:t0ken@127.0.0.1:1/x"}},
        {"archive": {"url": "http://me:t0ken@127.0.0.1:1/x", "sha256": "0" * 64}},
        {"archive": {"url": "https://127.0.0.1:1/x?sign=t0ken", "sha256": "0" * 64}},
    ],
)
def test_a_password_in_an_url_is_not_in_the_message(inventory: dict[str, Any], source: dict[str, Any]) -> None:
    found = problems(changed(inventory, "flask_apps blog source", source))
    assert found
    assert "t0ken" not in " ".join(found)


def test_a_source_of_many_hosts_is_fetched_once(inventory: dict[str, Any]) -> None:
    calls = []

    def fetch(source: dict[str, Any]) -> Fetched:
        calls.append(source)
        if source["package"] == "none==1":
            raise SourceError("there is none")
        return Fetched(None, {"package": source["package"]})

    fetch_once = preflight.once(fetch)
    for package, expected in (("blog==1", 0), ("none==1", 1), ("blog==2", 0)):
        bad = changed(inventory, "flask_apps blog source", {"package": package})
        for _ in range(3):
            assert len(preflight.check_host(IMPORTS, set(bad), bad.__getitem__, fetch_once)) == expected
    assert [call["package"] for call in calls] == ["blog==1", "none==1", "blog==2"]


def test_nothing_is_fetched_for_a_host_with_which_something_else_is_wrong(inventory: dict[str, Any]) -> None:
    bad = changed(inventory, "base_somaxconn", 1)
    assert len(preflight.check_host(IMPORTS, set(bad), bad.__getitem__, fetch=None)) == 1


def test_two_apps_that_claim_one_server_name(inventory: dict[str, Any]) -> None:
    inventory["flask_apps"]["shop"] = copy.deepcopy(inventory["flask_apps"]["blog"])
    assert "flask_apps.shop.server_names: 'blog.example.lan' is claimed by apps blog, shop; give it to one app" in (
        problems(inventory)
    )


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("urls", ["blog.example.lan/wiki"], []),
        ("urls", ["Blog.example.lan/Static"], []),
        (
            "urls", ["Blog.example.lan/static"],
            [
                "flask_apps.blog.static: '/static' is below blog.example.lan/static, a URL of wiki; give one of them "
                "another path",
            ],
        ),
        ("urls", ["a.lan/wiki", "A.lan/wiki"], [
            "flask_apps.wiki.urls: 'a.lan/wiki' is claimed by wiki more than once; give it to one app",
            "flask_apps.wiki.urls: 'A.lan/wiki' is claimed by wiki more than once; give it to one app",
        ]),
        ("urls", ["0::1/wiki"], ["flask_apps.wiki.urls: '0::1' is not how clients write that address; write ::1"]),
    ],
)  # fmt: skip
def test_apps_share_a_name(inventory: dict[str, Any], option: str, value: Any, told: list[str]) -> None:
    wiki = {**copy.deepcopy(inventory["flask_apps"]["blog"]), "server_names": [], "static": {}, option: value}
    inventory["flask_apps"]["wiki"] = wiki
    assert problems(inventory) == told


@pytest.mark.parametrize(
    ("server_names", "told"),
    [
        (["*.example.lan"], "lead to the first of server_names, and there is none that is a name; give one"),
        (["www.example.lan"], "is claimed by blog more than once; give it to one app"),
    ],
)
def test_redirects_lead_to_a_name(inventory: dict[str, Any], server_names: list[str], told: str) -> None:
    inventory["flask_apps"]["blog"] |= {"server_names": server_names, "redirects": ["www.example.lan"]}
    assert any(told in one for one in problems(inventory)), problems(inventory)


@pytest.mark.parametrize(
    ("blog", "wiki", "told"),
    [
        (
            {"static": {"/files": "static"}, "shared_paths": ["static/up"]},
            {"urls": ["blog.example.lan/files/up"]},
            "flask_apps.blog.static: '/files/up' is below blog.example.lan/files/up, a URL of wiki",
        ),
        (
            {"static": {"/wiki/files": "static"}},
            {"urls": ["blog.example.lan/wiki"]},
            "flask_apps.blog.static: '/wiki/files' is below blog.example.lan/wiki, a URL of wiki",
        ),
        (
            {"redirects": ["old.example.lan"]},
            {"urls": ["old.example.lan/wiki"]},
            "flask_apps.blog.redirects: 'old.example.lan' leads elsewhere, and old.example.lan/wiki is an app's URL",
        ),
        ({"redirects": ["*"]}, {"urls": ["b.lan/wiki"]}, "flask_apps.blog.https: True no certificate has every name"),
        (
            {"http": "0.0.0.0:8080", "allow": ["10.0.0.0/8"]},
            {"urls": ["b.lan/wiki"]},
            "flask_apps.blog.allow: is nothing that the port of http would ask for; leave http out, or this",
        ),
    ],
)  # fmt: skip
def test_what_nginx_would_not_take_or_would_serve_otherwise(
    inventory: dict[str, Any], blog: dict[str, Any], wiki: dict[str, Any], told: str
) -> None:
    inventory["flask_apps"]["wiki"] = {
        **copy.deepcopy(inventory["flask_apps"]["blog"]), "server_names": [], "static": {}, **wiki,
    }  # fmt: skip
    inventory["flask_apps"]["blog"] |= blog
    assert [one for one in problems(inventory) if one.startswith(told)], problems(inventory)


def test_an_app_for_every_name_has_no_https(inventory: dict[str, Any]) -> None:
    inventory["flask_apps"]["blog"] |= {"server_names": ["*"]}
    assert problems(inventory) == [
        "flask_apps.blog.https: True no certificate has every name; make it false, or name names"
    ]
    inventory["flask_apps"]["blog"] |= {"https": False}
    assert problems(inventory) == []


def test_apps_of_one_name_agree_about_https(inventory: dict[str, Any]) -> None:
    blog = inventory["flask_apps"]["blog"]
    wiki = {**copy.deepcopy(blog), "server_names": [], "urls": ["blog.example.lan/wiki"], "https": False}
    inventory["flask_apps"]["wiki"] = wiki
    assert problems(inventory) == [
        "flask_apps.wiki.https: False and other apps of blog.example.lan are served over https, to which all of a name "
        "leads; make it true, or theirs false"
    ]


@pytest.mark.parametrize(
    "url", ["a.lan", "a.lan/", "a.lan/wiki/", "https://a.lan/wiki", "a.lan/../wiki", "a.lan/w iki"]
)
def test_a_url_is_a_name_and_a_path(inventory: dict[str, Any], url: str) -> None:
    (found,) = problems(changed(inventory, "flask_apps blog urls", [url]))
    assert "use a name and a path that does not end with /, like intranet.lan/wiki" in found


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("allow", ["10.0.0.0/33"], "flask_apps.blog.allow: '10.0.0.0/33' is no network ("),
        ("allow", ["10.0.0.1/24"], "flask_apps.blog.allow: '10.0.0.1/24' is no network ("),
        ("basic_auth", {"ann": "secret"}, "give the hash that mkpasswd or openssl passwd -6 prints"),
        ("basic_auth", {"a:b": "$6$salt$hash"}, "a user's name has no colon and no space"),
        ("limit", {"requests_per_second": 0}, "use 1 to 100000"),
        ("limit", {"per_second": 5}, "per_second"),
    ],
)
def test_what_is_asked_of_clients_is_sound(inventory: dict[str, Any], option: str, value: Any, told: str) -> None:
    (found,) = problems(changed(inventory, f"flask_apps blog {option}", value))
    assert told in found and "secret" not in found


def test_a_secret_is_not_in_the_message(inventory: dict[str, Any]) -> None:
    (found,) = problems(changed(inventory, "flask_apps blog secret_env", {"KEY": "canary "}))
    assert "flask_apps.blog.secret_env.KEY" in found
    assert "canary" not in found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("flask_apps", [{"blog": {"secret_env": {"KEY": "canary"}}}]),
        ("flask_apps blog", [{"secret_env": {"KEY": "canary"}}]),
        ("flask_apps blog", "secret_env: canary"),
        ("flask_apps blog secret_evn", {"KEY": "canary\n"}),
        ("flask_apps blog secret_evn", ["canary\n"]),
        ("flask_apps blog env", "KEY=canary"),
        ("flask_apps blog env", {"KEY": "canary "}),
        ("flask_apps blog env", {"KEY": ["canary"]}),
        ("flask_apps blog hooks", {"before_switch": {"KEY": "canary"}}),
        ("flask_apps blog programs", [{"mailer": {"command": "mail --key canary"}}]),
        ("flask_apps blog programs", {"mailer": ["canary"]}),
        ("flask_apps blog health", ["canary"]),
        ("flask_apps blog source", {"path": {"key": "canary"}}),
    ],
)
def test_values_of_an_app_that_may_be_secrets_are_in_no_message(
    inventory: dict[str, Any], path: str, value: Any
) -> None:
    found = problems(changed(inventory, path, value))
    assert found
    assert "canary" not in " ".join(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("flask_apps", {"blog\n": {}}),
        ("flask_apps blog static", {"/static\n": "static"}),
        ("flask_apps blog env", {"A\n": "x"}),
        ("flask_apps blog secret_env", {"A\n": "x"}),
        ("flask_apps blog programs", {"mailer\n": {"command": "true"}}),
        ("flask_apps blog uwsgi_options", {"max-requests\n": 1}),
        ("flask_apps blog uwsgi_options", {"max-requests": {"a\nb": 1}}),
    ],
)
def test_a_line_break_in_a_key_is_refused(inventory: dict[str, Any], path: str, value: Any) -> None:
    assert problems(changed(inventory, path, value))


def strings(schema: Any) -> list[str]:
    """The patterns of a JSON Schema."""
    if isinstance(schema, dict):
        own = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
        return own + [one for inner in schema.values() for one in strings(inner)]
    return [one for inner in schema for one in strings(inner)] if isinstance(schema, list) else []


EXAMPLES = {  # of what a pattern that ends with $ takes
    "a", "1", "/a", "a:b", "a/b", "127.0.0.1", ":80", "a==1", "https://a.example/x", "2.0.31", "0" * 64, "auto", "A",
    "10.0.0.1/24", "max-requests", "host.example", "ops@host.example", "$6$salt$hash",
}  # fmt: skip


@pytest.mark.parametrize("role", all_roles())
def test_no_pattern_passes_a_line_break_at_the_end(role: str) -> None:
    """Python's $ does, that of JSON Schema does not."""
    for pattern in strings(constraints(role)):
        check = Validator({"pattern": pattern})
        taken = [example for example in EXAMPLES if check.is_valid(example)]
        assert taken, f"no example for {pattern}"
        if pattern.endswith("$") and not pattern.endswith("[^\\x00]*$"):
            assert not any(check.is_valid(f"{example}\n") for example in taken), pattern


@pytest.mark.parametrize(
    "option",
    [
        "http", "http-socket", "http11-socket", "https-socket", "socket", "uwsgi-socket", "suwsgi-socket", "raw-socket",
        "fastcgi-socket", "scgi-socket", "shared-socket", "undeferred-shared-socket", "chmod-socket", "map-socket",
        "https", "https2", "http-to", "http-stats-server", "httprouter", "fastrouter", "sslrouter2", "rawrouter-to",
        "emperor", "emperor-stats", "vassal-set", "zerg-server", "zergpool", "stats", "stats-server", "stats-http",
        "pidfile", "pidfile2", "safe-pidfile", "safe-pidfile2", "daemonize", "daemonize2", "static-map", "static-map2",
        "env", "envdir", "uid", "gid", "processes", "workers", "threads", "harakiri", "lazy", "lazy-apps", "wsgi",
        "module", "home", "venv", "virtualenv", "pyhome", "master", "die-on-term", "vacuum", "need-app", "strict",
        "chdir", "chdir2", "chroot", "ini", "ini-paste", "xml", "xmlconfig", "yaml", "yml", "json", "include",
        "inherit", "config", "set", "declare-option", "if-env", "if-not-file", "for", "for-glob", "end-if", "endif",
    ],
)  # fmt: skip
def test_what_a_release_owns_is_no_option_of_an_app(inventory: dict[str, Any], option: str) -> None:
    (found,) = problems(changed(inventory, "flask_apps blog uwsgi_options", {option: "1"}))
    assert found.startswith(f"flask_apps.blog.uwsgi_options.{option}: ")


@pytest.mark.parametrize(
    "option",
    [
        "max-requests", "socket-timeout", "buffer-size", "cheaper", "harakiri-verbose", "offload-threads", "mount",
        "thunder-lock", "reload-on-rss", "static-expires", "stats-push", "logger", "enable-threads", "attach-daemon",
        "wsgi-accept-buffer", "hook-post-fork", "set-placeholder", "websocket-ping-freq",
    ],
)  # fmt: skip
def test_other_options_of_uwsgi_are_an_apps(inventory: dict[str, Any], option: str) -> None:
    assert problems(changed(inventory, "flask_apps blog uwsgi_options", {option: "1"})) == []


@pytest.mark.parametrize("name", ["http", "current", "abcdefabcdef"])
def test_a_program_has_a_log_of_its_own(inventory: dict[str, Any], name: str) -> None:
    (found,) = problems(changed(inventory, "flask_apps blog programs", {name: {"command": "true"}}))
    assert "which have logs of that name" in found


@pytest.mark.parametrize("value", [83, 750, 1.1, True, None])
@pytest.mark.parametrize("option", ["env", "secret_env"])
def test_a_value_of_the_environment_is_text(inventory: dict[str, Any], option: str, value: Any) -> None:
    (found,) = problems(changed(inventory, f"flask_apps blog {option}", {"A": value}))
    assert found.startswith(f"flask_apps.blog.{option}.A: quote the value: without quotes, YAML makes 83 of 0123")
    assert problems(changed(inventory, f"flask_apps blog {option}", {"A": str(value)})) == []


def test_a_value_that_cannot_be_evaluated(inventory: dict[str, Any]) -> None:
    def get(name: str) -> Any:
        if name == "nginx_http_port":
            raise ValueError("'prot' is undefined")
        return inventory[name]

    (found,) = preflight.check_host(IMPORTS, {*inventory, "nginx_http_port"}, get)
    assert str(found) == "nginx_http_port: can't be evaluated: 'prot' is undefined"


def test_the_port_of_https_is_used_where_there_are_certificates(inventory: dict[str, Any]) -> None:
    same = changed(inventory, "flask_apps blog http", ":443")
    assert problems(same) == []
    assert "nginx_https_port" not in [claim["variable"] for claim in claimed_ports(same)]
    served = {**same, "nginx_certificates": {"lan": PAIR}}
    assert problems(served) == [
        "nginx_https_port: 443 is also flask_apps.blog.http; choose another port for one of them"
    ]
    assert "nginx_https_port" in [claim["variable"] for claim in claimed_ports(served)]


BALANCER = preflight.role_imports(PROJECT / "playbooks" / "load_balancers.yml")


@pytest.mark.parametrize(
    ("given", "imports", "is_balanced", "is_used"),
    [
        ({}, IMPORTS, False, False),
        ({"nginx_certificates": {"lan": PAIR}}, IMPORTS, False, True),
        ({"nginx_certificates": {"lan": PAIR}}, IMPORTS, True, False),
        ({"nginx_certificates": {"lan": PAIR}}, BALANCER, False, True),
        ({"tls_ca_permitted": ["lan"]}, IMPORTS, False, True),
        ({"tls_ca_permitted": ["lan"]}, IMPORTS, True, True),
        ({"tls_ca_permitted": ["lan"]}, BALANCER, False, True),
    ],
    ids=[
        "no certificate", "for clients", "behind balancers", "on a balancer",
        "a CA, for clients", "a CA, behind balancers", "a CA, on a balancer",
    ],
)  # fmt: skip
def test_the_port_of_https_is_used_where_nginx_listens_there(
    inventory: dict[str, Any], given: dict[str, Any], imports: list[preflight.Import], is_balanced: bool, is_used: bool
) -> None:
    same = {"nginx_http_port": 8080, "nginx_https_port": 8080, **given}
    if imports == IMPORTS:
        same |= inventory
    arguments = imports, set(same), same.__getitem__
    found = [str(one) for one in preflight.check_host(*arguments, is_balanced=is_balanced)]
    clash = "nginx_https_port: 8080 is also nginx_http_port; choose another port for one of them"
    assert found == ([clash] if is_used else [])
    ports = preflight.claims(*arguments, is_balanced=is_balanced)["ports"]
    assert [claim["variable"] for claim in ports if claim["program"] == "nginx"] == (
        ["nginx_http_port", *(["nginx_https_port"] if is_used else [])]
    )


def claimed_ports(inventory: dict[str, Any]) -> list[dict[str, Any]]:
    ports: list[dict[str, Any]] = preflight.claims(IMPORTS, set(inventory), inventory.__getitem__)["ports"]
    return ports


def test_no_certificate_is_shown(inventory: dict[str, Any]) -> None:
    key = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"  # pragma: allowlist secret
    given = {"certificate": "/x.crt", "key": key}
    assert problems({**inventory, "nginx_certificates": {"lan": given}}) == []
    for wrong in ({"lan": {**given, "more": key}}, {"LAN": given}, {"lan": {"key": key}}, [given], key):
        found = problems({**inventory, "nginx_certificates": wrong})
        assert found and "canary" not in "".join(found)


def test_all_problems_are_said_at_once(inventory: dict[str, Any]) -> None:
    bad = changed(changed(inventory, "base_somaxconn", "x"), "nginx_http_port", 0)
    assert len(problems(bad)) == 2


def test_claims_are_ports_of_daemons_users_of_apps_and_files_of_roles(inventory: dict[str, Any]) -> None:
    inventory |= {"nginx_http_port": 8080, "base_take_over": ["/etc/nginx/conf.d/*"]}
    claims = preflight.claims(IMPORTS, set(inventory), inventory.__getitem__)
    files = claims.pop("files")
    assert {"/etc/nginx/nginx.conf", "/etc/supervisor/supervisord.conf", "/usr/local/bin/uwsgi"} <= {*files}
    assert not [path for path in files if "{" in path or path.endswith(".j2")]
    assert claims == {
        "ports": [{"variable": "nginx_http_port", "port": 8080, "program": "nginx"}],
        "users": [{"variable": "flask_apps.blog", "name": "blog", "home": "/srv/blog"}],
        "take_over": ["/etc/nginx/conf.d/*"],
        "http3": False,
        "timers": False,
    }


@pytest.mark.parametrize(
    ("given", "is_balanced", "wanted"),
    [({}, False, True), ({"nginx_enabled": False}, False, False), ({}, True, False)],
    ids=["nginx", "no nginx", "behind a balancer"],
)
def test_http3_and_timers_are_for_an_nginx_that_clients_ask(
    given: dict[str, Any], is_balanced: bool, wanted: bool
) -> None:
    values = {"nginx_http3": True, "nginx_acme_directory": "https://ca.example/dir", **given}
    imports = [preflight.Import("all", "nginx", frozenset())]
    claims = preflight.claims(imports, set(values), values.__getitem__, is_balanced)
    assert (claims["http3"], claims["timers"]) == (wanted, wanted)


@pytest.mark.parametrize("account", [{"kid": "a", "key": "c4n4ry"}, {"key": "c4n4ry"}, {"id": "a", "key": "c4n4ry\n"}])
def test_an_external_account_is_shown_to_nobody(inventory: dict[str, Any], account: dict[str, str]) -> None:
    told = problems({**inventory, "nginx_acme_external_account": account})
    assert told and not [one for one in told if "nginx_acme_external_account" not in one or "c4n4ry" in one]


@pytest.mark.parametrize(
    ("role", "variable", "off"), [("nginx", "nginx_enabled", False), ("keepalived", "keepalived_virtual_ip", "")]
)
def test_a_role_that_a_host_does_not_get_claims_no_file(role: str, variable: str, off: object) -> None:
    imports = [preflight.Import("all", role, frozenset())]
    values = {variable: off}
    assert preflight.claims(imports, set(values), values.__getitem__)["files"] == []
    assert preflight.claims(imports, set(), values.__getitem__)["files"] == (
        [] if off == "" else preflight.written_files(role)
    )


def test_an_app_of_its_own_address_claims_that_port_and_needs_no_nginx(inventory: dict[str, Any]) -> None:
    inventory["flask_apps"]["blog"] |= {"http": "0.0.0.0:80", "server_names": []}
    inventory["nginx_enabled"] = False
    assert problems(inventory) == []
    assert preflight.claims(IMPORTS, set(inventory), inventory.__getitem__)["ports"] == [
        {
            "variable": "flask_apps.blog.http",
            "port": 80,
            "program": "uwsgi",
            "ours": ["/etc/supervisor/conf.d/blog-http.conf", "--http 0.0.0.0:80\n"],
        }
    ]


@pytest.mark.parametrize("role", ROLES)
def test_constraints_name_only_variables_that_there_are(role: str) -> None:
    assert constraints(role)["properties"].keys() <= role_options(role).keys()


@pytest.mark.parametrize("value", [True, "often", None])
def test_a_number_is_no_text_and_no_truth_value(value: Any) -> None:
    imports = preflight.role_imports(PROJECT / "playbooks" / "load_balancers.yml")
    variables = {"keepalived_advert_seconds": value, "keepalived_virtual_ip": "10.0.0.9"}
    told = [str(one) for one in preflight.check_host(imports, set(variables), variables.__getitem__)]
    assert [one for one in told if one.startswith("keepalived_advert_seconds: ") and "must be a number" in one]


def test_the_least_that_an_app_needs_is_enough(tmp_path: Path) -> None:
    """As README.md has it: a source with a requirements.txt, and nothing else."""
    text = (PROJECT / "README.md").read_text()
    (given,) = [
        yaml.safe_load(block)
        for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        if "flask_apps" in block
    ]
    (tmp_path / "requirements.txt").write_text("flask\n")
    (app,) = given["flask_apps"].values()
    assert len(app) == 3
    app["source"] = {"path": str(tmp_path)}
    assert problems(given) == []
    for name in app:
        assert problems({"flask_apps": {"blog": {**app, name: None}}}) != []
