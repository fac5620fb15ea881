"""What a host's state is in words for people."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.plugins.loader import filter_loader
from examples import A, B, C
from plugin_utils import status
from plugin_utils.rendering import PROJECT

NOW = 1_700_000_000
BLOG: dict[str, Any] = {
    "app": "blog",
    "live": B,
    "since": "2026-11-22T17:30:00Z",
    "by": "me@laptop",
    "what": "deploy",
    "source": {"git": "https://host/blog", "version": "main", "commit": "1a2b3c4d5e6f"},
    "programs": [
        {"name": f"blog-{B}", "program": f"blog-{B}", "state": "RUNNING", "pid": 4711, "since": NOW - 7322},
        {"name": "mailer-00", "program": f"blog-{B}-mailer", "state": "RUNNING", "pid": 4712, "since": NOW - 59},
        {"name": "blog-http", "program": "blog-http", "state": "FATAL", "pid": 0, "since": 0},
    ],
    "on_disk": [
        {"release": B, "is": "live", "since": "2026-11-22T17:30:00Z", "voided": None},
        {"release": A, "is": "previous", "since": "2026-11-21T17:30:00Z", "voided": None},
        {
            "release": C,
            "is": "kept",
            "since": "2026-11-20T17:30:00Z",
            "voided": {"since": "2026-11-20T18:00:00Z", "by": "you@desktop"},
        },
        {"release": f"{C}.1", "is": "kept", "since": None, "voided": None},
    ],
    "lock": {"what": "deploy", "by": "you@desktop", "since": "2026-11-22T18:00:00Z"},
    "edited": [f"/srv/blog/releases/{B}/uwsgi.ini was edited"],
    "stuck": [17],
}
SHOP: dict[str, Any] = {
    **BLOG,
    "app": "shop",
    "source": {"path": "/home/me/shop"},
    "programs": [],
    "on_disk": [],
    "lock": {},
    "edited": [],
    "stuck": [],
}
HOST: dict[str, Any] = {
    "apps": [], "drift": [], "now": NOW, "certificates": [], "drained": [], "maintenance": [], "has_address": False,
}  # fmt: skip


def test_all_of_a_host_is_told() -> None:
    drift = ["/etc/nginx/nginx.conf was removed", *BLOG["edited"]]
    state = {**HOST, "apps": [BLOG, SHOP], "drift": drift}
    asked = [{"__status_app": "blog", "undeployed": ["processes 4 → 8", "source changed"]}]
    assert (
        "\n".join(status.lines(state, asked))
        == f"""\
blog: {B} is live since 2026-11-22T17:30:00Z, deploy by me@laptop
  from        https://host/blog main (1a2b3c4)
  runs        blog-{B} RUNNING, pid 4711, up 2h 2m
              blog-{B}-mailer:mailer-00 RUNNING, pid 4712, up 59s
              blog-http FATAL
  stuck       a request has run for 17 s, over half of harakiri_seconds
  on disk     {A} previous, last live from 2026-11-21T17:30:00Z
              {C} kept, last live from 2026-11-20T17:30:00Z, voided 2026-11-20T18:00:00Z by you@desktop
              {C}.1 kept, never live
  undeployed  processes 4 → 8
              source changed
  locked      for a deploy by you@desktop since 2026-11-22T18:00:00Z
shop: {B} is live since 2026-11-22T17:30:00Z, deploy by me@laptop
  from        /home/me/shop
  undeployed  it is no longer in the inventory (remove_app.yml)
  drift       /etc/nginx/nginx.conf was removed
              /srv/blog/releases/{B}/uwsgi.ini was edited"""
    )


def test_what_is_as_it_should_be_is_a_line() -> None:
    state = {**HOST, "apps": [{**SHOP, "source": None}]}
    assert status.lines(state, [{"__status_app": "shop", "undeployed": []}]) == [
        f"shop: {B} is live since 2026-11-22T17:30:00Z, deploy by me@laptop"
    ]


def test_a_host_without_apps_has_nothing_to_tell() -> None:
    assert status.lines(HOST, [{"__status_app": "shop", "undeployed": []}]) == []


def test_an_app_that_could_not_be_compared_says_why() -> None:
    asked = [{"__status_app": "blog", "failed": True, "msg": "can't be fetched"}, {"skipped": True}]
    assert status.undeployed_by_app(asked) == {"blog": ["unknown: can't be fetched"]}


def test_a_host_has_certificates() -> None:
    one = {"name": "lan", "issuer": "CN=Our CA", "since": NOW - 86400, "until": NOW + 30 * 86400}
    assert status.lines({**HOST, "certificates": [one]}, []) == [
        "  https       certificate lan until 2023-12-14, 30 days left, issued by CN=Our CA"
    ]


def test_a_balancer_has_the_address_and_drained_hosts() -> None:
    state = {**HOST, "drained": ["app2: by me@laptop: a new disk"], "has_address": True}
    assert status.lines(state, []) == [
        "  address     the balancers' shared address is on this host",
        "  drained     app2: by me@laptop: a new disk",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0s"),
        (0, "0s"),
        (59, "59s"),
        (60, "1m 0s"),
        (3599, "59m 59s"),
        (7322, "2h 2m"),
        (86399, "23h 59m"),
        (90000, "1d 1h"),
        (8_640_000, "100d 0h"),
    ],
)
def test_a_time_is_in_two_units_at_most(seconds: int, words: str) -> None:
    """A clock that was set back makes no time negative."""
    state = {**HOST, "apps": [{**SHOP, "programs": [{**BLOG["programs"][0], "since": NOW - seconds}]}]}
    assert status.lines(state, [])[2].endswith(f", up {words}")


def test_playbooks_have_the_filter() -> None:
    filter_loader.add_directory(str(PROJECT / "plugins" / "filter"))
    assert filter_loader.get("status_lines").j2_function is not None
    assert filter_loader.get("status_lines").j2_function({**HOST, "drift": ["x"]}, []) == ["  drift       x"]
