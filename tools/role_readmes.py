#!/usr/bin/env python3
"""Write the tables of variables in roles/*/README.md from argument_specs; with --check only say which are stale."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"
MARKED = re.compile(r"(<!-- variables: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rows(options: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A row for each option, nested ones behind their parent's name."""
    for name, spec in options.items():
        default = "required" if spec.get("required") else f"`{yaml_flow(spec.get('default'))}`"
        yield f"| `{prefix}{name}` | {kind(spec)} | {default} | {prose(spec['description'])} |"
        yield from rows(spec.get("options", {}), f"{prefix}{name}{'[]' if spec['type'] == 'list' else ''}.")
        yield from rows(spec.get("values", {}), f"{prefix}{name}.<name>.")


def kind(spec: dict[str, Any]) -> str:
    """The type of an option's value, and its range."""
    schema = spec.get("schema", {})
    limits = f", {schema['minimum']} to {schema['maximum']}" if {"minimum", "maximum"} <= schema.keys() else ""
    return f"list of {spec['elements']}" if "elements" in spec else f"{spec['type']}{limits}"


def tables(meta: Path) -> dict[str, dict[str, Any]]:
    """The options that a role declares, by the name of the table that shows them."""
    specs = yaml.safe_load((meta / "argument_specs.yml").read_text())["argument_specs"]
    options = specs["main"]["options"]
    if (meta / "constraints.yml").exists():
        for name, schema in yaml.safe_load((meta / "constraints.yml").read_text())["properties"].items():
            options[name]["schema"] = schema
    return {"main": options} | {path.stem: yaml.safe_load(path.read_text()) for path in meta.glob("*_options.yml")}


def yaml_flow(value: Any) -> str:
    """A default as one would write it in an inventory."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def prose(description: str | list[str]) -> str:
    """ansible-doc's markup as Markdown: C(x) is `x`."""
    text = " ".join([description] if isinstance(description, str) else description)
    return re.sub(r"C\(((?:[^()]|\(\))*)\)", r"`\1`", text).replace("|", r"\|").strip()


def generated(readme: Path) -> str:
    """A role's README with its tables as they should be."""
    declared = tables(readme.parent / "meta")

    def table(match: re.Match[str]) -> str:
        head = "| variable | type | default | what it is |\n|---|---|---|---|"
        return "\n".join([f"{match[1]}{head}", *rows(declared[match[2]]), match[3]])

    return MARKED.sub(table, readme.read_text())


def main() -> int:
    """Write what is stale, or say it; the exit code is 1 where --check finds something."""
    stale = [readme for readme in sorted(ROLES.glob("*/README.md")) if generated(readme) != readme.read_text()]
    for readme in stale:
        print(f"{readme.relative_to(ROLES.parent)}: the table of variables is stale; run make readmes")
        if "--check" not in sys.argv:
            readme.write_text(generated(readme))
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
