"""The inputs of a release, as arguments of the modules that stage it."""

from __future__ import annotations

from typing import Any

from module_utils.flaskfleet.shared import linked

from . import packing, release_inputs, requirements, sources, wheel_sets
from .entries import Entry
from .fleet import bracketed
from .release_contents import contents
from .rendering import PROJECT, render
from .server_blocks import split_url, urls_of

Arguments = dict[str, Any]


def common(entry: Entry) -> Arguments:
    """The arguments of an app that each phase needs."""
    return {"name": entry["name"], "hooks": entry["hooks"], "secrets": release_inputs.secrets_sent(entry)}


def of_release(entry: Entry, options: Arguments, task_vars: Arguments, templar: Any) -> Arguments:
    """The arguments of the release that the inventory asks for, and of the app's router.

    :param options: ``templates``, ``router_template``, ``settings``, ``wheels``, see the module flask_app.
    """
    fetched = sources.fetched(entry["source"])
    files = contents(fetched.folder, entry["source"], entry["static"].values()).files
    required = requirements.required(fetched, entry)
    templates = [path for folder in options["templates"] for path in sorted((PROJECT / folder).glob("*.j2"))]
    source = packing.source_hash(fetched.folder, files)
    inputs = release_inputs.release_inputs(entry, source, required, templates, options["settings"])
    release = packing.digest(inputs)[:12]

    variables = {**task_vars, **_template_variables(entry, options, release)}
    router = render(templar, PROJECT / options["router_template"], variables) if entry["http"] else None
    return {
        "release": release,
        "files": {template.stem: render(templar, template, variables) for template in templates},
        "router": router,
        "env": {
            **{name: str(value) for name, value in entry["env"].items()},
            "FLASKFLEET_APP": entry["name"],
            "FLASKFLEET_RELEASE": release,
            "FLASKFLEET_SHARED": f"/srv/{entry['name']}/shared",
        },
        "own_files": release_inputs.hidden(entry["files"]),
        "secret_files": sorted(entry["secret_files"]),
        "static": entry["static"],
        "python": entry["python"],
        "wheels": wheel_sets.known(entry, options["wheels"]),
        "record": {
            "app": entry["name"],
            "release": release,
            "source": fetched.record,
            "host": _host(entry),
            "inputs": inputs,
        },
    }


def _template_variables(entry: Entry, options: Arguments, release: str) -> Arguments:
    """The variables of a release's templates, besides the host's."""
    path = f"/srv/{entry['name']}/releases/{release}"
    links = {f"/srv/{entry['name']}/{link}": f"{path}/{file}" for link, file in linked(entry).items()}
    return {
        "app": entry,
        "settings": options["settings"],
        "release": {"id": release, "path": path, "links": links},
    }


def _host(entry: Entry) -> str:
    """The name that health checks ask the app for."""
    name, _ = split_url(next(iter(urls_of(entry)), "localhost"))
    return "localhost" if name == "*" else bracketed(name.removeprefix("*."))
