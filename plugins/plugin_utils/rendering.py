"""Rendering a folder of templates whose paths mirror the host's."""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ansible.template import trust_as_template

PROJECT = Path(__file__).resolve().parents[2]
HASH_VARIABLE = "config_tree_hash"
HASH_PLACEHOLDER = "@config_tree_hash@"


def render(templar: Any, template: Path, variables: dict[str, Any]) -> str:
    """Render one template as Ansible's template action does, but blocks leave no blank lines."""
    source = template.resolve()
    shown = source.relative_to(PROJECT) if source.is_relative_to(PROJECT) else source
    variables = {
        **variables,
        "ansible_managed": f"Ansible managed: edits are overwritten, edit the inventory.\nTemplate: {shown}",
    }
    environment = templar.copy_with_new_env(searchpath=[str(source.parent)], available_variables=variables)
    overrides = {"trim_blocks": True, "lstrip_blocks": True}
    text = trust_as_template(source.read_text())
    return str(environment.template(text, escape_backslashes=False, overrides=overrides))


def expand(path: str, each: dict[str, list[dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """The paths that a template's path stands for, each with the variables of its items.

    >>> expand("/etc/{site}.conf", {"site": [{"name": "a"}, {"name": "b"}]})
    [('/etc/a.conf', {'site': {'name': 'a'}}), ('/etc/b.conf', {'site': {'name': 'b'}})]
    """
    for word, items in each.items():
        if f"{{{word}}}" in path:
            return [(path.replace(f"{{{word}}}", item["name"]), {word: item}) for item in items]
    return [(path, {})]


def render_tree(
    templar: Any,
    folder: Path,
    variables: dict[str, Any],
    each: dict[str, list[dict[str, Any]]],
    exclude: list[str],
    modes: dict[str, str],
    groups: dict[str, str],
) -> tuple[list[dict[str, str]], str]:
    """Render every ``*.j2`` below a folder.

    :returns: the files (``path``, ``content``, ``mode``, ``group`` where it is not root) by path, and the tree's hash,
        which replaces ``{{ config_tree_hash }}`` in the contents.
    """
    files = []
    for template in sorted(folder.rglob("*.j2")):
        for path, item in expand(f"/{template.relative_to(folder).with_suffix('')}", each):
            if any(fnmatch(path, pattern) for pattern in exclude):
                continue
            content = render(templar, template, {**variables, **item, HASH_VARIABLE: HASH_PLACEHOLDER})
            file = {"path": path, "content": content, "mode": _first(modes, path) or "0644"}
            files.append(file | ({"group": group} if (group := _first(groups, path)) else {}))
    tree = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12]
    return [{**file, "content": file["content"].replace(HASH_PLACEHOLDER, tree)} for file in files], tree


def _first(by_pattern: dict[str, str], path: str) -> str:
    return next((value for pattern, value in by_pattern.items() if fnmatch(path, pattern)), "")
