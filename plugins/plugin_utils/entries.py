"""The entries of ``flask_apps``: their shape, their defaults, and what the other roles need of them."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from module_utils.flaskfleet.shared import served_at

from .rendering import PROJECT
from .server_blocks import urls_of

Entry = dict[str, Any]
ACCESS_RULES = ("allow", "basic_auth", "limit")
FOR_PREFLIGHT = {"description", "schema", "values", "part_of"}  # of an option; Ansible's validator needs none of them


@cache
def app_options() -> dict[str, Any]:
    """The options of an entry. The file that declares them says how."""
    options: dict[str, Any] = yaml.safe_load((PROJECT / "roles/flask_app/meta/app_options.yml").read_text())
    return options


@cache
def role_options(role: str) -> dict[str, Any]:
    """A role's variables as its argument spec declares them, ``{}`` where it declares none."""
    path = PROJECT / "roles" / role / "meta" / "argument_specs.yml"
    specs = yaml.safe_load(path.read_text())["argument_specs"] if path.exists() else {"main": {}}
    options: dict[str, Any] = specs["main"].get("options", {})
    if "flask_apps" in options:
        options["flask_apps"]["values"] = app_options()
    return options


def schema_of(options: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of values in the shape of an argument spec, of what each option says as ``schema``."""
    properties: dict[str, Any] = {}
    for name, spec in options.items():
        schema = dict(spec.get("schema", {}))
        if "options" in spec:
            schema |= schema_of(spec["options"])
        if "values" in spec:
            schema["additionalProperties"] = schema_of(spec["values"])
        if schema:
            properties[name] = schema
    return {"properties": properties}


def of_a_release(entry: Entry) -> Entry:
    """The options of an entry whose values are among a release's inputs."""
    parts = {name: spec.get("part_of", "release") for name, spec in app_options().items()}
    return {name: value for name, value in entry.items() if parts.get(name) == "release"}


def validate(options: dict[str, Any], values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values with their types and defaults, and what is wrong with them, in Ansible's words."""
    result = ArgumentSpecValidator(_argument_spec(options)).validate(values)
    return result.validated_parameters, result.error_messages


def _argument_spec(options: dict[str, Any]) -> dict[str, Any]:
    """A copy for Ansible's validator, which hands out the defaults themselves."""
    return {
        name: {
            key: _argument_spec(value) if key == "options" else deepcopy(value)
            for key, value in spec.items()
            if key not in FOR_PREFLIGHT
        }
        for name, spec in options.items()
    }


def plain(value: Any) -> Any:
    """A value with all that Ansible would evaluate on access evaluated: its lazy containers can't be copied deeply.

    A copy would have copies of Ansible's plugin loaders, which find no filter.
    """
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def complete(apps: dict[str, Entry]) -> dict[str, Entry]:
    """Entries with every default filled in and their name added.

    :raises ValueError: an entry that preflight would have refused.
    """
    return {
        name: {**_complete(f"flask_apps.{name}", app_options(), app), "name": name}
        for name, app in plain(apps or {}).items()
    }


def _complete(path: str, options: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    values, errors = validate(options, given)
    if errors:
        raise ValueError(f"{path}: {'; '.join(errors)}")
    for name, spec in options.items():
        if "values" in spec:
            values[name] = {
                key: _complete(f"{path}.{name}.{key}", spec["values"], value) for key, value in values[name].items()
            }
    return values


def access_rules(entry: Entry) -> dict[str, Any]:
    """The access rules of an app that are given."""
    limit = {name: value for name, value in entry["limit"].items() if value}
    return {name: value for name, value in {**entry, "limit": limit}.items() if name in ACCESS_RULES and value}


def sites(apps: dict[str, Entry]) -> list[dict[str, Any]]:
    """What nginx needs to know of each app: see ``nginx_sites`` in the role nginx."""
    return [
        {
            "name": name,
            "server_names": entry["server_names"],
            "urls": entry["urls"],
            "redirects": entry["redirects"],
            "https": entry["https"],
            "access": access_rules(entry),
            "root": f"/srv/{name}",
            "socket": f"/srv/{name}/current/run/uwsgi.sock",
            "static_prefixes": sorted(entry["static"]),
            "shared_urls": sorted(filter(None, (served_at(path, entry["static"]) for path in entry["shared_paths"]))),
            "read_timeout_seconds": entry["harakiri_seconds"] + 5,
            "max_body_mb": entry["max_body_mb"],
            "directives": entry["nginx_directives"],
        }
        for name, entry in complete(apps).items()
        if urls_of(entry)
    ]
