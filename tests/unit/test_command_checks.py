"""The command that starts a run: a mistyped inventory or extra variable is refused, what is somebody's own is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from plugin_utils.command_checks import (
    EXTRA_VARIABLES,
    check_extra_text,
    check_extra_variables,
    check_inventories,
    reads,
)
from plugin_utils.rendering import PROJECT
from plugin_utils.variable_checks import all_roles

ADVICE = "name yours, like -i inventories/prod"


def problems(name: str, is_read: bool = False) -> list[str]:
    """What is said of an extra variable."""
    return [str(problem) for problem in check_extra_variables({name}, lambda _: is_read)]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("reelase", "release"), ("ap", "app"), ("apps", "app"), ("frce", "force"), ("hosts", "host"),
        ("host_off", "host_is_off"), ("drain_second", "drain_seconds"),
    ],
)  # fmt: skip
def test_a_misspelt_variable_is_named(name: str, meant: str) -> None:
    assert problems(name) == [f"{name}: no playbook and no inventory reads this variable; did you mean {meant}?"]


@pytest.mark.parametrize("name", [*EXTRA_VARIABLES, "version", "my_color", "flask_apps", "ansible_host", "lab_release"])
def test_what_is_read_or_like_nothing_passes(name: str) -> None:
    assert problems(name) == []


def test_a_value_that_was_cut_off_is_refused() -> None:
    (problem,) = check_extra_text("new disk")
    assert str(problem).startswith("-e: 'new disk' belongs to no variable; quote a value with spaces twice")
    assert [*check_extra_text("")] == []


def test_what_the_inventory_reads_passes() -> None:
    assert problems("apps", is_read=True) == []


@pytest.mark.parametrize(
    ("value", "is_read"),
    [
        ("{{ apps }}", True),
        ({"a": [{"b": "x{{ [1] + apps }}"}]}, True),
        ("{% if apps %}x{% endif %}", True),
        ("{{ lookup('vars', 'apps') }}", True),
        ("apps", False),
        ("{{ my_apps }}", False),
        ("{{ groups.apps }}", False),
        ({"apps": 1}, False),
    ],
)
def test_a_template_reads_the_variables_that_it_names(value: Any, is_read: bool) -> None:
    assert reads(value, "apps") == is_read


@pytest.mark.parametrize(
    ("sources", "groups", "words"),
    [
        (["/no/hosts.yml"], {"all": []}, [f"inventory: '/no/hosts.yml' does not exist; {ADVICE}"]),
        (["/no/hosts.yml", "{here}"], {"app_servers": ["a"]}, [f"inventory: '/no/hosts.yml' does not exist; {ADVICE}"]),
        (
            ["{here}"],
            {"app_servers": [], "others": ["a"]},
            [f"inventory: '{{here}}' has no host in app_servers or load_balancers; {ADVICE}"],
        ),
        (["a,"], {"all": ["a"]}, [f"inventory: 'a,' has no host in app_servers or load_balancers; {ADVICE}"]),
        (["{here}"], {"app_servers": ["a"]}, []),
        (["{here}", "b,"], {"load_balancers": ["b"]}, []),
    ],
)
def test_an_inventory_exists_and_has_hosts(
    tmp_path: Path, sources: list[str], groups: dict[str, list[str]], words: list[str]
) -> None:
    found = check_inventories([source.format(here=tmp_path) for source in sources], groups)
    assert [str(problem) for problem in found] == [word.format(here=tmp_path) for word in words]


def test_every_extra_variable_that_playbooks_read_is_known() -> None:
    read = set()
    for pattern in ("site.yml", "playbooks/**/*.yml", "roles/*/tasks/*.yml", "roles/*/vars/*.yml"):
        for path in PROJECT.glob(pattern):
            found = re.findall(r"(?<![\w.'])(?<!\| )\b([a-z]\w*)(?: \| default\(| is (?:un)?defined)", path.read_text())
            read |= {name for name in found if not name.startswith(tuple(f"{role}_" for role in all_roles()))}
    assert read == {*EXTRA_VARIABLES}


def test_the_readme_tells_what_each_extra_variable_is_for() -> None:
    text = (PROJECT / "README.md").read_text()
    cells = re.findall(r"^\| \[\w+\.yml\]\(\S+\) \| (.+?) \| (.+) \|$", text, re.MULTILINE)
    told = {name for row in cells for name in re.findall(r"`(\w+)`", row[0])}
    assert told | {"deploy"} == {*EXTRA_VARIABLES}
    assert "-e deploy=true" in text
