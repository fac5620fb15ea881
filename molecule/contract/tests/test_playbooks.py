"""Playbooks and plugins: they parse for every example inventory, and document themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import PROJECT

INVENTORIES = sorted(path.parent.name for path in PROJECT.glob("inventories/*/hosts.yml"))
PLAYBOOKS = ["site.yml", *sorted(str(path.relative_to(PROJECT)) for path in PROJECT.glob("playbooks/*.yml"))]
MODULES = sorted(path.stem for path in PROJECT.glob("plugins/modules/*.py"))
ROLES = sorted(path.parent.parent.name for path in PROJECT.glob("roles/*/meta/argument_specs.yml"))


def test_inventories_are_found() -> None:
    assert {"lab", "local", "prod"} <= set(INVENTORIES)


@pytest.mark.parametrize("inventory", INVENTORIES)
@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_syntax(run, playbook: str, inventory: str) -> None:
    builders = ["-i", "lab/builders"] if playbook == "playbooks/bundle.yml" else []
    done = run("ansible-playbook", "--syntax-check", playbook, "-i", f"inventories/{inventory}", *builders)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


@pytest.mark.parametrize("inventory", INVENTORIES)
@pytest.mark.parametrize("role", ROLES)
def test_site_has_tasks_of_every_role(run, role: str, inventory: str) -> None:
    done = run("ansible-playbook", "--list-tasks", "site.yml", "-i", f"inventories/{inventory}", "--tags", role)
    assert done.returncode == 0, done.stderr
    assert f"{role} : " in done.stdout


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_inventory_has_app_servers(run, inventory: str) -> None:
    done = run("ansible-inventory", "--list", "-i", f"inventories/{inventory}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["app_servers"]["hosts"]


def test_modules_are_found() -> None:
    assert {"app_release", "config_tree"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_module_documents_itself(run, name: str) -> None:
    done = run("ansible-doc", "--type", "module", "--json", name)
    assert done.returncode == 0, done.stderr
    doc = json.loads(done.stdout)[name]
    assert doc["doc"]["short_description"]
    assert doc["examples"]
    assert "\nRETURN = " in (PROJECT / f"plugins/modules/{name}.py").read_text()


@pytest.mark.parametrize("name", ROLES)
def test_role_documents_itself(run, name: str) -> None:
    done = run("ansible-doc", "--type", "role", "--roles-path", "roles", "--json", name)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[name]["entry_points"]["main"]["options"]


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
