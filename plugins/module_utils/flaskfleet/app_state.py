"""The state of an app on this host for reports, and the differences between two releases."""

from __future__ import annotations

from typing import Any

from . import manifest, secret_files
from .app import App
from .journal import release_id
from .paths import AppPaths


def report(app: App) -> dict[str, Any]:
    """The live release, its source and the user that deployed it, the programs, the releases on disk, and the drift."""
    journal, live = app.paths.journal(), app.paths.live()
    previous = app.paths.previous()
    return {
        "app": app.name,
        "live": live,
        **{key: journal.last(live or "").get(key) for key in ("since", "by", "what", "source")},
        "programs": [
            {"name": process["name"], "program": process["group"], "state": process["statename"],
             "pid": process["pid"], "since": process["start"]}
            for process in app.supervisor.rpc.getAllProcessInfo()
            if app.programs.owns(process["group"])
        ],
        "on_disk": [
            {
                "release": name,
                "is": "live" if name == live else "previous" if name == previous else "kept",
                "since": journal.last(name).get("since"),
                "voided": journal.voided.get(release_id(name)),
            }
            for name in sorted(app.paths.on_disk(), key=_position_in(journal.newest_first()))
        ],
        "lock": app.rollout_lock.record(),
        "singletons": app.paths.singletons_file.exists() if live and app.programs.singletons(live) else None,
        "edited": manifest.edited(app.paths, live) + app.programs.edited(live) if live else _missing_live(app.paths),
    }  # fmt: skip


def _missing_live(paths: AppPaths) -> list[str]:
    missing = paths.target("current")
    return [f"{paths.path(missing)} was removed: {paths.home}/current points at it; run site.yml"] if missing else []


def undeployed(paths: AppPaths, live: str, wanted: dict[str, Any], secrets: secret_files.Secrets) -> list[str]:
    """What the inventory asks for that is not live, in words.

    :param wanted: the ``release`` of the inventory and its ``record``.
    """
    if release_id(live) == wanted["release"]:  # a restart or a rollback may have started it with other secrets
        return [] if secret_files.has_set(paths, live, secrets) else ["secrets changed"]
    return differences(paths.record(live).get("inputs", {}), wanted["record"]["inputs"])


def differences(live: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The differences between two ``inputs`` of release.json, in words.

    >>> differences({"source": "1a", "entry": {"processes": 4}}, {"source": "2b", "entry": {"processes": 8}})
    ['processes 4 → 8', 'source changed']
    """
    before, after = _flatten(live), _flatten(wanted)
    words = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            words.append(
                f"{name.removeprefix('entry.')} {old} → {new}" if name.startswith("entry.") else f"{name} changed"
            )
    return words


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in _flatten(inner, f"{prefix}.{key}".lstrip(".")).items()
    }


def _position_in(order: list[str]) -> Any:
    return lambda name: order.index(name) if name in order else len(order)
