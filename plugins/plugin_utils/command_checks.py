"""Checks of the command that started a run: its inventories have hosts, and its extra variables have a reader."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .variable_checks import HIDDEN, Problem

# What playbooks read of -e. README.md tells what each is for.
EXTRA_VARIABLES = (
    "app", "ca", "deploy", "drain_seconds", "drain_without", "force", "host", "host_is_off", "maintenance",
    "patch_reboot", "purge", "reason", "release", "ship", "status_strict",
)  # fmt: skip
FOREIGN = ("ansible_", "lab_", "molecule_")  # prefixes of variables that others read


def check_inventories(sources: list[str], groups: dict[str, list[str]]) -> Iterator[Problem]:
    """Whether each inventory exists, and one has a host. Ansible itself only warns, and succeeds.

    :param sources: ``ansible_inventory_sources``: paths, or lists of hosts with a comma.
    """
    advice = "name yours, like -i inventories/prod"
    missing = [source for source in sources if "," not in source and not Path(source).exists()]
    for source in missing:
        yield Problem("inventory", source, f"does not exist; {advice}")
    if not missing and not groups.get("app_servers") and not groups.get("load_balancers"):
        yield Problem("inventory", ", ".join(sources), f"has no host in app_servers or load_balancers; {advice}")


def check_extra_text(text: str) -> Iterator[Problem]:
    """Whether ``-e`` has text that belongs to no variable: a value was cut off at its first space."""
    if text:
        advice = """quote a value with spaces twice, like -e "reason='a new disk'\""""
        yield Problem("-e", text, f"belongs to no variable; {advice}")


def check_extra_variables(names: set[str], is_read: Callable[[str], bool]) -> Iterator[Problem]:
    """Whether a name is a misspelt one of ``EXTRA_VARIABLES``. Misspelt variables of roles are found by check_names.

    :param is_read: whether the inventory reads a variable of this name: then it is a variable of the user.
    """
    for name in sorted(names - {*EXTRA_VARIABLES}):
        near = difflib.get_close_matches(name, EXTRA_VARIABLES, 1, 0.75)
        if near and not name.startswith(FOREIGN) and not is_read(name):
            words = f"no playbook and no inventory reads this variable; did you mean {near[0]}?"
            yield Problem(name, HIDDEN, words)


def reads(value: Any, name: str) -> bool:
    """Whether a value, or one below it, is a template that names a variable."""
    if isinstance(value, dict):
        return any(reads(inner, name) for inner in value.values())
    if isinstance(value, list):
        return any(reads(inner, name) for inner in value)
    is_template = isinstance(value, str) and ("{{" in value or "{%" in value)
    return is_template and bool(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", value))
