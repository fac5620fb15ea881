"""The release that a rollout switches to."""

from __future__ import annotations

from typing import Any

from .app import App
from .journal import release_id
from .paths import ReleaseFailed


def find(app: App, wanted: dict[str, Any], interrupted: dict[str, Any]) -> str | None:
    """The name of the release to warm up; None if it is live already.

    :param wanted: ``target``, the ``release`` that the inventory asks for, ``force``.
    :param interrupted: the ``what`` and ``target`` of an interrupted rollout.
    :raises ReleaseFailed: there is no such release, or it is voided.
    """
    live, asked = app.paths.live(), wanted["target"]
    if not live:
        raise ReleaseFailed(f"{app.name}: no release is live on this host; run site.yml first")
    if asked == "live":
        return live
    if asked == "inventory":
        found = app.paths.name_of(wanted["release"]) or wanted["release"]
    elif asked == "previous":
        if interrupted.get("what") == "rollback" and interrupted["target"] == live:
            return None  # finish the interrupted rollback; don't roll back a second time
        found = app.paths.previous()
        if not found:
            raise ReleaseFailed(f"{app.name}: there is no release to roll back to; {on_disk(app)}")
    else:
        found = asked if asked in app.paths.on_disk() else app.paths.name_of(asked)
        if not found:
            raise ReleaseFailed(f"{app.name}: there is no release {asked} on this host; {on_disk(app)}")
    if release_id(found) == release_id(live):
        return None
    voided = app.paths.journal().voided.get(release_id(found))
    if voided and not wanted["force"]:
        raise ReleaseFailed(
            f"{app.name}: {found} was voided by {voided['by']} at {voided['since']}, when it was rolled back from; "
            "change something, or make it live again with -e force=true, which also breaks the lock of another run"
        )
    return found


def on_disk(app: App) -> str:
    """The releases of an app on this host, in words."""
    voided = app.paths.journal().voided
    names = [f"{name} (voided)" if release_id(name) in voided else name for name in app.paths.on_disk()]
    return f"on disk: {', '.join(names)}; {app.paths.live()} is live"
