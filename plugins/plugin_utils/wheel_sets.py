"""The wheel sets of an app: what its environment is made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import exporters, packing, requirements, sources, wheelhouse
from .cache import CACHE
from .entries import Entry
from .rendering import PROJECT

Sets = dict[str, wheelhouse.Wanted]


def house(wheels: dict[str, Any]) -> Path:
    """Where the wheelhouse is; a path in the inventory is one below the project.

    :param wheels: the option of that name, see the module flask_app. So in the other functions.
    """
    return PROJECT / str(wheels["house"])


def wanted(entry: Entry, wheels: dict[str, Any]) -> Sets:
    """The wheel sets of an app by name: ``uwsgi``, ``app`` unless it requires nothing, maybe ``project``."""
    required = requirements.required(sources.fetched(entry["source"]), entry)
    sets = {"uwsgi": wheelhouse.Wanted(**wheels["uwsgi"], **wheels["build"])}
    # The project changes with each release, and what it needs does not; they are one set if only a build tells.
    project: dict[str, Any] = {} if required.project is None else {"project": packing.pack_source(entry)}
    if not required.resolved:
        project["dependencies"] = required.project
    elif project:
        sets["project"] = wheelhouse.Wanted(
            requirements="", build_packages=tuple(entry["build_packages"]), **project, **wheels["build"]
        )
    if required.lines or not required.resolved:
        sets["app"] = wheelhouse.Wanted(
            requirements=required.lines,
            constraints=required.constraints,
            further=tuple(packing.further_wheels(entry)),
            build_packages=tuple(entry["build_packages"]),
            **({} if required.resolved else project),
            **wheels["build"],
        )
    return sets


def known(entry: Entry, wheels: dict[str, Any]) -> dict[str, Any]:
    """The wheel sets of an app as modules want them: ``key``, and what is ``known`` of them by platform."""
    return {
        name: {"key": one.key, "known": wheelhouse.known(one, house(wheels))}
        for name, one in wanted(entry, wheels).items()
    }


def bundle(entry: Entry, wheels: dict[str, Any], platform: str, made: Path | None) -> Iterator[Path]:
    """What a controller without access needs for the app, below the project; each wheel is checked to be unaltered.

    :param made: what the app's build has made, if it has one.
    """
    yield packing.pack_source(entry).relative_to(PROJECT)
    if made:
        yield made.relative_to(PROJECT)
    folder = sources.fetched(entry["source"]).folder
    if folder and folder.is_relative_to(CACHE):
        yield folder.relative_to(PROJECT)
    lock = folder / entry["requirements"] if folder else Path()
    if lock.name in exporters.EXPORTERS:
        yield exporters.kept(lock, entry["extras"], entry["groups"]).relative_to(PROJECT)
    for one in wanted(entry, wheels).values():
        yield wheelhouse.record(one, platform, house(wheels)).relative_to(PROJECT)
        for wheel in wheelhouse.known(one, house(wheels))[platform]:
            yield wheelhouse.seen(platform, wheel, house(wheels)).relative_to(PROJECT)
