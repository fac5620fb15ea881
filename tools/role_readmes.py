#!/usr/bin/env python3
"""Write the tables of roles/*/README.md from what meta declares, and that of docs/state-on-hosts.md from these READMEs.

With --check only name the stale ones.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"
STATE = ROLES.parent / "docs" / "state-on-hosts.md"
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
    """A default as it is written in an inventory."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def prose(description: str | list[str]) -> str:
    """ansible-doc's markup as Markdown: C(x) is `x`."""
    text = " ".join([description] if isinstance(description, str) else description)
    return re.sub(r"C\(((?:[^()]|\([^()]*\))*)\)", r"`\1`", text).replace("|", r"\|").strip()


def generated(readme: Path) -> str:
    """A role's README with its tables up to date."""
    declared = tables(readme.parent / "meta")

    def table(match: re.Match[str]) -> str:
        head = "| variable | type | default | what it is |\n|---|---|---|---|"
        return "\n".join([f"{match[1]}{head}", *rows(declared[match[2]]), match[3]])

    return MARKED.sub(table, readme.read_text())


def files(role: Path) -> Iterator[str]:
    """A row for each file that a role renders, in the words of its README."""
    templates = (path.relative_to(role / "templates").with_suffix("") for path in role.rglob("templates/**/*.j2"))
    rendered = {re.sub(r"\{(\w+)\}", r"<\1>", f"/{path}") for path in templates}
    for path, what in re.findall(r"^\| `(/[^`]+)` \| (.+) \|$", (role / "README.md").read_text(), re.MULTILINE):
        if path in rendered:
            yield f"| `{path}` | {what} | [{role.name}](../roles/{role.name}/README.md) |"


def with_files(page: Path) -> str:
    """A page with the table of all roles' files as it should be."""
    table = ["<!-- files -->", "| path | what | role |", "|---|---|---|"]
    table += [row for readme in sorted(ROLES.glob("*/README.md")) for row in files(readme.parent)]
    before, _, after = page.read_text().partition("<!-- files -->")
    return before + "\n".join(table) + "\n<!-- end -->" + after.partition("<!-- end -->")[2]


def main() -> int:
    """Write what is stale, or say it; the exit code is 1 where --check finds something."""
    pages = {readme: generated(readme) for readme in sorted(ROLES.glob("*/README.md"))} | {STATE: with_files(STATE)}
    stale = {page: text for page, text in pages.items() if text != page.read_text()}
    for page, text in stale.items():
        print(f"{page.relative_to(ROLES.parent)}: a table is stale; run make readmes")
        if "--check" not in sys.argv:
            page.write_text(text)
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
