"""Bad input is refused before the first change: the variable, its value, what to do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugin_utils import preflight
from plugin_utils.rendering import PROJECT

IMPORTS = preflight.role_imports(PROJECT / "playbooks" / "app_servers.yml")
ROLES = [item.role for item in IMPORTS]


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


def test_a_sound_inventory_passes(inventory: dict[str, Any]) -> None:
    assert problems(inventory) == []


def test_a_number_that_ansible_has_tagged_with_its_origin_passes(inventory: dict[str, Any]) -> None:
    tagged = type("Tagged", (int,), {})
    assert problems({**inventory, "nginx_http_port": tagged(8080)}) == []


def test_the_roles_are_those_of_the_playbook() -> None:
    assert ROLES == ["base", "python", "uwsgi", "supervisor", "flask_app", "nginx"]


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
        ("flask_apps", ["blog"], "flask_apps: ['blog'] must be a mapping"),
        ("flask_apps blog", "blog", "flask_apps.blog: 'blog' must be a mapping"),
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
        # out of range, or of the wrong form
        ("base_somaxconn", 1, "base_somaxconn: 1 use 128 to 65535"),
        ("nginx_http_port", 0, "nginx_http_port: 0 use a port"),
        ("nginx_status_port", 65536, "nginx_status_port: 65536 use a port"),
        ("nginx_trusted_proxies", ["lb1"], "nginx_trusted_proxies.0: 'lb1' give an address"),
        ("uwsgi_sha256", "abc", "uwsgi_sha256: 'abc' give the 64 hex digits"),
        ("supervisor_open_files", 1, "supervisor_open_files: 1 use 1024"),
        ("flask_apps Blog!", {}, "flask_apps.Blog!: 'Blog!' an app's name is"),
        ("flask_apps blog wsgi", "blog.app", "flask_apps.blog.wsgi: 'blog.app' name a module and a callable"),
        ("flask_apps blog wsgi", "blog:create_app(1)", "name a module and a callable"),
        ("flask_apps blog server_names", [], "flask_apps.blog.server_names: [] name at least one"),
        ("flask_apps blog server_names", ["a b"], "flask_apps.blog.server_names.0: 'a b' use a host name"),
        ("flask_apps blog server_names", ["a;b"], "'a;b' use a host name"),
        ("flask_apps blog processes", -1, "flask_apps.blog.processes: -1 use 0"),
        ("flask_apps blog python", "python3", "flask_apps.blog.python: 'python3' give the interpreter's absolute path"),
        (
            "flask_apps blog static",
            {"static": "static"},
            "flask_apps.blog.static.static: 'static' a URL prefix starts with /",
        ),
        ("flask_apps blog health", {"path": "healthz"}, "flask_apps.blog.health.path: 'healthz' a path starts with /"),
        ("flask_apps blog uwsgi_options", {"socket": ":1"}, "are set by the release and the app's own"),
        ("flask_apps blog nginx_directives", ["return 200;"], "'return 200;' write one directive without ;"),
        ("flask_apps blog env", {"A-B": "x"}, "flask_apps.blog.env.A-B: 'A-B' a variable's name is"),
        ("flask_apps blog env", {"A": "x "}, "flask_apps.blog.env.A: 'x ' quote the value"),
        ("flask_apps blog env", {"A": True}, "flask_apps.blog.env.A: True quote the value"),
        ("flask_apps blog env", {"FLASKFLEET_APP": "x"}, "is set by the release; rename it"),
        # something missing
        ("flask_apps blog", {}, "flask_apps.blog.wsgi: is missing."),
        ("flask_apps blog source", {}, "flask_apps.blog.source.path: is missing."),
        ("flask_apps blog source", {"path": "/nonexistent"}, "'/nonexistent' there is no such folder"),
        ("flask_apps blog source", {"path": "files/app"}, "'files/app' must be absolute"),
        ("flask_apps blog requirements", "lock.txt", "requirements: there is no file"),
        (
            "flask_apps blog static",
            {"/static": "assets"},
            "flask_apps.blog.static./static: 'assets' there is no file in such a folder",
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
        ("nginx_status_port", 80, "nginx_status_port: 80 is also nginx_http_port"),
        ("uwsgi_listen", 5000, "uwsgi_listen: 5000 is more than base_somaxconn (4096)"),
        ("flask_apps blog harakiri_seconds", 60, "flask_apps.blog.harakiri_seconds: 60 + 30 seconds is more than"),
        ("flask_apps blog server_names", ["A.lan", "a.lan"], "'A.lan' is claimed by blog more than once"),
        ("flask_apps blog secret_env", {"TITLE": "x"}, "flask_apps.blog.secret_env.TITLE: stands in env, too"),
    ],
)
def test_refused(inventory: dict[str, Any], path: str, value: Any, words: str) -> None:
    found = problems(changed(inventory, path, value))
    assert any(words in problem for problem in found), found


def test_two_apps_that_claim_one_server_name(inventory: dict[str, Any]) -> None:
    inventory["flask_apps"]["shop"] = copy.deepcopy(inventory["flask_apps"]["blog"])
    assert (
        "flask_apps.shop.server_names: 'blog.example.lan' is claimed by apps blog, shop; give each name to one app"
        in (problems(inventory))
    )


def test_a_secret_is_not_in_the_message(inventory: dict[str, Any]) -> None:
    (found,) = problems(changed(inventory, "flask_apps blog secret_env", {"KEY": "canary "}))
    assert "flask_apps.blog.secret_env.KEY" in found
    assert "canary" not in found


def test_a_value_that_cannot_be_evaluated(inventory: dict[str, Any]) -> None:
    def get(name: str) -> Any:
        if name == "nginx_http_port":
            raise ValueError("'prot' is undefined")
        return inventory[name]

    (found,) = preflight.check_host(IMPORTS, {*inventory, "nginx_http_port"}, get)
    assert str(found) == "nginx_http_port: can't be evaluated: 'prot' is undefined"


def test_all_problems_are_said_at_once(inventory: dict[str, Any]) -> None:
    bad = changed(changed(inventory, "base_somaxconn", "x"), "nginx_http_port", 0)
    assert len(problems(bad)) == 2


def test_claims_are_the_ports_of_daemons_and_the_users_of_apps(inventory: dict[str, Any]) -> None:
    inventory["nginx_http_port"] = 8080
    assert preflight.claims(IMPORTS, set(inventory), inventory.__getitem__) == {
        "ports": [
            {"variable": "nginx_http_port", "port": 8080, "program": "nginx"},
            {"variable": "nginx_status_port", "port": 8181, "program": "nginx"},
        ],
        "users": [{"variable": "flask_apps.blog", "name": "blog", "home": "/srv/blog"}],
    }


@pytest.mark.parametrize("role", ROLES)
def test_constraints_name_only_variables_that_there_are(role: str) -> None:
    declared = yaml.safe_load((PROJECT / "roles" / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    schema = preflight.constraints(role)
    assert set(schema.get("properties", {})) <= set(declared["main"]["options"])
    if role == "flask_app":
        entry = schema["properties"]["flask_apps"]["additionalProperties"]["properties"]
        assert set(entry) <= set(declared["app"]["options"])
