"""The entries of flask_apps: their defaults, and what nginx needs of them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.plugins.loader import filter_loader
from plugin_utils.entries import app_options, complete, role_options, sites, validate
from plugin_utils.rendering import PROJECT

BLOG = {"source": {"path": "/home/me/blog"}, "wsgi": "blog:app", "server_names": ["blog.example"], "urls": []}
REQUIRED = ["source", "wsgi"]


def blog(**changed: Any) -> dict[str, dict[str, Any]]:
    return {"blog": {**BLOG, **changed}}


def test_an_entry_has_its_name() -> None:
    assert complete(blog())["blog"]["name"] == "blog"


@pytest.mark.parametrize(
    ("option", "spec"), [(name, spec) for name, spec in app_options().items() if "default" in spec]
)
def test_an_entry_has_every_default(option: str, spec: dict[str, Any]) -> None:
    entry = complete({"blog": {name: BLOG[name] for name in REQUIRED}})["blog"]
    assert option in entry
    if "options" not in spec:
        assert entry[option] == spec["default"]


def test_defaults_within_an_option_are_filled_in() -> None:
    health = complete(blog(health={"path": "/up"}))["blog"]["health"]
    assert health == {"path": "/up", "timeout_seconds": 60, "method": "GET", "headers": {}, "status": 200}


def test_an_option_with_options_has_all_of_them_if_none_is_given() -> None:
    assert set(complete(blog())["blog"]["health"]) == set(app_options()["health"]["options"])


@pytest.mark.parametrize("option", app_options()["programs"]["values"])
def test_a_program_has_every_option(option: str) -> None:
    programs = complete(blog(programs={"mailer": {"command": "python -m blog.mailer"}}))["blog"]["programs"]
    assert option in programs["mailer"]


def test_a_program_has_its_defaults_and_what_was_given() -> None:
    given = {"mailer": {"command": "mail", "numprocs": "2"}, "clock": {"command": "tick", "stop_signal": "INT"}}
    assert complete(blog(programs=given))["blog"]["programs"] == {
        "mailer": {"command": "mail", "numprocs": 2, "run_on": "all", "stop_signal": "TERM", "stop_seconds": 30},
        "clock": {"command": "tick", "numprocs": 1, "run_on": "all", "stop_signal": "INT", "stop_seconds": 30},
    }


def test_hooks_that_are_not_given_are_none() -> None:
    assert complete(blog())["blog"]["hooks"] == {"before_switch": [], "after_switch": [], "timeout_seconds": 600}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "missing required arguments: command"),
        ({"command": "mail", "numprocs": "many"}, "numprocs.*many"),
        ({"command": "mail", "stop_signal": "KILL"}, "stop_signal.*KILL"),
        ({"command": "mail", "user": "root"}, "user"),
    ],
    ids=["nothing to run", "number", "choice", "unknown"],
)
def test_a_wrong_program_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"^flask_apps\.blog\.programs\.mailer: .*{words}"):
        complete(blog(programs={"clock": {"command": "tick"}, "mailer": options}))


def test_what_is_given_stays() -> None:
    assert complete(blog(processes=8))["blog"]["processes"] == 8


@pytest.mark.parametrize(("given", "value"), [("8", 8), (8, 8)])
def test_a_value_has_the_type_of_its_option(given: Any, value: int) -> None:
    assert complete(blog(processes=given))["blog"]["processes"] == value


def test_completing_changes_no_default_of_the_next_entry() -> None:
    complete(blog())["blog"]["env"]["LEAK"] = "x"
    assert complete(blog())["blog"]["env"] == {}


def test_completing_leaves_the_inventory_as_it_was() -> None:
    given = blog(health={})
    complete(given)
    assert given == blog(health={})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"processes": "many"}, "processes.*many"),
        ({"server_names": {"a": "b"}}, "server_names"),
        ({"preload": "perhaps"}, "preload.*perhaps"),
        ({"procs": 4}, "procs"),
        ({"health": {"pth": "/"}}, "pth"),
        ({"hooks": {"before": []}}, "before"),
    ],
    ids=["number", "list", "boolean", "unknown", "unknown within", "unknown hook"],
)
def test_a_wrong_entry_is_refused_by_name(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"^flask_apps\.blog: .*{words}"):
        complete(blog(**changed))


@pytest.mark.parametrize("missing", REQUIRED)
def test_an_entry_that_lacks_something_is_refused_by_name(missing: str) -> None:
    entry = {name: value for name, value in BLOG.items() if name != missing}
    with pytest.raises(ValueError, match=rf"^flask_apps\.shop: missing required arguments: {missing}$"):
        complete({**blog(), "shop": entry})


@pytest.mark.parametrize("apps", [None, {}])
def test_no_apps_are_no_entries(apps: dict[str, Any] | None) -> None:
    assert (complete(apps), sites(apps)) == ({}, [])


def test_a_site_has_what_nginx_needs() -> None:
    apps = blog(
        static={"/static": "static", "/favicon": "icons"},
        harakiri_seconds=10,
        nginx_directives=["add_header X-Frame-Options DENY"],
        shared_paths=["static/media", "instance"],
    )
    assert sites(apps) == [
        {
            "name": "blog",
            "server_names": ["blog.example"],
            "urls": [],
            "redirects": [],
            "https": True,
            "access": {},
            "root": "/srv/blog",
            "socket": "/srv/blog/current/run/uwsgi.sock",
            "static_prefixes": ["/favicon", "/static"],
            "shared_urls": ["/static/media"],
            "read_timeout_seconds": 15,
            "max_body_mb": None,
            "directives": ["add_header X-Frame-Options DENY"],
        }
    ]


def test_sites_tell_no_secret() -> None:
    assert "s3cret" not in repr(sites(blog(secret_env={"KEY": "s3cret"})))


def test_each_app_is_a_site() -> None:
    assert [site["name"] for site in sites({**blog(), "shop": BLOG})] == ["blog", "shop"]


def test_an_app_without_server_names_is_no_site() -> None:
    """It listens for http by itself, or behind another server."""
    assert [site["name"] for site in sites({**blog(server_names=[], http=":8080"), "shop": BLOG})] == ["shop"]


def test_validation_tells_all_that_is_wrong() -> None:
    _, errors = validate({"a": {"type": "int"}, "b": {"required": True}}, {"a": "x"})
    assert len(errors) == 2


def test_a_role_that_declares_nothing_has_no_options() -> None:
    assert role_options("no-such-role") == {}


@pytest.mark.parametrize(("name", "function"), [("nginx_sites", sites), ("complete_apps", complete)])
def test_playbooks_have_the_filters(name: str, function: Any) -> None:
    filter_loader.add_directory(str(PROJECT / "plugins" / "filter"))
    assert filter_loader.get(name).j2_function(blog()) == function(blog())
