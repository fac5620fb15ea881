"""Where an app's files lie that outlive its releases, or belong to no release: pure functions of its entry.

A path of ``shared_paths`` is a link below the source that leads to::

    /srv/<app>/shared/<path>     the app's own
    /srv/<app>/media/<url>       where it lies below a folder of ``static``: nginx serves it. All folders above it are
                                 root's, so that the app can turn no link on the way
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

Entry = dict[str, Any]


def served_at(path: str, static: dict[str, str]) -> str | None:
    """The URL under which nginx serves a path below the source; None where it does not.

    >>> served_at("blog/static/media", {"/static": "blog/static"})
    '/static/media'
    """
    found = [
        (len(folder), f"{prefix}/{PurePosixPath(path).relative_to(folder)}".removesuffix("/."))
        for prefix, folder in static.items()
        if PurePosixPath(path).is_relative_to(folder)
    ]
    return max(found)[1] if found else None


def place(path: str, static: dict[str, str]) -> str:
    """Where a shared path lies, below the app's home.

    >>> place("instance", {"/static": "static"}), place("static/media", {"/static": "static"})
    ('shared/instance', 'media/static/media')
    """
    url = served_at(path, static)
    return f"media{url}" if url else f"shared/{path}"


def is_folder(path: str) -> bool:
    """Whether a shared path that the source does not have is a folder: a file has an extension.

    >>> is_folder("instance"), is_folder("data/app.db")
    (True, False)
    """
    return not PurePosixPath(path).suffix


def linked(entry: Entry) -> dict[str, str]:
    """The files of a release that stand below a shared path: where, below the app's home; and what, below the release.

    >>> linked({"shared_paths": ["instance"], "static": {}, "files": {}, "secret_files": {"instance/config.py": ""}})
    {'shared/instance/config.py': 'secrets/files/instance/config.py'}
    """
    return {
        f"{place(shared, entry['static'])}/{PurePosixPath(path).relative_to(shared)}": f"{folder}/{path}"
        for option, folder in (("files", "files"), ("secret_files", "secrets/files"))
        for path in entry[option]
        if (shared := below(path, entry["shared_paths"]))
    }


def overlaps(folder: str, shared_paths: list[str]) -> bool:
    """Whether a folder is one of the shared paths, lies below one, or has one below it."""
    return any(path == folder or below(path, [folder]) or below(folder, [path]) for path in shared_paths)


def below(path: str, shared_paths: list[str]) -> str | None:
    """The shared path that a path lies below."""
    return next((shared for shared in shared_paths if PurePosixPath(shared) in PurePosixPath(path).parents), None)
