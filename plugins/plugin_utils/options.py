"""Checks the options of the project's modules against their DOCUMENTATION."""

from __future__ import annotations

import ast
import json
from functools import cache
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail

from .entries import validate
from .rendering import PROJECT

SPEC = ("type", "elements", "choices", "default", "required", "aliases")


@cache
def documented(module: str) -> dict[str, Any]:
    """The argument spec in a module's DOCUMENTATION."""
    source = (PROJECT / f"plugins/modules/{module}.py").read_text()
    texts = (
        node.value.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION"
        if isinstance(node.value, ast.Constant)
    )
    options = yaml.safe_load(str(next(texts)))["options"]
    return {name: {key: option[key] for key in SPEC if key in option} for name, option in options.items()}


def checked(module: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a task, with types and defaults.

    :raises AnsibleActionFail: an option is unknown, missing, or has the wrong type.
    """
    values, errors = validate(documented(module), json.loads(json.dumps(given)))
    if errors:
        raise AnsibleActionFail(f"{module}: {'; '.join(errors)}")
    return values
