"""The entries of ``flask_apps``: their shape, their defaults, and what the other roles need of them."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from module_utils.flaskfleet.shared import served_at

from .rendering import PROJECT

Entry = dict[str, Any]


@cache
def role_specs(role: str) -> dict[str, Any]:
    """The options of each entry point of a role, ``{}`` where it declares none."""
    path = PROJECT / "roles" / role / "meta" / "argument_specs.yml"
    specs = yaml.safe_load(path.read_text())["argument_specs"] if path.exists() else {}
    return {point: spec.get("options", {}) for point, spec in specs.items()}


def validate(options: dict[str, Any], values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values with their types and defaults, and what is wrong with them, in Ansible's words."""
    result = ArgumentSpecValidator(deepcopy(options)).validate(values)
    return result.validated_parameters, result.error_messages


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
    entries = {}
    for name, app in plain(apps or {}).items():
        entry, errors = validate(role_specs("flask_app")["app"], app)
        if errors:
            raise ValueError(f"flask_apps.{name}: {'; '.join(errors)}")
        programs = {}
        for program, options in entry["programs"].items():
            programs[program], errors = validate(role_specs("flask_app")["program"], options)
            if errors:
                raise ValueError(f"flask_apps.{name}.programs.{program}: {'; '.join(errors)}")
        entries[name] = {**entry, "name": name, "programs": programs}
    return entries


def sites(apps: dict[str, Entry]) -> list[dict[str, Any]]:
    """What nginx needs to know of each app: see ``nginx_sites`` in the role nginx."""
    return [
        {
            "name": name,
            "server_names": entry["server_names"],
            "root": f"/srv/{name}",
            "socket": f"/srv/{name}/current/run/uwsgi.sock",
            "static_prefixes": sorted(entry["static"]),
            "shared_urls": sorted(filter(None, (served_at(path, entry["static"]) for path in entry["shared_paths"]))),
            "read_timeout_seconds": entry["harakiri_seconds"] + 5,
            "directives": entry["nginx_directives"],
        }
        for name, entry in complete(apps).items()
        if entry["server_names"]
    ]
