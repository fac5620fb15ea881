"""CI types what README says, after installing what README asks for; make lint checks the files' schemas."""

from __future__ import annotations

import re
from typing import Any

import yaml
from conftest import PROJECT
from test_readme import COMMANDS, TEXT

GITHUB = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
GITLAB = yaml.safe_load((PROJECT / ".gitlab-ci.yml").read_text())["test"]
INSTALL = "apt-get update && apt-get install --yes --no-install-recommends ca-certificates git make python3"


def runs(job: dict[str, Any]) -> list[str]:
    """The commands of a GitHub job, without those of git."""
    return [step["run"] for step in job["steps"] if not step.get("run", "git ").startswith("git ")]


def test_commands_are_readmes() -> None:
    assert runs(GITHUB) == [*GITLAB["before_script"], *GITLAB["script"]] == [INSTALL, "make test"]
    assert "make test" in COMMANDS


def test_systems_are_readmes() -> None:
    named = re.search(r"^A Debian (\d+) or (\d+) with git, make and Python", TEXT, re.MULTILINE)
    assert named
    assert GITHUB["strategy"]["matrix"] == {"debian": list(named.groups())}
    assert GITLAB["parallel"]["matrix"] == [{"DEBIAN": list(named.groups())}]
