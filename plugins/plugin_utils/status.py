"""What fleet_state found on a host, in words for people."""

from __future__ import annotations

import time
from typing import Any

from module_utils.flaskfleet.certificates import describe as describe_left

from .sources import describe

INDENT = 12


def lines(state: dict[str, Any], asked: list[dict[str, Any]]) -> list[str]:
    """A host's apps, a block each, then its certificates, what is drained or under maintenance, and the drift.

    :param state: the result of ``fleet_state``. ``asked``: those of ``flask_app`` for the apps of the inventory.
    """
    undeployed = undeployed_by_app(asked)
    text = [line for app in state["apps"] for line in _app(app, undeployed.get(app["app"]), state["now"])]
    address = ["the balancers' shared address is on this host"] if state["has_address"] else []
    blocks = {
        "address": address,
        "https": [_certificate(one, state["now"]) for one in state["certificates"]],
        "drained": state["drained"],
        "maintenance": state["maintenance"],
        "drift": state["drift"],
    }
    return [*text, *(line for title, items in blocks.items() for line in _block(title, items))]


def undeployed_by_app(asked: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What the inventory asks for that is not live, by app; if an app could not be compared, why.

    :param asked: the results of ``flask_app`` in playbooks/status.yml, which loops with ``__status_app``.
    """
    return {
        one["__status_app"]: [f"unknown: {one['msg']}"] if one.get("failed") else one["undeployed"]
        for one in asked
        if "__status_app" in one and not one.get("skipped")
    }


def _app(app: dict[str, Any], undeployed: list[str] | None, now: int) -> list[str]:
    asked = ["it is no longer in the inventory (remove_app.yml)"] if undeployed is None else undeployed
    lock = app["lock"]
    return [
        f"{app['app']}: {app['live']} is live since {app['since']}, {app['what']} by {app['by']}",
        *_block("from", [describe(app["source"])] if app["source"] else []),
        *_block("runs", [_program(program, now) for program in app["programs"]]),
        *_block(
            "stuck", [f"a request has run for {seconds} s, over half of harakiri_seconds" for seconds in app["stuck"]]
        ),
        *_block("on disk", [_release(release) for release in app["on_disk"] if release["is"] != "live"]),
        *_block("undeployed", asked),
        *_block("locked", [f"for a {lock['what']} by {lock['by']} since {lock['since']}"] if lock else []),
    ]


def _block(title: str, items: list[str]) -> list[str]:
    return [f"  {title if not number else '':{INDENT}}{item}" for number, item in enumerate(items)]


def _program(program: dict[str, Any], now: int) -> str:
    up = f", pid {program['pid']}, up {_duration(now - program['since'])}" if program["pid"] else ""
    alone = program["program"].endswith(program["name"])
    name = program["program"] if alone else f"{program['program']}:{program['name']}"
    return f"{name} {program['state']}{up}"


def _release(release: dict[str, Any]) -> str:
    voided = release["voided"]
    was = f"last live from {release['since']}" if release["since"] else "never live"
    words = f"{release['release']} {release['is']}, {was}"
    return words + (f", voided {voided['since']} by {voided['by']}" if voided else "")


def _certificate(one: dict[str, Any], now: int) -> str:
    until = time.strftime("%Y-%m-%d", time.gmtime(one["until"]))
    left = f"{describe_left(one['until'] - now)} left" if one["until"] > now else "expired"
    return f"certificate {one['name']} until {until}, {left}, issued by {one['issuer']}"


def _duration(seconds: int) -> str:
    """In two units at most.

    >>> _duration(7322)
    '2h 2m'
    """
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // smaller}{name}"
    return f"{max(seconds, 0)}s"
