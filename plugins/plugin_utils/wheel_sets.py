"""The wheel sets of an app, from which its environment is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import exporters, packing, requirements, sources, wheelhouse
from .cache import CACHE
from .entries import Entry
from .rendering import PROJECT

Sets = dict[str, wheelhouse.Wanted]


def wheelhouse_folder(wheels: dict[str, Any]) -> Path:
    """The folder of the wheelhouse. The inventory has its path below the project.

    :param wheels: the option of that name of the module flask_app, here and in the other functions.
    """
    return PROJECT / str(wheels["house"])


def wanted(entry: Entry, wheels: dict[str, Any]) -> Sets:
    """The wheel sets of an app by name: ``uwsgi``, ``app`` unless it requires nothing, maybe ``project``."""
    required = requirements.required(sources.fetched(entry["source"]), entry)
    sets = {"uwsgi": wheelhouse.Wanted(**wheels["uwsgi"], **wheels["build"])}
    # The project is a set of its own, because it changes with each release and its dependencies do not. It is one set
    # with them if only a build of the project reveals them.
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
    """The wheel sets of an app for modules: their ``key``, and the ``known`` wheels by platform."""
    return {
        name: {"key": wheel_set.key, "known": wheelhouse.known(wheel_set, wheelhouse_folder(wheels))}
        for name, wheel_set in wanted(entry, wheels).items()
    }


def bundle(entry: Entry, wheels: dict[str, Any], platform: str, made: Path | None) -> Iterator[Path]:
    """The paths that a controller without network access needs for the app. Each wheel's hash is checked.

    :param made: the folder of the built source, if the app has a build.
    """
    yield packing.pack_source(entry).relative_to(PROJECT)
    if made:
        yield made.relative_to(PROJECT)
    folder = sources.fetched(entry["source"]).folder
    if folder and folder.is_relative_to(CACHE):
        yield folder.relative_to(PROJECT)
    lock = folder / entry["requirements"] if folder else Path()
    if lock.name in exporters.EXPORTERS:
        yield exporters.cached_path(lock, entry["extras"], entry["groups"]).relative_to(PROJECT)
    store = wheelhouse_folder(wheels)
    for wheel_set in wanted(entry, wheels).values():
        yield wheelhouse.record(wheel_set, platform, store).relative_to(PROJECT)
        for wheel in wheelhouse.known(wheel_set, store)[platform]:
            yield wheelhouse.verified_path(platform, wheel, store).relative_to(PROJECT)
