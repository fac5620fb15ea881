"""Playbooks and plugins: they parse for every example inventory, and document themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import PROJECT

INVENTORIES = sorted(path.parent.name for path in PROJECT.glob("inventories/*/hosts.yml"))
PLAYBOOKS = ["site.yml", *sorted(str(path.relative_to(PROJECT)) for path in PROJECT.glob("playbooks/*.yml"))]
MODULES = sorted(path.stem for path in PROJECT.glob("plugins/modules/*.py"))
LAB = sorted([*PROJECT.glob("lab/*.yml"), *PROJECT.glob("molecule/**/*.yml")])
ROLES = sorted(path.parent.parent.name for path in PROJECT.glob("roles/*/meta/argument_specs.yml"))


def test_inventories_are_found() -> None:
    assert {"lab", "local", "prod"} <= set(INVENTORIES)


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_syntax(run, inventory: str) -> None:
    sources = ["-i", f"inventories/{inventory}", "-i", "lab/builders"]  # where bundle.yml finds its hosts
    done = run("ansible-playbook", "--syntax-check", *PLAYBOOKS, *sources)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert [line.removeprefix("playbook: ") for line in done.stdout.split("\n") if line] == PLAYBOOKS


def test_site_has_tasks_of_every_role_under_its_tag(run) -> None:
    done = run("ansible-playbook", "--list-tasks", "site.yml", "-i", "inventories/prod")
    assert done.returncode == 0, done.stderr
    tagged = set(re.findall(r"^ +(\w+) : .*TAGS: \[(.*)\]$", done.stdout, re.MULTILINE))
    assert {role for role, tags in tagged if role in tags.split(", ")} == set(ROLES)


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_inventory_has_app_servers(run, inventory: str) -> None:
    done = run("ansible-inventory", "--list", "-i", f"inventories/{inventory}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["app_servers"]["hosts"]


def test_modules_are_found() -> None:
    assert {"app_release", "config_tree"} <= set(MODULES)


def test_modules_document_themselves(run) -> None:
    done = run("ansible-doc", "--type", "module", "--json", *MODULES)
    assert done.returncode == 0, done.stderr
    docs = json.loads(done.stdout)
    assert {name for name, doc in docs.items() if doc["doc"]["short_description"] and doc["examples"]} == set(MODULES)
    files = [PROJECT / f"plugins/modules/{name}.py" for name in MODULES]
    assert [path.name for path in files if "\nRETURN = " not in path.read_text()] == []


def test_roles_document_themselves(run) -> None:
    done = run("ansible-doc", "--type", "role", "--roles-path", "roles", "--json", *ROLES)
    assert done.returncode == 0, done.stderr
    docs = json.loads(done.stdout)
    assert {name for name, doc in docs.items() if doc["entry_points"]["main"]["options"]} == set(ROLES)


@pytest.mark.parametrize(
    ("package", "words"),
    [("htop", ""), ("ht\nop", "base_packages[0]: 'ht\\nop' has a line break")],
)
def test_preflight_follows_a_variable_to_another_host(run, tmp_path: Path, package: str, words: str) -> None:
    hosts = {"one": {"base_packages": ["{{ hostvars['two']['package'] }}"]}, "two": {"package": package}}
    (tmp_path / "hosts.json").write_text(json.dumps({"app_servers": {"hosts": hosts, "vars": {"flask_apps": {}}}}))
    unasked = json.dumps({"__preflight_claims": False})
    done = run("ansible-playbook", "playbooks/preflight.yml", "-i", f"{tmp_path}/hosts.json", "-e", unasked)
    assert words in done.stdout + done.stderr
    assert done.returncode == (2 if words else 0), done.stdout


@pytest.mark.parametrize("path", LAB, ids=lambda path: str(path.relative_to(PROJECT)))
def test_mode_of_a_file_in_a_container_is_octal(path: Path) -> None:
    text = path.read_text()
    assert text.count("docker_container_copy_into:") == text.count("mode_parse: octal_string_only")
