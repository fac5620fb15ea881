"""Code of an app and of its requirements never runs as root. Each piece records the user that runs it."""

from __future__ import annotations

import pytest
from conftest import NAMES, ask, host

SPIES = {
    "setup": "_flaskfleet_",  # setup.py
    "backend": "_flaskfleet_",
    "pth": "mallory",
    "sitecustomize": "",  # the distribution's own comes first, as by hand
    "module": "mallory",
    "command": "mallory",  # an entry point
}
both = pytest.mark.parametrize("name", NAMES)


def owners(name: str, kind: str) -> set[str]:
    """Who has run a piece of code."""
    find = f"find /var/tmp -name 'flaskfleet-spy-{kind}-*' -printf '%u\\n'"
    return set(host(name).check_output(find).splitlines())


@pytest.fixture(scope="module", autouse=True)
def commands() -> None:
    """Root runs a command of the app, as its README says."""
    for name in NAMES:
        host(name).check_output("/srv/mallory/current/exec flaskfleet-spy")


@both
@pytest.mark.parametrize("kind", SPIES)
def test_code_runs_as_the_app_or_in_a_sandbox(name: str, kind: str) -> None:
    found = owners(name, kind)
    assert any(owner.startswith(SPIES[kind]) for owner in found) or not SPIES[kind]
    assert {owner for owner in found if owner != "mallory" and not owner.startswith("_flaskfleet_")} == set()


@both
def test_router_is_the_apps(name: str) -> None:
    """It begins as root."""
    rows = host(name).check_output("ps -ww -eo user:32=,args=").splitlines()
    assert {row.split()[0] for row in rows if "mallory http router" in row or "uwsgi mallory" in row} == {"mallory"}
    assert ask(name, "/healthz", "mallory", 8080) == "200 ok"
