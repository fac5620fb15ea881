"""Roles: specs, defaults and READMEs agree, and templates have the ansible_managed header."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from conftest import PROJECT

ROLES = sorted(path.parent.parent for path in PROJECT.glob("roles/*/tasks/main.yml"))
TEMPLATES = sorted(PROJECT.glob("roles/**/*.j2"))
TASKS = sorted([*PROJECT.glob("roles/*/*/*.yml"), *PROJECT.glob("playbooks/**/*.yml"), PROJECT / "site.yml"])

every_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def specs(role: Path) -> dict[str, Any]:
    """A role's options by entry point."""
    entry_points = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    return {name: point["options"] for name, point in entry_points.items()}


def defaults(role: Path) -> dict[str, Any]:
    """A role's defaults as they are written."""
    return yaml.safe_load((role / "defaults/main.yml").read_text())


def test_roles_are_found() -> None:
    assert {"base", "flask_app", "nginx", "python", "supervisor", "uwsgi"} <= {role.name for role in ROLES}


@every_role
def test_specs_and_defaults_are_equal(role: Path) -> None:
    specified = {name: option["default"] for name, option in specs(role)["main"].items() if not option.get("required")}
    assert specified == defaults(role)


@every_role
def test_default_has_the_type_of_its_spec(role: Path) -> None:
    kinds = {"str": str, "path": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}
    wrong = [
        name for name, value in defaults(role).items() if type(value) is not kinds[specs(role)["main"][name]["type"]]
    ]
    assert wrong == []


@every_role
def test_default_has_a_comment(role: Path) -> None:
    lines = (role / "defaults/main.yml").read_text().splitlines()
    bare = []
    for number, line in enumerate(lines):
        above = number - 1
        # Variables that belong together share a comment; what is indented belongs to the value above it.
        while re.match(r"[a-z _-]", lines[above]) and lines[above] != "---":
            above -= 1
        if re.match("[a-z]", line) and not lines[above].startswith("# "):
            bare.append(line)
    assert bare == []


@every_role
def test_option_is_described(role: Path) -> None:
    options = {name: option for point in specs(role).values() for name, option in point.items()}
    assert [name for name, option in options.items() if not option.get("description") or "type" not in option] == []


@every_role
def test_variable_bears_the_roles_name(role: Path) -> None:
    allowed = {"flask_apps"}  # what the whole project is about
    assert [name for name in defaults(role) if not name.startswith(f"{role.name}_") and name not in allowed] == []


@every_role
def test_derived_variable_is_private(role: Path) -> None:
    files = role.glob("vars/*.yml")
    derived = [name for path in files for name in yaml.safe_load(path.read_text())]
    assert [name for name in derived if not name.startswith(f"__{role.name}_")] == []


@every_role
def test_readme_has_every_variable(role: Path) -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", (role / "README.md").read_text(), re.MULTILINE)
    assert set(specs(role)["main"]) <= set(rows)


def test_tables_of_readmes_are_fresh(run) -> None:
    done = run("python3", "tools/role_readmes.py", "--check")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(PROJECT / "roles")))
def test_template_has_the_ansible_managed_header(template: Path) -> None:
    first, second = template.read_text().splitlines()[:2]
    header = second if first.startswith("#!") else first
    # Where there is none, the first line says why.
    assert header.startswith("{{ ansible_managed | comment") or re.fullmatch(r"\{# .+ #\}", header)


@pytest.mark.parametrize("path", TASKS, ids=lambda path: str(path.relative_to(PROJECT)))
@pytest.mark.parametrize("module", ["lineinfile", "blockinfile", "replace"])
def test_files_are_written_whole(path: Path, module: str) -> None:
    assert not re.search(rf"^\s*(- )?(ansible\.builtin\.)?{module}:", path.read_text(), re.MULTILINE)


def tasks(role: Path) -> list[dict[str, Any]]:
    """A role's tasks."""
    return [task for path in sorted(role.glob("tasks/*.yml")) for task in yaml.safe_load(path.read_text()) or []]


@every_role
def test_a_service_that_is_started_is_told_to_the_tree_that_it_reads(role: Path) -> None:
    """So status.yml reports it where it does not run."""
    services = [task["ansible.builtin.service"] for task in tasks(role) if "ansible.builtin.service" in task]
    told = {task["config_tree"].get("service") for task in tasks(role) if "config_tree" in task}
    assert {service["name"] for service in services if service["state"] == "started"} <= told


@every_role
def test_no_handler_of_its_own_records_a_tree_as_applied(role: Path) -> None:
    """If a handler fails, the others still run at the end of the play (force_handlers)."""
    path = role / "handlers/main.yml"
    handlers = yaml.safe_load(path.read_text()) if path.exists() else []
    assert [task["name"] for task in handlers if task.get("config_tree", {}).get("running") == "handlers"] == []


@pytest.mark.parametrize(
    ("distribution", "library"),
    [("Debian 12", "libpython3.11"), ("Debian 13", "libpython3.13"), ("Ubuntu 24", "libpython3.12")],
)
def test_uwsgi_has_the_library_of_the_distributions_python_whichever_runs_ansible(
    distribution: str, library: str
) -> None:
    name, version = distribution.split()
    python = {"version": {"minor": 14}}
    facts = {"distribution": name, "distribution_major_version": version, "python": python}
    variables = yaml.safe_load((PROJECT / "roles/uwsgi/vars/main.yml").read_text())
    templar = Templar(DataLoader()).copy_with_new_env(
        available_variables={
            "ansible_facts": facts,
            "__uwsgi_python_minor": variables["__uwsgi_python_minor"],
        }
    )
    assert templar.template(trust_as_template(variables["__uwsgi_libpython"])) == library
