"""Scenarios: their tests are in the verifier's folder. Without tests the verifier passes silently."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT

BASE = yaml.safe_load((PROJECT / ".config/molecule/config.yml").read_text())
SCENARIOS = sorted(path.parent for path in PROJECT.glob("molecule/*/molecule.yml"))

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)


def setting(scenario: Path, section: str, name: str) -> str:
    """A setting of a scenario; what it does not say is in the shared configuration."""
    own = yaml.safe_load((scenario / "molecule.yml").read_text())
    return own.get(section, {}).get(name) or BASE[section][name]


def test_scenarios_are_found() -> None:
    assert {"contract", "default"} <= {scenario.name for scenario in SCENARIOS}


@every_scenario
def test_verifier_runs_pytest(scenario: Path) -> None:
    assert setting(scenario, "verifier", "name") == "testinfra"
    assert "verify" in setting(scenario, "scenario", "test_sequence")


@every_scenario
def test_tests_are_collected(run, scenario: Path) -> None:
    folder = scenario / setting(scenario, "verifier", "directory")
    files = sorted(folder.rglob("test_*.py"))
    assert files
    words = ["pytest", "--collect-only", "-q", "--connection=ansible", "--ansible-inventory=inventories/prod"]
    done = run(*words, *map(str, files))
    assert done.returncode == 0, done.stdout[-2000:]
    collected = {Path(name).name for name in re.findall(r"^(\S+\.py)::", done.stdout, re.MULTILINE)}
    assert collected == {path.name for path in files}


@every_scenario
def test_playbooks_exist(scenario: Path) -> None:
    own = yaml.safe_load((scenario / "molecule.yml").read_text()).get("ansible", {}).get("playbooks", {})
    playbooks = {**BASE["ansible"]["playbooks"], **own}
    names = {*setting(scenario, "scenario", "test_sequence"), *own} & playbooks.keys()
    assert [name for name in names if not (scenario / playbooks[name]).exists()] == []
