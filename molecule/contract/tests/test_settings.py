"""Settings: each one is off its default somewhere in the scenario overrides, or in offline where it needs a mirror."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml
from conftest import PROJECT

sys.path.insert(0, str(PROJECT / "plugins"))
from plugin_utils import preflight
from plugin_utils.entries import role_specs
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
    given = [*OVERRIDES.values(), *hosts("offline").values()]
    options = {name: spec["default"] for name, spec in role_specs(role)["main"].items() if name not in WIRED}
    off = {name for one in given for name, value in one.items() if name in options and value != options[name]}
    assert off == set(options)


@pytest.mark.parametrize(("point", "given"), [("app", NOTES), ("program", NOTES["programs"]["mailer"])])
def test_every_option_of_an_app_is_off_its_default(point: str, given: dict[str, Any]) -> None:
    options = role_specs("flask_app")[point]
    assert {
        name for name, spec in options.items() if given.get(name, spec.get("default")) == spec.get("default")
    } == set()
    for name, spec in options.items():
        inner = {key for key in spec.get("options", {}) if name != "source" and key not in given[name]}
        assert inner == set(), name
