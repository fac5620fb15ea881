"""The places of shared paths: files that outlive an app's releases. Pure functions of the app's entry.

A path of ``shared_paths`` is a link below the source that leads to::

    /srv/<app>/shared/<path>     by default; the app owns it
    /srv/<app>/media/<url>       if the path lies below a folder of ``static``: nginx serves it. Root owns all folders
                                 above it, so that the app can't replace one by a link
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

Entry = dict[str, Any]


def served_at(path: str, static: dict[str, str]) -> str | None:
    """The URL under which nginx serves a path below the source; None if nginx does not serve it.

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
    """Whether to create a shared path as a folder if the source lacks it: a path with an extension is a file.

    >>> is_folder("instance"), is_folder("data/app.db")
    (True, False)
    """
    return not PurePosixPath(path).suffix


def linked(entry: Entry) -> dict[str, str]:
    """The release's files below shared paths: path below the release, by path below the app's home.

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
    """The shared path that a path lies below; None if there is none."""
    return next((shared for shared in shared_paths if PurePosixPath(shared) in PurePosixPath(path).parents), None)
