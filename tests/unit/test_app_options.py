"""An option of an app is declared once: in a copy of the project with one more, nothing else is edited."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugin_utils import entries, preflight, release_inputs, variable_checks
from plugin_utils.entries import app_options, complete
from plugin_utils.rendering import PROJECT
from plugin_utils.requirements import Required
from plugin_utils.variable_checks import Validator

IMPORTS = preflight.role_imports(PROJECT / "playbooks/app_servers.yml")
LINES = """\
reload_seconds:
  type: int
  default: 60
  schema: {minimum: 10, maximum: 600, description: use 10 to 600 seconds}
  description: How long a reload may take.
"""
SPEC_KEYS = {
    "type", "elements", "choices", "default", "required", "no_log", "description", "options",
    "schema", "values", "part_of",
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the roles, from which options are read."""
    shutil.copytree(PROJECT / "roles", tmp_path / "roles")
    for folder in ("docs", "tools"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    caches = (entries.app_options, entries.role_options, variable_checks.constraints)
    for module in (entries, variable_checks):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setattr(release_inputs, "CACHE", tmp_path / "cache")
    for function in caches:
        function.cache_clear()
    yield tmp_path
    for function in caches:
        function.cache_clear()


@pytest.fixture
def declare(project: Path) -> Callable[[str], None]:
    """A function that adds lines to the file that declares the options."""

    def add(lines: str) -> None:
        with (project / "roles/flask_app/meta/app_options.yml").open("a") as file:
            file.write(lines)

    return add


def blog(**given: Any) -> dict[str, Any]:
    entry = {"source": {"path": "/home/me/blog"}, "wsgi": "blog:app", "server_names": ["blog.example"], **given}
    return {"blog": entry}


def inputs(**given: Any) -> dict[str, Any]:
    entry = complete(blog(**given))["blog"]
    return release_inputs.release_inputs(entry, "1a", Required("flask\n"), [], {})


def problems(**given: Any) -> list[str]:
    """What preflight says of the variables by themselves. The source is not looked at."""
    variables = {"flask_apps": blog(source={}, **given)}
    found = [str(one) for one in preflight.check_host(IMPORTS, set(variables), variables.__getitem__)]
    return [one for one in found if "source" not in one]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"reload_seconds": 20}, []),
        ({"reload_seconds": 5}, ["flask_apps.blog.reload_seconds: 5 use 10 to 600 seconds"]),
        (
            {"reload_seconds": "long"},
            ["flask_apps.blog.reload_seconds: 'long' must be an integer. How long a reload may take."],
        ),
        (
            {"reload_second": 20},
            ["flask_apps.blog.reload_second: there is no such option; did you mean reload_seconds?"],
        ),
    ],
)
def test_preflight_checks_it(declare: Callable[[str], None], given: dict[str, Any], words: list[str]) -> None:
    declare(LINES)
    assert problems(**given) == words


def test_an_entry_has_its_default(declare: Callable[[str], None]) -> None:
    declare(LINES)
    assert complete(blog())["blog"]["reload_seconds"] == 60


def test_a_release_is_made_from_it(declare: Callable[[str], None]) -> None:
    declare(LINES)
    assert inputs(reload_seconds=20)["entry"]["reload_seconds"] == 20


def test_a_release_is_not_made_from_what_is_part_of_something_else(declare: Callable[[str], None]) -> None:
    before = inputs()
    declare(f"{LINES}  part_of: nginx\n")
    entries.app_options.cache_clear()
    assert inputs(reload_seconds=20) == before


def test_the_readme_has_a_row_of_it(declare: Callable[[str], None], project: Path) -> None:
    declare(LINES)
    tool = [sys.executable, project / "tools/role_readmes.py"]
    assert subprocess.run([*tool, "--check"], capture_output=True, check=False).returncode == 1
    subprocess.run(tool, capture_output=True, check=True)
    row = "| `reload_seconds` | int, 10 to 600 | `60` | How long a reload may take. |"
    assert row in (project / "roles/flask_app/README.md").read_text().splitlines()


def test_what_stands_within_values_is_checked_by_its_path(declare: Callable[[str], None]) -> None:
    nested = "\n".join(f"    {line}" for line in LINES.splitlines())
    declare(f"queues:\n  type: dict\n  default: {{}}\n  description: Queues.\n  values:\n{nested}\n")
    assert problems(queues={"mail": {"reload_seconds": 5}, "video": []}) == [
        "flask_apps.blog.queues.video: must be a mapping of options",
        "flask_apps.blog.queues.mail.reload_seconds: 5 use 10 to 600 seconds",
    ]
    assert complete(blog(queues={"mail": {}}))["blog"]["queues"] == {"mail": {"reload_seconds": 60}}


# the file itself


def declared(options: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All options by their paths."""
    for name, spec in options.items():
        yield f"{path}{name}", spec
        yield from declared({**spec.get("options", {}), **spec.get("values", {})}, f"{path}{name}.")


@pytest.mark.parametrize(("path", "spec"), [*declared(app_options())])
def test_an_option_is_declared_in_known_words(path: str, spec: dict[str, Any]) -> None:
    assert spec.keys() <= SPEC_KEYS
    assert spec["type"]
    assert spec["description"]
    Validator.check_schema(spec.get("schema", {}))
    if "." in path:
        assert "part_of" not in spec  # an option is part of something as a whole
    assert spec.get("part_of", "release") in {"release", "release_hash", "rollout", "host", "nginx"}
