"""Settings: each one is off its default in the scenario overrides, or where it needs a mirror or a directory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import PROJECT

sys.path.insert(0, str(PROJECT / "plugins"))
from plugin_utils import preflight
from plugin_utils.entries import app_options, role_options
from plugin_utils.variable_checks import all_roles


def hosts(scenario: str) -> dict[str, dict[str, Any]]:
    """The variables that the inventory of a scenario gives its hosts."""
    groups = yaml.safe_load((PROJECT / f"molecule/{scenario}/inventory/hosts.yml").read_text()).values()
    return {name: own for group in groups for name, own in ((group or {}).get("hosts") or {}).items()}


OVERRIDES = hosts("overrides")
NOTES = OVERRIDES["molecule-all"]["flask_apps"]["notes"]
PLAYBOOKS = [PROJECT / f"playbooks/{group}.yml" for group in ("app_servers", "load_balancers")]
WIRED = {name for playbook in PLAYBOOKS for item in preflight.role_imports(playbook) for name in item.wired}


@pytest.mark.parametrize("role", all_roles())
def test_every_setting_is_off_its_default(role: str) -> None:
    given = [one for scenario in ("overrides", "offline", "acme") for one in hosts(scenario).values()]
    options = {name: spec["default"] for name, spec in role_options(role).items() if name not in WIRED}
    off = {name for one in given for name, value in one.items() if name in options and value != options[name]}
    assert off == set(options)


def at_its_default(options: dict[str, Any], given: dict[str, Any], path: str = "") -> Iterator[str]:
    """The options that an entry leaves at their defaults. Of a source's kinds only one can be given."""
    for name, spec in options.items():
        if name not in given or (not path and given[name] == spec.get("default")):
            yield f"{path}{name}"
        elif name != "source":
            yield from at_its_default(spec.get("options", {}), given[name], f"{path}{name}.")
            for key, value in given[name].items() if "values" in spec else ():
                yield from at_its_default(spec["values"], value, f"{path}{name}.{key}.")


def test_every_option_of_an_app_is_off_its_default() -> None:
    assert list(at_its_default(app_options(), NOTES)) == []
