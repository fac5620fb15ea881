"""Playbooks and plugins: they parse for every example inventory, and document themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
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


@pytest.mark.parametrize(
    "inventory",
    ["inventories/lab", "inventories/local", "lab/single", "bench/inventory", "bench/fleet", "bench/scale/3.yml"],
)
def test_preflight_accepts_the_inventories_of_this_repository(run, inventory: str) -> None:
    unasked = json.dumps({"__preflight_claims": False})
    done = run("ansible-playbook", "playbooks/preflight.yml", "-i", inventory, "-e", unasked)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("balancers", [{}, {"lb": {"ansible_host": "10.0.0.2"}}], ids=["alone", "behind a balancer"])
def test_preflight_knows_which_app_servers_are_behind_balancers(run, tmp_path: Path, balancers: dict) -> None:
    app = {"ansible_host": "10.0.0.1", "flask_apps": {}, "nginx_https_port": 80}
    certificates = {"lan": {"certificate": "/lan.pem", "key": "/lan.key"}}
    groups = {"app_servers": {"hosts": {"app": app}}, "load_balancers": {"hosts": balancers}}
    groups["all"] = {"vars": {"nginx_certificates": certificates}}
    (tmp_path / "hosts.json").write_text(json.dumps(groups))
    unasked = json.dumps({"__preflight_claims": False})
    done = run("ansible-playbook", "playbooks/preflight.yml", "-i", f"{tmp_path}/hosts.json", "-e", unasked)
    assert ("nginx_https_port: 80 is also nginx_http_port" in done.stdout) == (not balancers)
    assert done.returncode == (0 if balancers else 2), done.stdout


@pytest.mark.parametrize("needs_sources", [True, False])
def test_preflight_of_a_run_without_need_of_sources_fetches_none(run, tmp_path: Path, needs_sources: bool) -> None:
    blog = {"source": {"path": "/no/such/folder"}, "wsgi": "blog:app", "server_names": ["blog"]}
    (tmp_path / "hosts.json").write_text(
        json.dumps({"app_servers": {"hosts": {"one": {}}, "vars": {"flask_apps": {"blog": blog}}}})
    )
    variables = json.dumps({"__preflight_claims": False, "__preflight_sources": needs_sources})
    done = run("ansible-playbook", "playbooks/preflight.yml", "-i", f"{tmp_path}/hosts.json", "-e", variables)
    assert ("/no/such/folder" in done.stdout) == needs_sources
    assert done.returncode == (2 if needs_sources else 0), done.stdout


@pytest.mark.parametrize("playbook", ["rollback", "restart", "status"])
def test_what_switches_to_a_release_on_disk_or_only_looks_needs_no_source(playbook: str) -> None:
    first = yaml.safe_load((PROJECT / f"playbooks/{playbook}.yml").read_text())[0]
    assert first["vars"]["__preflight_sources"] is False


@pytest.mark.parametrize("path", LAB, ids=lambda path: str(path.relative_to(PROJECT)))
def test_mode_of_a_file_in_a_container_is_octal(path: Path) -> None:
    text = path.read_text()
    assert text.count("docker_container_copy_into:") == text.count("mode_parse: octal_string_only")


# Only the checks of a playbook run, and no host is asked.
NOT_ASKED = ("--tags", "always")


# The first three are parts of site.yml. The last one asks for `app` before it imports site.yml.
LATER = {f"playbooks/{name}.yml" for name in ("app_servers", "load_balancers", "certificates", "remove_app")}


@pytest.mark.parametrize("playbook", sorted({*PLAYBOOKS} - LATER))
def test_every_playbook_checks_the_command_first(playbook: str) -> None:
    first = yaml.safe_load((PROJECT / playbook).read_text())[0]
    while "ansible.builtin.import_playbook" in first:
        path = (PROJECT / playbook).parent / first["ansible.builtin.import_playbook"]
        playbook, first = str(path.relative_to(PROJECT)), yaml.safe_load(path.read_text())[0]
    assert playbook == "playbooks/preflight_command.yml"


@pytest.mark.parametrize("playbook", ["unlock", "deploy", "remove_app"])
@pytest.mark.parametrize("sources", [["-i", "inventories/prdo"], ["-i", "/dev/null"]])
def test_an_inventory_without_hosts_is_refused(run, playbook: str, sources: list[str]) -> None:
    done = run("ansible-playbook", f"playbooks/{playbook}.yml", *sources, *NOT_ASKED)
    assert re.search(rf"inventory: '\S*{sources[1]}' .*; name yours, like -i inventories/prod", done.stdout)
    assert done.returncode == 2


@pytest.mark.parametrize("limit", [[], ["--limit", "app2"]])
def test_a_misspelt_extra_variable_is_refused(run, limit: list[str]) -> None:
    done = run(
        "ansible-playbook", "playbooks/unlock.yml", "-i", "inventories/prod", "-e", "ap=hello", *NOT_ASKED, *limit
    )
    assert "- ap: no playbook and no inventory reads this variable; did you mean app?" in done.stdout
    assert "PLAY [Unlock]" not in done.stdout
    assert done.returncode == 2


def test_an_extra_variable_that_the_inventory_reads_is_the_users_own(run, tmp_path: Path) -> None:
    hosts = {"one": {"base_packages": ["{{ apps }}"]}}
    (tmp_path / "hosts.json").write_text(json.dumps({"app_servers": {"hosts": hosts}}))
    command = ("ansible-playbook", "playbooks/preflight_command.yml", "-i", f"{tmp_path}/hosts.json")
    assert run(*command, "-e", "apps=htop", "-e", "my_color=red").returncode == 0
    assert run(*command, "-e", "hosts=one").returncode == 2


@pytest.mark.parametrize(
    ("extra", "hosts", "is_refused"),
    [
        ({}, {"app_servers": ["one"]}, True),
        ({"force": True}, {"app_servers": ["one"]}, False),
        ({"host_is_off": True}, {"app_servers": ["one"]}, False),
        ({}, {"app_servers": ["one", "two"]}, False),
        ({}, {"app_servers": ["one"], "load_balancers": ["three"]}, False),  # the drain refuses it
    ],
)
def test_the_only_app_server_is_not_removed(
    run, tmp_path: Path, extra: dict[str, bool], hosts: dict[str, list[str]], is_refused: bool
) -> None:
    groups = {group: {"hosts": dict.fromkeys(names)} for group, names in hosts.items()}
    (tmp_path / "hosts.json").write_text(json.dumps(groups))
    command = ("ansible-playbook", "playbooks/remove_host.yml", "-i", f"{tmp_path}/hosts.json", *NOT_ASKED)
    done = run(*command, "-e", json.dumps({"host": "one", **extra}))
    assert ("one is the only app server, and clients would lose its apps" in done.stdout) == is_refused
    assert done.returncode == (2 if is_refused else 0), done.stdout
