"""The files that the controller has uploaded, and those that it must upload before a release can be staged."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .app import App
from .environments import Environment
from .secret_files import Secrets
from .staging import Release
from .wheels import lacking, merged, platform_of, receive

Wanted = dict[str, Any]
Result = dict[str, Any]

# The arguments of an app whose release is to be staged, as plugin_utils/release_arguments.py makes them.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "hooks": {"type": "dict", "default": {}},
    "hooks_done": {"type": "dict", "default": {}},
    "singletons": {"type": "bool"},
    "release": {"type": "str"},
    "archive": {"type": "path"},
    "archive_content": {"type": "str", "no_log": True},  # in base64; too long to be shown
    "files": {"type": "dict", "default": {}},
    "router": {"type": "str"},
    "env": {"type": "dict", "default": {}},
    "secrets": {"type": "str", "no_log": True},  # as one text, see release_inputs.hidden
    "secret_files": {"type": "list", "elements": "str", "default": [], "no_log": False},  # their paths
    "own_files": {"type": "str", "no_log": True},  # as one text, too
    "static": {"type": "dict", "default": {}},
    "python": {"type": "path"},
    "wheels": {"type": "dict", "default": {}},
    "wheels_archive": {"type": "path"},
    "record": {"type": "dict", "default": {}},
}


def environment(wanted: Wanted, *names: str) -> Environment:
    """The environment that is made from the wheel sets of these names for the app's interpreter.

    If two sets have the same project, the first one's wheel counts, so an app can't replace the uWSGI of its server.
    """
    platform, sets = platform_of(wanted["python"]), [wanted["wheels"][name] for name in names]
    found = [wheel_set["known"].get(platform) for wheel_set in sets]
    return Environment(
        python=wanted["python"],
        platform=platform,
        sets=tuple(wheel_set["key"] for wheel_set in sets),
        wheels=None if None in found else tuple(merged(found)),
    )


def needs(app: App, wanted: Wanted, release: str | None, *environments: Environment) -> Result:
    """What the controller must upload before a release can be staged and environments be made; empty if nothing.

    :param release: the release to stage; None if only environments are to be made.
    """
    if wanted["wheels_archive"]:
        receive(Path(wanted["wheels_archive"]), app.paths.pool)
    platform = platform_of(wanted["python"])
    missing = [one for one in environments if not (app.paths.venvs / one.key).exists()]
    keys = {key for one in missing for key in one.sets}
    has_archive = wanted["archive"] or wanted["archive_content"]
    lacking_uploads = {
        "archive": release is not None and not app.paths.path(release).exists() and not has_archive,
        "sets": [name for name, one in wanted["wheels"].items() if one["key"] in keys and platform not in one["known"]],
        "wheels": lacking((wheel for one in missing for wheel in one.wheels or ()), app.paths.pool),
    }
    return {"needs": {**lacking_uploads, "platform": platform}} if any(lacking_uploads.values()) else {}


@contextmanager
def archive(wanted: Wanted) -> Iterator[Path]:
    """The packed source: an uploaded file or, if it is small, one of the arguments."""
    if wanted["archive"]:
        yield Path(wanted["archive"])
        return
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        file.write(base64.b64decode(wanted["archive_content"]))
        file.flush()
        yield Path(file.name)


def secrets(wanted: Wanted) -> Secrets:
    """The app's secrets in the inventory."""
    return Secrets(**_decode(wanted["secrets"]))


def release(wanted: Wanted) -> Release:
    """The release that the inventory asks for."""
    return Release(
        id=wanted["release"],
        files=wanted["files"],
        env=wanted["env"],
        static=wanted["static"],
        record=wanted["record"],
        own_files=_decode(wanted["own_files"]),
        secret_files=tuple(wanted["secret_files"]),
    )


def _decode(argument: str) -> Any:
    """A value that was encoded by ``release_inputs.hidden``."""
    return json.loads(base64.b64decode(argument))
