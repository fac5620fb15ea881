"""The journal of an app on a host.

``/var/lib/flaskfleet/apps/<app>.json``::

    history   the live releases, the newest last: {"release", "since", "by", "what", "source"}; a removal has no release
    voided    releases that were rolled back from, by id: {"since", "by"}
    hooks     before_switch commands that are done, by the release's id: {command: since}
    user      whether the user of the app's name was created for the app, and is removed with it

The journal is written before anything else of an app, and removed last. An app without a journal is not flaskfleet's.
``/var/log/flaskfleet.log`` is for people: one line of JSON for each switch, only ever appended to.

The order of the history counts, never its times, because a clock may be set back. ``current`` alone says which release
is live: an entry is written before that link is renamed, and dropped if the rename never happened.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from .files import read_json, write_json

REMEMBERED = 200  # entries of the history


def now() -> str:
    """The time in UTC, like ``2026-11-22T17:30:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def record_change(path: Path, entry: dict[str, Any]) -> None:
    """Append a line to the log of switches, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        os.write(descriptor, (json.dumps(entry, sort_keys=True) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def release_id(release: str) -> str:
    """The id in a release's name: a restart of ``1a2b3c4d5e6f`` is called ``1a2b3c4d5e6f.1``.

    >>> release_id("1a2b3c4d5e6f.2")
    '1a2b3c4d5e6f'
    """
    return release.partition(".")[0]


class Journal:
    """The record of one app. Changes are in memory until :meth:`save`."""

    def __init__(self, path: Path, live: str | None) -> None:
        self.path = path
        record = read_json(path) or {}
        self.history: list[dict[str, Any]] = record.get("history", [])
        self.voided: dict[str, dict[str, str]] = record.get("voided", {})
        self.hooks: dict[str, dict[str, str]] = record.get("hooks", {})
        # Journals of earlier versions lack the key.
        self.user: bool = record.get("user", bool(self.history and self.history[-1]["release"]))
        if self.history and self.history[-1]["release"] != live:
            self.history.pop()  # an interrupted run wrote the entry and never renamed the link
        if live:
            self.voided.pop(release_id(live), None)

    def save(self) -> None:
        """Write the journal, durably."""
        record = {
            "history": self.history[-REMEMBERED:],
            "voided": self.voided,
            "hooks": self.hooks,
            "user": self.user,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, record, 0o600)

    def last(self, release: str) -> dict[str, Any]:
        """The last entry of a release in the history; empty if the release was never live."""
        return next((entry for entry in reversed(self.history) if entry["release"] == release), {})

    def newest_first(self) -> list[str]:
        """The releases that were live, the latest first."""
        return list(dict.fromkeys(entry["release"] for entry in reversed(self.history) if entry["release"]))
