"""Task names speak the words of docs/glossary.md: a verb of its table first, and no pronoun for a thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PROJECT

FILES = sorted(
    path
    for pattern in ("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "playbooks/tasks/*.yml", "playbooks/*.yml",
                    "lab/[!c]*.yml", "site.yml")
    for path in PROJECT.glob(pattern)
)  # fmt: skip
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
IMPORTS = ("ansible.builtin.import_role", "ansible.builtin.import_tasks", "ansible.builtin.import_playbook")
PRONOUNS = {"it", "its", "them", "their", "this", "those", "who", "whom", "whose", "others"}


def verbs() -> tuple[str, ...]:
    """The verbs of the glossary's first table."""
    rows = re.findall(r"^\| ([A-Z][\w, ]*) \| ", (PROJECT / "docs/glossary.md").read_text(), re.MULTILINE)
    return tuple(verb for row in rows for verb in row.split(", "))


def tasks(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Tasks, those of blocks included."""
    for task in items:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks(task.get(part, []))


def named(path: Path) -> list[str]:
    """The names of a file's tasks, but of imports that bear the name of what they import."""
    found = yaml.load(path.read_text(), Loader=_Loader)
    plays = [play.get("tasks", []) for play in found] if {"hosts", IMPORTS[2]} & set(found[0]) else [found]
    return [task["name"].rpartition(" | ")[2] for play in plays for task in tasks(play) if not _is_its_import(task)]


def _is_its_import(task: dict[str, Any]) -> bool:
    imported = next((task[module] for module in IMPORTS if module in task), "")
    name = imported["name"] if isinstance(imported, dict) else str(imported).removesuffix(".yml")
    return task["name"].lower().removesuffix("s") == name.replace("_", " ").removesuffix("s")


class _Loader(yaml.SafeLoader):
    """Ansible's own tags are read as plain values."""


_Loader.add_multi_constructor("!", lambda loader, tag, node: loader.construct_scalar(node))


def test_verbs_are_found() -> None:
    assert {"Gather", "Check", "Roll back", "Wait for"} <= set(verbs())


@every_file
def test_task_names_begin_with_a_verb_of_the_glossary(path: Path) -> None:
    assert [name for name in named(path) if not re.match(rf"({'|'.join(verbs())})\b", name)] == []


@every_file
def test_the_verb_is_about_a_thing(path: Path) -> None:
    """A task name is read alone: "Put it back" does not say what is put where."""
    assert [name for name in named(path) if PRONOUNS & set(name.split()[1:2])] == []


def test_every_verb_is_used() -> None:
    first = {verb for path in FILES for name in named(path) for verb in verbs() if name.startswith(verb)}
    assert set(verbs()) - first == set()
