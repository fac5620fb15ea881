"""nginx's server blocks: which apps answer under which names, and below which paths."""

from __future__ import annotations

from typing import Any

App = dict[str, Any]


def split_url(url: str) -> tuple[str, str]:
    """A server name or a URL as the name and the path below it.

    >>> split_url("wiki.lan"), split_url("intranet.lan/wiki"), split_url("fd00::20/wiki")
    (('wiki.lan', ''), ('intranet.lan', '/wiki'), ('fd00::20', '/wiki'))
    """
    name, slash, path = url.partition("/")
    return name, slash + path


def normalized(url: str) -> str:
    """A URL for comparison: names are equal whatever their case, paths are not."""
    name, path = split_url(url)
    return name.lower() + path


def urls_of(app: App) -> list[str]:
    """All URLs of an app: its server names, at whose root it is, then those with a path."""
    return [*app["server_names"], *app["urls"]]


def server_blocks(apps: list[App]) -> list[dict[str, Any]]:
    """The server blocks for apps. Names under which the same apps are at the same paths share one.

    :param apps: ``nginx_sites`` or ``nginx_balanced`` of the role nginx.
    :returns: each with its ``name`` (the app's, or where a name has paths, ``@`` and that), ``server_names``, ``https``
        and ``places``: the apps, each with the ``path`` at which it is, empty at the root. The block of an app's
        ``redirects`` has no places, and the name ``to`` which it leads. Its ``owner`` is the app at its root, or
        where none is, its name.
    """
    spelling: dict[str, str] = {}
    places: dict[str, list[App]] = {}
    for app in apps:
        for server_name, path in map(split_url, urls_of(app)):
            spelling.setdefault(server_name.lower(), server_name)
            places.setdefault(server_name.lower(), []).append({**app, "path": path})
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for server_name, those in places.items():
        groups.setdefault(tuple((place["name"], place["path"]) for place in those), []).append(server_name)
    blocks = [_block([spelling[name] for name in names], places[names[0]]) for names in groups.values()]
    return [*map(_redirects, (app for app in apps if app["redirects"] and app["server_names"])), *blocks]


def _block(server_names: list[str], places: list[App]) -> dict[str, Any]:
    name = _name(places, server_names[0].lower())
    return {
        "name": name,
        "server_names": server_names,
        "https": all(place["https"] for place in places),
        "places": places,
        "owner": next((place["name"] for place in places if not place["path"]), name),
    }


def _redirects(app: App) -> dict[str, Any]:
    return {
        "name": f"{app['name']}.redirects",
        "server_names": app["redirects"],
        "https": app["https"],
        "places": [],
        "owner": app["name"],
        "to": app["server_names"][0],
    }


def _name(places: list[App], server_name: str) -> str:
    """No app is named with an ``@``. A wildcard is none in a file's name."""
    return f"@{server_name.replace('*', '_')}" if any(place["path"] for place in places) else str(places[0]["name"])
